"""Proves that any number of attributes condition a network: told, hidden for guidance, and known without the data."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.trainer.exchange.models import trained
from trainer.data import Batches, Codec, Digits, Resident
from trainer.distributed import World
from trainer.errors import DataError, UserError
from trainer.exchange.sampling import Wanted, draw
from trainer.inputs import Batch, Tags, bound, keep, kept
from trainer.record import Record
from trainer.trained import Trained
from trainer.training import Training
from trainer.trial import TrialSpec


@dataclass(frozen=True)
class Tagged(Resident):
    """Digits with tags: whether the label is odd, above four, a multiple of three."""

    def tags_of(self, rows: Tensor) -> Tensor:
        label = self.labels_of(rows)
        assert label is not None
        return torch.stack([label % 2 == 1, label > 4, label % 3 == 0], 1)

    @classmethod
    def digits(cls) -> "Tagged":
        source = Digits().load(Path())
        assert isinstance(source, Resident)
        codec = replace(source.codec, tags=("odd", "large", "threefold"))
        return cls(codec, source.examples, source.labels, "tagged")


DATA = Tagged.digits()


def batch(first: int, count: int) -> Batch:
    batches = Batches(DATA, seed=1)
    return Batch.of(batches, batches.draw(first, count), seed=1)


def trial(guided: bool = True, **values: Any) -> TrialSpec:
    full: dict[str, Any] = {"images": 4, "steps": 2}
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": {"kind": "unet", "channels": [8], "groups": 4},
            "inputs": [{"kind": "tags", "count": 3, **values}],
            "train": {"kimg": 0.04, "batch_size": 20},
            "evaluation": {
                "features": {"kind": "pixels"},
                "full": full | ({"guidance": {"scale": 1.0}} if guided else {}),
            },
        }
    )


def test_tags_are_signs_and_hidden_at_the_stated_rate() -> None:
    seen = batch(0, 3000)
    plain = Tags(count=3).trained(seen)["vector"]
    tags = DATA.tags_of(Batches(DATA, seed=1).rows(0, 3000))
    assert torch.equal(plain > 0, tags)
    assert plain.abs().unique().tolist() == [1.0]
    dropped = Tags(count=3, dropout=0.2).trained(seen)["vector"]
    hidden = (dropped == 0).all(1)
    # standard error of a share at 3000 draws is 0.0073
    assert float(hidden.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert torch.equal(dropped[~hidden], plain[~hidden])
    assert not Tags(count=3).hidden({"vector": plain})["vector"].any()
    parts = [
        Tags(count=3, dropout=0.2).trained(batch(i, 500))["vector"] for i in range(0, 3000, 500)
    ]
    assert torch.equal(torch.cat(parts), dropped)


def test_samples_have_the_tags_of_rows_with_and_without_the_data() -> None:
    numbers = torch.tensor([0, 5, 1797, 1800])
    here = Tags(count=3).live(DATA).generated(DATA.codec, numbers, 0)["vector"]
    assert torch.equal(here, 2.0 * DATA.tags_of(numbers % 1797).float() - 1.0)
    state = keep([Tags(count=3)], DATA)
    assert state is not None
    assert state["first"] is None
    source = kept(state, DATA.codec, "tagged", torch.device("cpu"))
    assert torch.equal(Tags(count=3).live(source).generated(DATA.codec, numbers, 0)["vector"], here)
    with pytest.raises(DataError, match="keeps the first 0 of them"):
        source.read(numbers)
    with pytest.raises(DataError, match="the data set is not here"):
        Tags(count=3).generated(DATA.codec, numbers, 0)


def test_the_likelihood_of_an_example_is_told_its_own_tags() -> None:
    rows = torch.tensor([3, 0, 8])
    told = Tags(count=3, dropout=1.0).known(DATA, rows, 0)["vector"]
    assert told.equal(2.0 * DATA.tags_of(rows).float() - 1.0)


def test_a_codec_with_tags_goes_with_a_checkpoint() -> None:
    codec = Codec.from_state(DATA.codec.to_state())
    assert codec == DATA.codec
    old = DATA.codec.to_state()
    del old["tags"]
    assert Codec.from_state(old).tags is None


def test_a_training_is_told_them_and_generates_guided() -> None:
    training = Training(trial(dropout=0.1), DATA, World(0, 1))
    told: list[Any] = []
    training.learner.register_forward_pre_hook(lambda _, given: told.append(given[2]))
    training.step()
    assert torch.equal(told[0]["vector"], Tags(count=3, dropout=0.1).trained(
        Batch.of(Batches(DATA, 0), Batches(DATA, 0).draw(0, 20), 0))["vector"])  # fmt: skip
    assert training.state()["kept"]["first_tags"].shape == (1797, 3)


def test_what_the_data_cannot_give_is_refused() -> None:
    with pytest.raises(UserError, match="inputs: tags: the data has no tags"):
        Training(trial(guided=False), Digits().load(Path()), World(0, 1))
    with pytest.raises(UserError, match=r"tags\.count: 5, but the data has 3"):
        Training(trial(guided=False, count=5), DATA, World(0, 1))
    with pytest.raises(
        ValidationError,
        match=r"full\.guidance: .* not told its tags, which is never trained at inputs: tags\.dropout: 0",
    ):
        trial()


# Samples of a trained model


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tagged"
    return trained(trial(guided=False, dropout=0.1), folder, source=DATA)


@pytest.fixture(scope="module")
def model(directory: Path) -> Trained:
    return Trained.load(directory, "cpu")


def test_samples_have_the_tags_that_are_asked_for(model: Trained) -> None:
    """By name or number, together, and no others; guided by the formula, against the network that is not told."""
    ask = model.ask(tags=["threefold", "ODD", 2], guidance=2.0)
    assert ask.tags == (0, 2)
    way = model.way(ask, torch.arange(4))
    level, condition = torch.tensor(0.3, dtype=torch.float64), torch.tensor([1.0, -1.0, 1.0])

    def denoised(vector: Tensor) -> Tensor:
        network = bound(model.network, {"vector": vector.expand(4, 3)})
        return model.diffusion.denoiser(network, clip=True)(way.start, level)

    with torch.inference_mode():
        told, untold = denoised(condition), denoised(torch.zeros(3))
        guided = way.denoise(way.start, level)
    assert float((told - untold).abs().max()) > 1e-3, "they matter"
    # float32 sums of numbers up to 3 in size
    torch.testing.assert_close(guided, 3.0 * told - 2.0 * untold, rtol=0.0, atol=1e-5)
    assert model.ask(tags=[]).tags == (), "none of them is a choice, too"
    assert model.ask().tags is None
    given = model.sample(3, tags="odd")
    assert torch.equal(given, model.sample(3, tags=0, guidance=0.0))
    assert not torch.equal(given, model.sample(3))


def test_evaluation_may_be_guided_by_tags(model: Trained) -> None:
    """With the tags of the data's rows, as without guidance."""
    spec = trial(dropout=0.1)
    full = spec.evaluation.full
    plain = model.generate(full.model_copy(update={"guidance": None}))
    assert not torch.equal(model.generate(full), plain)
    rows = [int(i) for i in DATA.tags_of(torch.tensor([2]))[0].nonzero()]
    one = model.drawn(model.ask(full, tags=rows), range(2, 3))
    # as many at once as here differ by the rounding of float32 sums
    torch.testing.assert_close(one, model.generate(full)[2:3], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tags": 3}, r"tag 3: the model knows the tags 0 to 2 \(odd, large, threefold\)"),
        ({"tags": "larg"}, "tag larg: is none of the data's, did you mean `large`"),
        ({"labels": 1}, "label 1: this model was trained without labels"),
    ],
)
def test_tags_that_there_are_not(model: Trained, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.ask(**asked)


def test_who_cannot_be_guided_is_told_by_what(model: Trained) -> None:
    never = replace(model, trial=trial(guided=False))
    assert never.ask(tags=1, guidance=0.0)
    with pytest.raises(
        UserError, match=r"its tags, which is never trained at inputs: tags\.dropout"
    ):
        never.ask(tags=1, guidance=1.0)
    labelled = model.trial.model_dump() | {
        "model": model.trial.model.model_dump() | {"classes": 10}
    }
    mixed = replace(model, trial=TrialSpec.model_validate(labelled))
    with pytest.raises(
        UserError, match=r"its label, which is never trained at train\.label_dropout"
    ):
        mixed.ask(tags=1, guidance=1.0)


def test_sample_writes_down_the_tags(directory: Path, tmp_path: Path) -> None:
    wanted = Wanted(n=2, tags=("odd", "1"), guidance=(0.0, 2.0))
    list(draw(Record(directory), wanted, lambda trial: trial, tmp_path / "out", "cpu"))
    story = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert (story["tags"], story["guidance"]) == (["odd", "large"], [0.0, 2.0])
    assert len(list((tmp_path / "out").glob("guidance-*/*.png"))) == 4

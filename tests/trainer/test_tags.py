"""Proves that any number of attributes condition a network: told, hidden for guidance, and known without the data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.data import Batches, Codec, Digits, Resident
from trainer.distributed import World
from trainer.errors import DataError, UserError
from trainer.inputs import Batch, keep, kept
from trainer.inputs.tags import Tags
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
    return Batch(batches, first, batches.get(first, count), seed=1)


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
    tags = DATA.tags_of(seen.batches.rows(0, 3000))
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
        Batch(Batches(DATA, 0), 0, torch.zeros(20), 0))["vector"])  # fmt: skip
    assert training.state()["kept"]["first_tags"].shape == (1797, 3)


def test_what_the_data_cannot_give_is_refused() -> None:
    with pytest.raises(UserError, match="inputs: tags: the data has no tags"):
        Training(trial(guided=False), Digits().load(Path()), World(0, 1))
    with pytest.raises(UserError, match=r"tags\.count: 5, but the data has 3"):
        Training(trial(guided=False, count=5), DATA, World(0, 1))
    with pytest.raises(ValidationError, match="guidance: compares with the network without label"):
        trial()

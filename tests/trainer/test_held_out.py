"""Proves that what training does not see can be the reference, and that its content is in every name it touches."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.data import AnyData, Digits, Gaussians, ImageFolder, Resident, held_out_source
from trainer.data.held_out import in_terms_of
from trainer.diffusion import schedule
from trainer.diffusion.process import Diffusion
from trainer.distributed import World
from trainer.errors import CheckpointError, DataError
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.metric.likelihood import NLL
from trainer.evaluation.protocol import Evaluation
from trainer.exchange.measuring import measure_model
from trainer.inputs import Labels
from trainer.loop import train
from trainer.models import MLP
from trainer.record import Record
from trainer.trained import Trained
from trainer.trial import TrialSpec

ALONE, CPU = World(0, 1), torch.device("cpu")


def evaluation(**values: Any) -> Evaluation:
    full = {"images": 32, "steps": 3}
    plain = {"full": full, "features": {"kind": "pixels"}, "draws": 1}
    return Evaluation.model_validate(plain | values)


def held_out(data: AnyData) -> Any:
    return held_out_source(data, data.load(Path()).codec, Path(), None, CPU)


def evaluator(data: Any, spec: Evaluation, cache: Path, **more: Any) -> Evaluator:
    diffusion = Diffusion(schedule=schedule.Cosine(steps=4))
    test = held_out(data) if spec.looks_at_test else None
    return Evaluator(spec, diffusion, data.load(Path()), cache, held_out=test, **more)


def everything(source: Any) -> torch.Tensor:
    return source.codec.scale(source.read(torch.arange(len(source))))


# What is held out


def test_the_two_splits_of_the_digits_are_all_of_them_and_share_none() -> None:
    whole, seen = Digits().load(Path()), Digits(split="train").load(Path())
    unseen = held_out(Digits(split="train"))
    assert (len(seen), len(unseen)) == (1438, 359)
    rows = torch.arange(1797)
    assert torch.equal(whole.read(rows[4::5]), everything_stored(unseen))
    assert torch.equal(whole.read(rows[rows % 5 != 4]), everything_stored(seen))
    assert len({whole.fingerprint, seen.fingerprint, unseen.fingerprint}) == 3


def everything_stored(source: Any) -> torch.Tensor:
    return source.read(torch.arange(len(source)))


def test_points_have_others_of_the_same_distribution() -> None:
    data = Gaussians(examples=4000, modes=1, radius=0.7, std=0.1)
    seen, unseen = everything(data.load(Path())), everything(held_out(data))
    assert not (seen[:, None] == unseen[:200]).all(-1).any()
    # the mean of 4,000 points of standard deviation .1 is off by .0016: six of them
    assert torch.allclose(seen.mean(0), unseen.mean(0), atol=0.01)
    assert torch.allclose(seen.std(0), unseen.std(0), atol=0.01)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Digits(), "data.split: all leaves no test split: write train"),
        (ImageFolder(path="x"), "data.test: say where images lie that training does not see"),
    ],
)  # fmt: skip
def test_where_there_is_none_the_message_says_how_to_get_one(data: Any, said: str) -> None:
    with pytest.raises(DataError) as error:
        held_out_source(data, Digits().load(Path()).codec, Path(), None, CPU)
    assert str(error.value).startswith(said)
    assert str(error.value).endswith("evaluation.reference: train, and no split: test")


def pictures(folder: Path, classes: dict[str, int], seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for name, count in classes.items():
        for i in range(count):
            target = folder / name / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(target)
    return folder


def test_classes_of_a_folder_are_known_by_their_names(tmp_path: Path) -> None:
    pictures(tmp_path / "seen", {"ant": 2, "bee": 2, "cow": 2})
    data = ImageFolder(path=str(tmp_path / "seen"), test=str(tmp_path / "unseen"), size=8)
    pictures(tmp_path / "unseen", {"bee": 1, "cow": 2}, seed=1)
    assert held_out(data).labels_of(torch.arange(3)).tolist() == [1, 2, 2]
    pictures(tmp_path / "unseen", {"dog": 1})
    with pytest.raises(DataError, match="the class `dog`, which is not trained on"):
        held_out(data)
    (tmp_path / "unseen" / "dog" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^data\.test: .*0\.png"):
        held_out(data)
    shutil.rmtree(tmp_path / "unseen")
    with pytest.raises(DataError, match=r"^data\.test: "):
        held_out(data)


def test_a_test_split_of_another_kind_is_refused() -> None:
    grey = Resident.of(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), levels=255)
    colour = Resident.of(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), levels=255)
    with pytest.raises(DataError, match="the test split is 3 x 8 x 8 in 256 levels, what is "):
        in_terms_of(grey.codec, colour)


# What is measured on it


def test_images_are_compared_with_those_that_training_does_not_see(tmp_path: Path) -> None:
    data = Digits(split="train")
    spec = evaluation(reference="test", metrics=["fid", "kid", {"kind": "fid", "split": "train"}])
    judge = evaluator(data, spec, tmp_path)
    unseen, seen = (
        judge.measure_images(everything(s)) for s in (held_out(data), data.load(Path()))
    )
    # the distance of a set from itself is zero up to the root of float64 rounding, 1e-8 of the trace of some tens
    assert unseen.metrics["eval/fid"] == pytest.approx(0.0, abs=1e-5)
    assert seen.metrics["eval/fid-train"] == pytest.approx(0.0, abs=1e-5)
    assert seen.metrics["eval/fid"] == pytest.approx(unseen.metrics["eval/fid-train"], rel=1e-6)
    assert seen.metrics["eval/fid"] > 0.01
    assert set(unseen.metrics) == {"eval/fid", "eval/kid", "eval/fid-train"}


def test_a_number_has_one_id_however_the_split_was_asked_for(tmp_path: Path) -> None:
    data = Digits(split="train")
    both = evaluator(data, evaluation(metrics=["fid", {"kind": "fid", "split": "test"}]), tmp_path)
    test = evaluator(data, evaluation(reference="test"), tmp_path).protocols()
    assert both.protocols()["eval/fid-test"] == test["eval/fid"]
    assert both.protocols()["eval/fid"] != test["eval/fid"]
    short = evaluation(reference="test", metrics=[{"kind": "fid", "split": "test"}])
    assert short == evaluation(reference="test")


def test_published_statistics_and_images_stand_side_by_side() -> None:
    spec = evaluation(reference="x.npz", metrics=["fid", {"kind": "kid", "split": "train"}, "nll"])
    assert [one.name for one in spec.metrics] == ["fid", "kid-train", "nll"]
    assert not spec.looks_at_test
    with pytest.raises(
        ValueError, match="serves fid in `features`, not kid: leave that out, give it split: train"
    ):
        evaluation(reference="x.npz", metrics=["fid", "kid"])


def test_a_likelihood_is_that_of_the_unseen_examples(tmp_path: Path) -> None:
    data = Gaussians(examples=60)
    torch.manual_seed(0)
    network = MLP(width=16).build((2,))
    asked = [{"kind": "nll", "steps": 4}, {"kind": "nll", "steps": 4, "split": "test"}]
    spec = evaluation(metrics=asked, full={"images": 60, "steps": 2})
    measured = evaluator(data, spec, tmp_path).measure(network, "full", ALONE).metrics
    alone = evaluation(metrics=asked[:1], full={"images": 60, "steps": 2})
    unseen = data.model_copy(update={"split": "test"})
    again = evaluator(unseen, alone, tmp_path).measure(network, "full", ALONE).metrics
    assert measured["eval/nll-test"] == again["eval/nll"]
    assert measured["eval/nll"] != again["eval/nll"]


def test_a_network_with_labels_is_told_those_of_the_unseen_images(tmp_path: Path) -> None:
    told = []

    def network(x: torch.Tensor, _: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        told.append(labels)
        return torch.zeros_like(x)

    spec = evaluation(metrics=[{"kind": "bpd", "split": "test", "images": 5}])
    judge = evaluator(Digits(split="train"), spec, tmp_path, inputs=[Labels(classes=10)])
    judge.measure(network, "full", ALONE)
    wanted = held_out(Digits(split="train")).labels_of(torch.arange(5) * 359 // 5)
    assert torch.equal(told[-1], wanted)


def test_who_listens_hears_of_every_image(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    network = MLP(width=16).build((2,))
    spec = evaluation(metrics=["fid", NLL(steps=2, images=20)], draws=2, batch_size=16)
    judge = evaluator(Gaussians(examples=60), spec, tmp_path)
    judge.measure(network, "full", ALONE, lambda *said: heard.append(said))
    assert [one for one in heard if one[0] <= 64] == [(done, 84) for done in (16, 32, 48, 64)]
    assert heard == sorted(heard)
    assert heard[-1] == (84, 84), "the likelihood is told pass by pass"


def test_the_classifier_says_how_it_fares_on_unseen_images(tmp_path: Path) -> None:
    spec = evaluation(reference="test", features={"kind": "classifier", "steps": 60})
    said = evaluator(Digits(split="train"), spec, tmp_path).spaces["classifier"]
    assert said.endswith(" of 359 unseen ones")
    share = float(said.split(", ")[-1].split("%")[0])
    assert 50.0 < share <= 100.0, "sixty steps tell most digits apart"


# A whole trial


def trial(tmp_path: Path, **values: Any) -> TrialSpec:
    plain = {
        "data": {"kind": "image_folder", "path": str(tmp_path / "seen"), "test": str(tmp_path / "unseen"), "size": 8},
        "model": {"kind": "unet", "channels": [8, 8], "groups": 4},
        "train": {"kimg": 0.064, "batch_size": 32},
        "evaluation": {
            "evaluations": 2,
            "reference": "test",
            "features": {"kind": "pixels"},
            "draws": 1,
            "full": {"images": 32, "steps": 3},
        },
    }  # fmt: skip
    return TrialSpec.model_validate(plain | values)


def key(spec: TrialSpec) -> str:
    test = spec.data.held_out(Path())
    return spec.key(spec.data.fingerprint(Path()), "" if test is None else test.fingerprint(Path()))


def test_a_key_names_the_content_of_the_test_split_where_it_counts(tmp_path: Path) -> None:
    pictures(tmp_path / "seen", {"ant": 4, "bee": 4})
    pictures(tmp_path / "unseen", {"ant": 4, "bee": 4}, seed=1)
    spec = trial(tmp_path)
    shutil.copytree(tmp_path / "unseen", tmp_path / "moved")
    moved = {**spec.data.model_dump(), "test": str(tmp_path / "moved")}
    assert key(trial(tmp_path, data=moved)) == key(spec), "where it lies does not count"
    blind = {**spec.evaluation.model_dump(), "reference": "train"}
    none = {**spec.data.model_dump(), "test": None}
    assert key(trial(tmp_path, evaluation=blind)) == key(
        trial(tmp_path, evaluation=blind, data=none)
    )
    before = key(spec), key(trial(tmp_path, evaluation=blind))
    pictures(tmp_path / "unseen", {"ant": 4, "bee": 4}, seed=2)
    assert key(spec) != before[0]
    assert key(trial(tmp_path, evaluation=blind)) == before[1]


def test_a_trial_is_measured_on_it_resumes_with_it_and_is_measured_again_without_it(
    tmp_path: Path,
) -> None:
    pictures(tmp_path / "seen", {"ant": 20, "bee": 20})
    pictures(tmp_path / "unseen", {"ant": 20, "bee": 20}, seed=1)
    spec, cache = trial(tmp_path), tmp_path / "cache"
    whole = list(train(spec, tmp_path / "whole", cache=cache, device="cpu"))
    parted = list(train(spec, tmp_path / "parted", cache=cache, device="cpu", until_images=32))
    parted += list(train(spec, tmp_path / "parted", cache=cache, device="cpu"))
    assert [one.metrics["eval/fid"] for one in parted] == [one.metrics["eval/fid"] for one in whole]
    for folder in ("seen", "unseen"):
        shutil.rmtree(tmp_path / folder)
    trained = Trained.load(Record(tmp_path / "whole"), "cpu")
    measured = trained.measure(cache)
    assert measured.metrics["eval/fid"] == whole[-1].metrics["eval/fid"]
    assert measured.protocol == {name: whole[-1].protocol[name] for name in measured.protocol}
    assert measure_model(trained, cache, Path()).metrics == measured.metrics
    with pytest.raises(DataError, match="was not measured on the test split"):
        dataclasses.replace(trained, held_out=None).measure(cache)


def test_another_test_split_is_not_gone_on_with(tmp_path: Path) -> None:
    pictures(tmp_path / "seen", {"ant": 20, "bee": 20})
    pictures(tmp_path / "unseen", {"ant": 20, "bee": 20}, seed=1)
    spec, where = trial(tmp_path), {"cache": tmp_path / "cache", "device": "cpu"}
    list(train(spec, tmp_path / "trial", until_images=32, **where))
    pictures(tmp_path / "unseen", {"ant": 20, "bee": 20}, seed=2)
    with pytest.raises(CheckpointError, match="was measured on another test split"):
        list(train(spec, tmp_path / "trial", **where))


def test_a_trained_model_can_be_measured_on_a_test_split_it_never_met(tmp_path: Path) -> None:
    pictures(tmp_path / "seen", {"ant": 20, "bee": 20})
    pictures(tmp_path / "unseen", {"ant": 20, "bee": 20}, seed=1)
    spec, cache = trial(tmp_path), tmp_path / "cache"
    blind = spec.model_copy(update={"evaluation": evaluation(evaluations=1)})
    list(train(blind, tmp_path / "trial", cache=cache, device="cpu"))
    trained = Trained.load(Record(tmp_path / "trial"), "cpu")
    assert trained.held_out is None
    asked = trained.trial.model_copy(update={"evaluation": spec.evaluation})
    measured = measure_model(dataclasses.replace(trained, trial=asked), cache, Path())
    seen = list(train(spec, tmp_path / "other", cache=cache, device="cpu"))[-1]
    assert measured.metrics["eval/fid"] == seen.metrics["eval/fid"]
    saved = json.loads((tmp_path / "trial" / "trial.json").read_text())
    assert saved["data"]["test"] == str(tmp_path / "unseen")

"""Proves that a training begins with another's weights where they fit, says what does not, and gains by it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from service.experiment import Experiment
from trainer.data import Digits, Resident
from trainer.distributed import World
from trainer.errors import CheckpointError, InputError, UserError
from trainer.growing import begin
from trainer.loop import train
from trainer.models import MLP
from trainer.record import Record
from trainer.start import Start, digest
from trainer.training import Training
from trainer.trial import TrialSpec

SMALL: dict[str, Any] = {
    "kind": "unet", "channels": [8, 16, 24], "groups": 4, "blocks": 1, "skip_stages": 1,
}  # fmt: skip


def trial(start: Path | str | None = None, kimg: float = 0.064, **model: Any) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": {**SMALL, **model},
            "diffusion": {"prediction": {"kind": "velocity"}},
            "optimizer": {"kind": "adamw", "lr": 2e-3},
            "train": {"kimg": kimg, "batch_size": 32},
            "evaluation": {"features": {"kind": "pixels"}, "full": {"images": 4, "steps": 2}},
            **({} if start is None else {"start_from": {"trial": str(start)}}),
        }
    )


def trained(directory: Path, spec: TrialSpec, steps: int = 2) -> Path:
    """A trial's directory, as after so many steps."""
    training = Training(spec, Digits().load(Path()), World(0, 1))
    for _ in range(steps):
        training.step()
    Record(directory).begin(spec, 0)
    Record(directory).save_checkpoint(training.images, training.state())
    return directory


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    trained(folder / "trials" / "abc", trial())
    return folder


@pytest.fixture
def small(home: Path) -> Path:
    return home / "trials" / "abc"


def average(directory: Path) -> dict[str, Tensor]:
    state, _ = Record(directory).newest_state(torch.device("cpu"))
    assert state is not None
    weights: dict[str, Tensor] = state["average"]
    return weights


def large() -> Resident:
    """The digits at 16 x 16."""
    images = Digits().load(Path()).read(torch.arange(1797)).float()
    grown = functional.interpolate(images, scale_factor=2.0, mode="bilinear").round()
    return Resident.of(grown.byte(), levels=16)


def test_what_fits_is_taken_and_what_does_not_is_named(small: Path) -> None:
    """All of the levels that both have; what touches the image is new, and so is the finest level."""
    training = Training(trial(small, skip_stages=0), large(), World(0, 1))
    seed_s = {n: v.clone() for n, v in training.learner.network.state_dict().items()}
    (line,) = begin(training)
    learned, own = average(small), training.learner.network.state_dict()
    taken = {name for name in learned if not name.startswith(("inward", "norm", "outward"))}
    assert line.startswith(
        f"start_from: {len(taken)} of {len(own)} weights are those of abc (0.064 kimg); "
    )
    assert "new here: down.0.0.conv1.bias" in line
    assert line.endswith(
        "not used: inward.bias, inward.weight, norm.bias, norm.weight, outward.bias, outward.weight"
    )
    assert all(torch.equal(own[name], learned[name]) for name in taken)
    assert all(torch.equal(own[name], seed_s[name]) for name in own.keys() - taken)
    averaged = training.average.network.state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in own.items())
    assert training.average.updates == training.images == 0


def test_the_same_network_goes_on_from_all_weights(small: Path) -> None:
    training = Training(trial(small), Digits().load(Path()), World(0, 1))
    (line,) = begin(training)
    assert line.startswith("start_from: 68 of 68 weights")
    assert digest(training.learner.network.state_dict()) == trial(small).start_from.weights  # type: ignore[union-attr]
    training.step()


def test_patches_make_the_projections_anew(small: Path) -> None:
    training = Training(trial(small, patch=2), large(), World(0, 1))
    (line,) = begin(training)
    assert "new here: inward.bias, inward.weight, norm.bias, norm.weight, outward.bias" in line


def test_a_trial_is_named_by_the_weights_it_starts_with_not_by_their_place(
    home: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = trial(small)
    assert spec.start_from == Start(trial=str(small), weights=digest(average(small)))
    copied = tmp_path / "elsewhere"
    copied.symlink_to(small)
    monkeypatch.chdir(home.parent)
    (home.parent / "runs").symlink_to(home)
    assert {one.key("data") for one in (trial(copied), trial("abc"), spec)} == {spec.key("data")}
    assert trial("abc").start_from == spec.start_from
    others = [trial(), trial(trained(tmp_path / "more", trial(), steps=3))]
    assert len({spec.key("data"), *(one.key("data") for one in others)}) == 3
    assert TrialSpec.saved(trial().model_dump_json(exclude={"start_from"})) == trial()


def test_a_saved_trial_is_read_where_its_start_is_not(small: Path, tmp_path: Path) -> None:
    text = trial(small).model_dump_json().replace(str(small), "/somewhere/else")
    spec = TrialSpec.saved(text)
    assert spec.key("data") == trial(small).key("data")
    with pytest.raises(CheckpointError, match="/somewhere/else holds no trained model on this"):
        list(train(spec, tmp_path / "t", cache=tmp_path / "c", device="cpu"))


def test_training_says_so_once_and_goes_on_without_the_start(tmp_path: Path) -> None:
    """Stopped and continued is uninterrupted, to the last bit, also when the start is gone."""
    start = tmp_path / "start"
    trained(start, trial())
    spec = trial(start, kimg=0.192)
    spec = spec.model_copy(
        update={"evaluation": spec.evaluation.model_copy(update={"every_kimg": 0.064})}
    )
    whole = list(train(spec, tmp_path / "one", cache=tmp_path / "c", device="cpu"))
    first, *rest = whole
    assert [line[:16] for line in first.notes] == ["start_from: 68 o"]
    assert not any(report.notes for report in rest)
    where = tmp_path / "two"
    list(train(spec, where, cache=tmp_path / "c", device="cpu", until_images=64))
    start.rename(tmp_path / "gone")
    *_, last = train(spec, where, cache=tmp_path / "c", device="cpu")
    assert last.metrics["eval/fid"] == whole[-1].metrics["eval/fid"]
    assert digest(average(where)) == digest(average(tmp_path / "one"))


def test_what_cannot_be_started_from_is_refused(small: Path, tmp_path: Path) -> None:
    for place, why in (
        (tmp_path / "no", "neither a directory nor"),
        (tmp_path, "no trained model"),
    ):
        with pytest.raises(ValidationError, match=f"trial: .* {why}"):
            trial(place)
    spec = trial(small).model_copy(update={"model": MLP()})
    with pytest.raises(UserError, match=r"no weight of .* fits this network"):
        begin(Training(spec, Digits().load(Path()), World(0, 1)))
    moved = trained(tmp_path / "moved", trial())
    spec = trial(moved)
    trained(moved, trial(), steps=3)
    with pytest.raises(CheckpointError, match="holds other weights than when this trial was named"):
        begin(Training(spec, Digits().load(Path()), World(0, 1)))


def test_an_experiment_compares_starts(small: Path, tmp_path: Path) -> None:
    document: dict[str, Any] = {
        "name": "growing",
        "base": json.loads(trial().model_dump_json(exclude={"seed", "start_from"})),
        "seeds": 1,
        "arms": {"fresh": {}, "grown": {"start_from": {"trial": str(small)}}},
    }
    fresh, grown = Experiment.from_mapping(document).cells
    assert fresh.trial.start_from is None
    assert grown.trial == trial(small)
    document["arms"]["grown"] = {"start_from": {"trial": str(tmp_path / "no")}}
    with pytest.raises(InputError, match="is no directory, no YAML file and no trial of"):
        Experiment.from_mapping(document)


@pytest.mark.slow
def test_a_grown_network_learns_sooner_than_a_fresh_one(tmp_path: Path) -> None:
    """Digits at 8 x 8, then at 16 x 16: after 60 steps the loss, on the same noise, is lower by some percent."""
    small = trained(tmp_path / "small", trial(), steps=250)
    source = large()
    index = torch.arange(1_000_000, 1_000_256)
    x0 = source.codec.scale(source.read(index % 1797))

    def loss(spec: TrialSpec) -> float:
        training = Training(spec, source, World(0, 1))
        begin(training)
        for _ in range(60):
            training.step()
        with torch.no_grad():
            return float(training.learner(x0, index, {}).mean())

    assert loss(trial(small, kimg=4, skip_stages=0)) < 0.96 * loss(trial(kimg=4, skip_stages=0))

"""Proves that a model is measured as in its training, and saved samples as if they had just been made."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import toy_trial
from tests.trainer.exchange.models import labelled
from trainer.errors import DataError, UserError
from trainer.exchange.changes import remeasured
from trainer.exchange.folder import SampleFolder, set_of, story_of
from trainer.exchange.measuring import (
    measure_further,
    measure_images,
    measure_model,
    saved_images,
)
from trainer.exchange.sampling import Wanted, draw
from trainer.loop import train
from trainer.record import Record
from trainer.trained import Trained
from trainer.trial import TrialSpec

EVALUATION: dict[str, Any] = {
    "evaluations": 1,
    "features": {"kind": "pixels"},
    "metrics": ["fid", "kid"],
    "full": {"images": 40, "steps": 4},
    "rung": {"images": 20, "steps": 2},
    "draws": 2,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    trial = labelled(evaluation=EVALUATION)
    list(train(trial, folder / "trial", cache=folder / "cache", device="cpu"))
    return folder


@pytest.fixture(scope="module")
def model(home: Path) -> Trained:
    return Trained.load(home / "trial", "cpu")


def test_a_likelihood_reads_the_examples_it_looks_at(home: Path, model: Trained) -> None:
    """What the cache holds of the data is enough for distances only."""
    nll = "evaluation.metrics=[{kind: nll, steps: 2}]"
    asked = replace(model, trial=remeasured(model.trial, [nll]))
    measured = measure_model(asked, home / "cache", Path())
    assert list(measured.metrics) == ["eval/nll"]
    assert measured.finite


@pytest.mark.parametrize(("part", "prefix"), [("full", "eval/"), ("rung", "rung/")])
def test_an_unchanged_protocol_gives_the_numbers_of_training(
    home: Path, model: Trained, part: Any, prefix: str
) -> None:
    heard: list[tuple[int, int]] = []
    measured = measure_model(model, home / "cache", Path(), part, lambda *said: heard.append(said))
    report = Record(home / "trial").reports()[-1]
    assert measured.metrics == {k: v for k, v in report.metrics.items() if k.startswith(prefix)}
    assert measured.protocol == {k: v for k, v in report.protocol.items() if k.startswith(prefix)}
    assert heard[-1] == ((80, 80) if part == "full" else (20, 20))


def test_further_protocols_are_measured_when_asked_for(home: Path, model: Trained) -> None:
    cache = home / "cache"
    assert measure_further(model, cache, Path()) == []
    also = "evaluation.also=[{name: finer, steps: 9}]"
    (found,) = measure_further(replace(model, trial=remeasured(model.trial, [also])), cache, Path())
    finer = replace(model, trial=remeasured(model.trial, ["evaluation.full.steps=9"]))
    alone = measure_model(finer, cache, Path())
    assert found.metrics == {f"{name}.finer": value for name, value in alone.metrics.items()}
    assert found.protocol == {f"{name}.finer": one for name, one in alone.protocol.items()}


def test_saved_samples_too_few_for_what_is_asked_are_told(home: Path, model: Trained) -> None:
    few = torch.zeros(4, *model.codec.shape)
    for option, said in (
        ("evaluation.metrics=[{kind: is, features: {kind: classifier}}]", "10 or more are needed"),
        ("evaluation.error_groups=4", r"evaluation\.error_groups: 4 "),
    ):
        asked = replace(model, trial=remeasured(model.trial, [option]))
        with pytest.raises(UserError, match=said):
            measure_images(asked, few, home / "cache", Path())


def test_another_protocol_has_another_id(home: Path, model: Trained) -> None:
    finer = replace(model, trial=remeasured(model.trial, ["evaluation.full.steps=9"]))
    one, other = (measure_model(each, home / "cache", Path()) for each in (model, finer))
    assert one.metrics.keys() == other.metrics.keys()
    assert not set(one.protocol.values()) & set(other.protocol.values())
    assert one.metrics["eval/fid"] != other.metrics["eval/fid"]


def test_saved_samples_have_the_numbers_of_fresh_ones(home: Path, model: Trained) -> None:
    """One draw of the model's own protocol, by way of PNG files and of an npz."""
    wanted, record = Wanted(n=40), Record(home / "trial")
    list(draw(record, wanted, lambda trial: trial, home / "samples", "cpu"))
    fresh = measure_model(model, home / "cache", Path()).draws
    sets = [saved_images(home / "samples" / name, model.codec) for name in ("", "samples.npz")]
    assert torch.equal(*sets)
    measured = measure_images(model, sets[0], home / "cache", Path())
    for name, values in fresh.items():
        # another number of samples at once: float32 sums, and with them a pixel here and there
        assert measured.metrics[name] == pytest.approx(values[0], rel=1e-3, abs=1e-4)
    known = Record(home / "trial").reports()[-1].protocol
    assert not set(measured.protocol.values()) & set(known.values()), "who made them is not known"
    assert story_of(home / "samples") == story_of(home / "samples" / "samples.npz") != None  # noqa: E711


def test_the_real_images_are_at_no_distance(home: Path, model: Trained) -> None:
    source = model.trial.data.load(Path())
    x = source.codec.scale(source.read(torch.arange(len(source))))
    measured = measure_images(model, x, home / "cache", Path())
    # the same moments twice: float64 rounding of covariances of 64 pixels, under a root
    assert measured.metrics["eval/fid"] == pytest.approx(0.0, abs=1e-4)
    worse = measure_images(model, torch.zeros_like(x), home / "cache", Path())
    assert worse.metrics["eval/fid"] > 1.0


def test_the_data_is_read_where_the_cache_has_nothing(
    home: Path, model: Trained, tmp_path: Path
) -> None:
    there, anew = (measure_model(model, cache, Path()) for cache in (home / "cache", tmp_path))
    assert there.metrics == anew.metrics
    other = replace(model, fingerprint="0123456789abcdef")
    with pytest.raises(DataError, match="is not what the model was trained and measured on"):
        measure_model(other, tmp_path / "empty", Path())


def test_what_cannot_be_measured(home: Path, model: Trained) -> None:
    with pytest.raises(UserError, match="1 images are too few"):
        measure_images(model, torch.zeros(1, 1, 8, 8), home / "cache", Path())
    no_rung = replace(model, trial=remeasured(model.trial, ["evaluation.rung=null"]))
    with pytest.raises(UserError, match="has no cheap protocol"):
        measure_model(no_rung, home / "cache", Path(), "rung")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8, 1), np.float32), "holds float32 numbers, samples are uint8"),
        (
            np.zeros((3, 1, 8, 8), np.uint8),
            "its samples are 1 x 8 x 8, those of the model 8 x 8 x 1",
        ),
        (np.zeros(3, np.uint8), "its samples are single numbers"),
    ],
)
def test_arrays_that_are_no_samples(
    model: Trained, array: np.ndarray, message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", array)
    with pytest.raises(UserError, match=message):
        saved_images(tmp_path / "x.npz", model.codec)


def test_files_that_are_no_samples(model: Trained, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK nothing")
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    for name, message in (
        ("x.npz", "is no npz of plain arrays, or damaged"),
        ("objects.npz", "is no npz of plain arrays"),
        ("nowhere.npz", "is not there"),
        ("", "holds no images"),
    ):
        with pytest.raises(UserError, match=message):
            saved_images(tmp_path / name, model.codec)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="is 4 x 4 pixels"):
        saved_images(tmp_path, model.codec)


def test_points_are_read_as_they_are(tmp_path: Path) -> None:
    points = TrialSpec.model_validate(toy_trial())
    list(train(points, tmp_path / "toy", cache=tmp_path / "cache", device="cpu"))
    model = Trained.load(tmp_path / "toy", "cpu")
    samples = SampleFolder(tmp_path / "out")
    x = model.sample(64)
    samples.write_set(x, None)
    assert torch.equal(saved_images(tmp_path / "out" / "samples.npz", model.codec), x)
    assert measure_images(model, x, tmp_path / "cache", Path()).finite
    list(draw(Record(tmp_path / "toy"), Wanted(n=2), lambda trial: trial, tmp_path / "s", "cpu"))
    with pytest.raises(UserError, match=r"holds points, no images: name .*samples\.npz"):
        saved_images(tmp_path / "s", model.codec)


def test_hidden_files_are_no_samples(tmp_path: Path) -> None:
    (tmp_path / "._a.png").write_bytes(b"\x00\x05\x16\x07")
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert set_of(tmp_path) == [tmp_path / "a.png"]


def test_samples_know_where_their_model_lies(home: Path, tmp_path: Path) -> None:
    """A model that is a folder is found by its place; one with a key by that too, where it was moved."""
    for name, after in (("model", None), ("0123456789abcdef0123", "0123456789abcdef0123")):
        place, out = tmp_path / name, tmp_path / f"of-{name}"
        shutil.copytree(home / "trial", place)
        list(draw(Record(place), Wanted(n=2), lambda trial: trial, out, "cpu"))
        story = story_of(out)
        assert story is not None
        assert story["trial"] == str(place)
        assert story["weights"] == Trained.load(place, "cpu").digest()
        shutil.rmtree(place)
        story = story_of(out)
        assert story is not None
        assert story["trial"] == (after or str(place))


def test_one_set_of_several_is_to_be_named(home: Path, tmp_path: Path) -> None:
    wanted, record = Wanted(n=2, guidance=(0.0, 1.0)), Record(home / "trial")
    list(draw(record, wanted, lambda trial: trial, tmp_path / "out", "cpu"))
    with pytest.raises(UserError, match="holds 2 sets of samples: name one"):
        set_of(tmp_path / "out")
    assert len(set_of(tmp_path / "out" / "guidance-1")) == 2
    assert story_of(tmp_path / "out" / "guidance-1") is not None
    shutil.copy(tmp_path / "out" / "grid.png", tmp_path / "b.PNG")
    assert (tmp_path / "b.PNG") in set_of(tmp_path)
    assert story_of(tmp_path) is None

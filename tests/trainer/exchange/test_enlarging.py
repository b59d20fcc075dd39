"""Proves that small pictures are enlarged one by one, beside what they were, and that what cannot be is told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainer.exchange.models import spec, trained
from trainer.errors import DataError, UserError
from trainer.exchange.enlarging import beside, small_images
from trainer.exchange.pictures import to_bytes
from trainer.exchange.sampling import Wanted, draw
from trainer.record import Record
from trainer.trained import Trained


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trial = spec(inputs=[{"kind": "super_resolution", "factor": 2, "noise": 0.2}])
    return trained(trial, tmp_path_factory.mktemp("models") / "large")


@pytest.fixture
def pixels(tmp_path: Path) -> np.ndarray:
    """Three images of 4 x 4, in the folder `small`."""
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    (tmp_path / "small").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "small" / f"{i}.png")
    return images


def told(directory: Path, wanted: Wanted, out: Path) -> list[str]:
    return list(draw(Record(directory), wanted, lambda trial: trial, out, "cpu"))


def test_every_image_is_enlarged_once_and_shown_beside_itself(
    directory: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    (line,) = told(directory, Wanted(enlarge=(tmp_path / "small",)), tmp_path / "out")
    assert line.endswith("out: 3 PNG, grid.png, samples.npz")
    model = Trained.load(directory, "cpu")
    small = torch.from_numpy(pixels)[:, None].float() / 127.5 - 1.0
    expected = model.enlarging(small).sample(3)
    with np.load(tmp_path / "out" / "samples.npz") as arrays:
        assert np.array_equal(arrays["arr_0"], to_bytes(expected))
    assert not torch.equal(expected, model.sample(3)), "those are made for the data's"
    # three in a row, each 8 times as large, with two pixels between
    grid = np.asarray(Image.open(tmp_path / "out" / "grid.png"))
    assert grid.shape == (3 * 66 - 2, 3 * 66 - 2)
    assert np.array_equal(grid[:64:16, :64:16], pixels[0])
    assert np.array_equal(grid[132::8, 132::8], to_bytes(expected)[2, ..., 0])
    story = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert story["enlarged"]["images"] == [str(tmp_path / "small" / f"{i}.png") for i in range(3)]


def test_more_samples_go_round_and_arrays_are_images_too(
    directory: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "some.npz", pixels[..., None])
    np.save(tmp_path / "some.npy", pixels[..., None])
    one = tmp_path / "small" / "1.png"
    model = Trained.load(directory, "cpu")
    found = small_images([tmp_path / "some.npz", one, tmp_path / "some.npy"], model)
    assert found.names[2:4] == (f"{tmp_path / 'some.npz'}[2]", str(one))
    assert torch.equal(found.x, found.x[[0, 1, 2, 1, 0, 1, 2]])
    (line,) = told(directory, Wanted(enlarge=(one,), n=5), tmp_path / "out")
    assert ": 5 PNG" in line
    rows = beside(found.x[:2], torch.zeros(3, 1, 8, 8))
    assert torch.equal(rows[2, 0, :, ::2, ::2], found.x[0])


@pytest.mark.usefixtures("pixels")
def test_what_cannot_be_enlarged_is_told_before_anything_is_written(
    directory: Path, tmp_path: Path
) -> None:
    large, text, none = tmp_path / "large.png", tmp_path / "text.png", tmp_path / "none"
    Image.new("L", (8, 8)).save(large)
    text.write_text("no image")
    none.mkdir()
    np.savez(tmp_path / "wide.npz", np.zeros((1, 4, 5, 1), np.uint8))
    for path, kind, message in (
        (large, UserError, "is 8 x 8 pixels, this model enlarges 4 x 4: crop and resize it"),
        (text, UserError, "it is no image, whatever"),
        (none, UserError, "holds no images: name image files, or a folder"),
        (tmp_path / "nowhere", UserError, "nowhere is not there"),
        (tmp_path / "wide.npz", DataError, r"the network enlarges uint8 images \[N, 4, 4, 1\]"),
    ):
        with pytest.raises(kind, match=message):
            told(directory, Wanted(enlarge=(path,)), tmp_path / "out")
    for wanted, message in (
        (Wanted(enlarge=(large,), invert=large), "--invert and --enlarge are different things"),
        (Wanted(enlarge=(large,), strip=True), "--strip draws the way of plain samples, not of"),
        (Wanted(enlarge=(large,), guidance=(1.0, 2.0)), "--enlarge takes one --guidance"),
    ):
        with pytest.raises(UserError, match=message):
            told(directory, wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    plain = trained(spec(), tmp_path / "plain")
    with pytest.raises(UserError, match="this model enlarges nothing: it was trained without"):
        told(plain, Wanted(enlarge=(tmp_path / "small",)), tmp_path / "out")
    with pytest.raises(UserError, match=r"shape \[1, 8, 8\]: this model enlarges \[1, 4, 4\]"):
        Trained.load(directory, "cpu").enlarging(torch.zeros(1, 1, 8, 8))

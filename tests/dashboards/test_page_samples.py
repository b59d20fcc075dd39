"""The page's pictures: the same pixels, as many as fit into a bound, and what is left out is said."""

from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dashboards.directories import Picture
from dashboards.page import samples as page_samples
from dashboards.page.samples import MOST_BYTES, Shown, shown
from dashboards.sweep import Sweep
from tests.dashboards.synthetic import KIMG, ended, grids, sweep
from trainer.evaluation.picture import png


def pixels(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


def size(found: Shown) -> int:
    last = [len(image["uri"]) for row in found.rows for image in row["images"]]
    return sum(last) + sum(len(text) for own in found.earlier.values() for _, text in own)


def coloured(folder: Path, cells: int, seeds: int, times: int) -> Sweep:
    """A sweep whose grids are 64 noisy colour images; many are one file, as the size is what counts."""
    found = sweep({f"c{at}": 0.0 for at in range(cells)}, seeds=1)
    paths = [folder / f"{at}.png" for at in range(2)]
    for at, path in enumerate(paths):
        noise = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(at))
        path.write_bytes(png(noise * 2 - 1))
    kimg = np.linspace(1.0, 100.0, times)
    samples = {
        (cell, seed): tuple(Picture(float(at), paths[seed % 2]) for at in kimg)
        for cell in found.cells
        for seed in range(seeds)
    }
    return dataclasses.replace(found, samples=samples)


def test_every_evaluation_of_every_trial_is_there_where_it_fits(tmp_path: Path) -> None:
    found = ended(sweep({"a": 0.0, "b": 0.1}, seeds=4), "b", 2, "diverged")
    found = dataclasses.replace(found, samples=grids(found, tmp_path, KIMG))
    made = shown(found)
    assert made.kimg == ["9.6", "19.2", "28.8", "38.4", "48", "57.6"]
    assert made.left_out == ""
    assert len(made.earlier) == 7
    for place, row in enumerate(made.rows):
        for image in row["images"]:
            if (row["cell"], image["seed"]) == ("b", 2):
                assert (image["uri"], image["why"]) == ("", "diverged")
                continue
            own = [
                *made.earlier[f"{place}-{image['seed']}"],
                (image["at"], image["uri"].split(",")[1]),
            ]
            assert [at for at, _ in own] == list(range(6))
            for (_, text), kept in zip(own, found.samples[row["cell"], image["seed"]], strict=True):
                assert (pixels(text) == np.asarray(Image.open(kept.path).convert("RGB"))).all()


def test_a_trial_that_was_measured_less_often_shows_the_picture_before(tmp_path: Path) -> None:
    found = sweep({"a": 0.0, "b": 0.1}, seeds=1)
    every = grids(found, tmp_path, KIMG)
    every["b", 0] = every["b", 0][1:4:2]
    made = shown(dataclasses.replace(found, samples=every))
    assert [at for at, _ in made.earlier["1-0"]] == [1]
    assert made.rows[1]["images"][0]["at"] == 3


@pytest.mark.parametrize("cells", [2, 10])
def test_500_trials_with_50_evaluations_stay_small(cells: int, tmp_path: Path) -> None:
    made = shown(coloured(tmp_path, cells, 500 // cells, 50))
    assert size(made) < 1.02 * MOST_BYTES
    assert size(made) > 0.4 * MOST_BYTES, "what there is room for is used"
    assert len(made.rows) == cells
    assert len(made.seeds) >= 2
    assert len(made.kimg) >= 3
    assert (made.kimg[0], made.kimg[-1]) == ("1", "100")
    assert f"{len(made.seeds)} of {500 // cells} seeds" in made.left_out
    assert f"{len(made.kimg)} of 50 times" in made.left_out


def test_a_grid_is_cut_by_whole_images(tmp_path: Path) -> None:
    found = coloured(tmp_path, 10, 4, 9)
    made = shown(found)
    assert "upper left quarter" in made.left_out
    whole = np.asarray(Image.open(tmp_path / "0.png").convert("RGB"))
    part = pixels(made.rows[0]["images"][0]["uri"].split(",")[1])
    height, width = part.shape[:2]
    assert height == width == (whole.shape[0] + 1) // 2 - 1
    assert (part == whole[:height, :width]).all()
    assert not (whole[:, width] != 96).any(), "cut where a line is"


def test_too_many_cells_are_left_out_but_never_the_baseline(tmp_path: Path) -> None:
    found = dataclasses.replace(coloured(tmp_path, 9, 1, 1), baseline="c8")
    made = shown(found, 60_000)
    kept = [row["cell"] for row in made.rows]
    assert 1 < len(kept) < 9
    assert "c8" in kept
    assert size(made) < 61_000
    assert f"{len(kept)} of 9 cells" in made.left_out


def test_few_colours_become_a_palette_of_the_same_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 256, (7, 3), dtype=np.uint8)
    picture = levels[rng.integers(0, 7, (90, 90))]
    Image.fromarray(picture).save(tmp_path / "p.png")
    packed = page_samples._png(tmp_path / "p.png", cut=False)
    assert Image.open(io.BytesIO(packed)).mode == "P"
    assert len(packed) < (tmp_path / "p.png").stat().st_size
    assert (np.asarray(Image.open(io.BytesIO(packed)).convert("RGB")) == picture).all()


def test_a_file_that_is_no_picture_is_left_out(tmp_path: Path) -> None:
    found = sweep({"a": 0.0, "b": 0.1}, seeds=1)
    every = grids(found, tmp_path)
    every["b", 0][0].path.write_bytes(b"cut short")
    made = shown(dataclasses.replace(found, samples=every))
    assert [bool(row["images"][0]["uri"]) for row in made.rows] == [True, False]

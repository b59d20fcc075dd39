"""Proves that batches are functions of the global example index, and that bad folders are explained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.data import Batches, Dataset, Digits, Gaussians, ImageFolder
from trainer.errors import DataError


def test_every_epoch_visits_every_row_once() -> None:
    dataset = Digits().load(Path())
    batches = Batches(dataset, seed=0)
    rows = torch.cat([batches.rows(first, 100) for first in range(0, 3 * 1797, 100)])[: 3 * 1797]
    for epoch in rows.split(1797):
        assert torch.equal(epoch.sort().values, torch.arange(1797))
    first, second, _ = rows.split(1797)
    assert not torch.equal(first, second)


def test_batches_do_not_depend_on_how_they_are_cut() -> None:
    """One batch across an epoch border equals its pieces, in any order: any number of workers sees the same."""
    dataset = ImageFolderLike()
    whole = Batches(dataset, seed=1).get(40, 24)
    other = Batches(dataset, seed=1)
    pieces = {first: other.get(first, 6) for first in (58, 40, 52, 46)}
    assert torch.equal(whole, torch.cat([pieces[first] for first in sorted(pieces)]))


def ImageFolderLike() -> Dataset:  # noqa: N802
    images = torch.arange(50 * 3 * 4 * 4).reshape(50, 3, 4, 4) % 256
    return Dataset(images.to(torch.uint8), None, levels=255, flip=True)


def test_flips_mirror_about_half_of_the_examples() -> None:
    dataset = ImageFolderLike()
    batches = Batches(dataset, seed=0)
    x = batches.get(0, 2000)
    plain = dataset.scaled(dataset.examples[batches.rows(0, 2000)])
    mirrored = (x == plain.flip(-1)).flatten(1).all(1)
    assert ((x == plain).flatten(1).all(1) | mirrored).all()
    # standard error of a share at 2000 draws is 0.011
    assert abs(float(mirrored.float().mean()) - 0.5) < 0.056


def test_scaling_and_quantizing_are_inverse_on_data() -> None:
    dataset = Digits().load(Path())
    x = dataset.scaled(dataset.examples)
    assert float(x.min()) == -1.0
    assert float(x.max()) == 1.0
    assert torch.equal(dataset.quantized(x + 0.01), x)


def test_digits_are_the_published_ones() -> None:
    dataset = Digits().load(Path())
    assert dataset.examples.shape == (1797, 1, 8, 8)
    assert torch.bincount(dataset.labels).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]
    assert dataset.fingerprint() == Digits().fingerprint(Path())


def test_gaussians_have_the_stated_moments() -> None:
    dataset = Gaussians(modes=4, radius=0.5, std=0.1, examples=40_000).load(Path())
    spread = dataset.examples.double().var(0)
    # 0.5^2/2 + 0.1^2 per axis; relative error of a variance at 40,000 is 0.7 %
    assert torch.allclose(spread, torch.full((2,), 0.135, dtype=torch.float64), rtol=0.04)


def write_images(folder: Path, count: int = 6) -> None:
    generator = np.random.default_rng(0)
    for i in range(count):
        target = folder / ("cat" if i % 2 else "dog") / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(target)


def test_image_folder_reads_classes_and_sizes(tmp_path: Path) -> None:
    write_images(tmp_path)
    dataset = ImageFolder(path=str(tmp_path), size=16).load(Path())
    assert dataset.examples.shape == (6, 3, 16, 16)
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    gray = ImageFolder(path=tmp_path.name, size=16, grayscale=True).load(tmp_path.parent)
    assert gray.examples.shape == (6, 1, 16, 16)


def test_image_folder_keeps_an_exact_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    dataset = ImageFolder(path=str(tmp_path), size=8).load(Path())
    assert np.array_equal(dataset.examples[0].permute(1, 2, 0).numpy(), pixels)
    assert dataset.labels is None


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    write_images(tmp_path)
    spec = ImageFolder(path=str(tmp_path), size=16)
    before = spec.fingerprint(Path())
    assert spec.fingerprint(Path()) == before
    Image.new("RGB", (20, 30)).save(tmp_path / "dog" / "0.png")
    assert spec.fingerprint(Path()) != before


def test_bad_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.path: .*missing is not a folder"):
        ImageFolder(path=str(tmp_path / "missing")).load(Path())
    with pytest.raises(DataError, match="no image files"):
        ImageFolder(path=str(tmp_path)).fingerprint(Path())
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"bad\.png cannot be read as an image"):
        ImageFolder(path=str(tmp_path)).load(Path())


def test_digits_equal_scikit_learns_own_loader() -> None:
    from sklearn.datasets import load_digits

    bunch, dataset = load_digits(), Digits().load(Path())
    assert np.array_equal(dataset.examples[:, 0].numpy(), bunch.images)
    assert np.array_equal(dataset.labels.numpy(), bunch.target)

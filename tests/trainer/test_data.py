"""Proves that batches are functions of the global example index, and that bad folders are explained."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.data import Absent, Batches, Codec, Digits, Gaussians, ImageFolder, Resident, Source
from trainer.data import batches as batches_module
from trainer.data.digits import _shipped
from trainer.errors import DataError
from trainer.randomness import Stream


def everything(source: Source) -> torch.Tensor:
    return source.read(torch.arange(len(source)))


def labels(source: Source) -> torch.Tensor | None:
    return source.labels_of(torch.arange(len(source)))


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


def ImageFolderLike() -> Resident:  # noqa: N802
    images = torch.arange(50 * 3 * 4 * 4).reshape(50, 3, 4, 4) % 256
    return Resident.of(images.to(torch.uint8), levels=255, flip=True)


def test_flips_mirror_about_half_of_the_examples() -> None:
    dataset = ImageFolderLike()
    batches = Batches(dataset, seed=0)
    x = batches.get(0, 2000)
    plain = dataset.codec.scale(dataset.read(batches.rows(0, 2000)))
    mirrored = (x == plain.flip(-1)).flatten(1).all(1)
    assert ((x == plain).flatten(1).all(1) | mirrored).all()
    # standard error of a share at 2000 draws is 0.011
    assert abs(float(mirrored.float().mean()) - 0.5) < 0.056


def test_a_flip_is_the_coin_of_its_example_however_batches_are_cut() -> None:
    """Also where what is drawn at once ends, and the same value as scaling first would give."""
    dataset, end = ImageFolderLike(), batches_module._COINS
    batches = Batches(dataset, seed=2)
    for first, count in ((0, 30), (end - 7, 20), (3, 9), (5 * end - 1, 2)):
        index = torch.arange(first, first + count)
        coins = Stream(2, "data/flip").coin(index)
        assert torch.equal(batches.draw(first, count).mirrored, coins)
        plain = dataset.read(batches.rows(first, count)).float() * (2.0 / 255) - 1.0
        x0 = torch.where(coins[:, None, None, None], plain.flip(-1), plain)
        assert torch.equal(batches.get(first, count), x0)


def test_scaling_leaves_what_is_stored_as_it_is() -> None:
    stored = torch.arange(4.0)
    Codec((1,), 255).scale(stored)
    assert stored.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_spec_knows_before_reading_whether_its_examples_are_flipped(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    folders = [ImageFolder(path=str(tmp_path), size=8, flip=flip) for flip in (True, False)]
    for spec in (Digits(), Gaussians(), *folders):
        assert spec.flips == spec.load(Path()).flip
    assert [spec.flips for spec in folders] == [True, False]


def test_scaling_and_quantizing_are_inverse_on_data() -> None:
    dataset = Digits().load(Path())
    x = dataset.codec.scale(everything(dataset))
    assert float(x.min()) == -1.0
    assert float(x.max()) == 1.0
    assert torch.equal(dataset.codec.quantize(x + 0.01), x)


def test_digits_are_the_published_ones() -> None:
    dataset = Digits().load(Path())
    assert everything(dataset).shape == (1797, 1, 8, 8)
    assert torch.bincount(labels(dataset)).tolist() == [
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
    assert dataset.fingerprint == Digits().fingerprint(Path())


def test_gaussians_have_the_stated_moments() -> None:
    dataset = Gaussians(modes=4, radius=0.5, std=0.1, examples=40_000).load(Path())
    spread = everything(dataset).double().var(0)
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
    assert everything(dataset).shape == (6, 3, 16, 16)
    assert labels(dataset).tolist() == [0, 0, 0, 1, 1, 1]
    gray = ImageFolder(path=tmp_path.name, size=16, grayscale=True).load(tmp_path.parent)
    assert everything(gray).shape == (6, 1, 16, 16)


def test_image_folder_keeps_an_exact_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    dataset = ImageFolder(path=str(tmp_path), size=8).load(Path())
    assert np.array_equal(everything(dataset)[0].permute(1, 2, 0).numpy(), pixels)
    assert labels(dataset) is None


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    write_images(tmp_path)
    spec = ImageFolder(path=str(tmp_path), size=16)
    before = spec.fingerprint(Path())
    assert spec.fingerprint(Path()) == before
    Image.new("RGB", (20, 30)).save(tmp_path / "dog" / "0.png")
    assert spec.fingerprint(Path()) != before


@pytest.mark.parametrize("path", ["~nosuchuser/photos", "x" * 300, "a\0b", "loop"])
def test_what_is_no_path_is_explained(path: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(
        DataError, match=r"^data\.path: .* cannot be a folder \(.*\): write the path"
    ):
        ImageFolder(path=path).fingerprint(tmp_path)


@pytest.mark.parametrize("target", ["gone.png", "link.png"])
def test_a_link_that_leads_nowhere_is_named(target: str, tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cat" / "link.png").symlink_to(target)
    with pytest.raises(
        DataError, match=r"1 of 7 files .*cat/link\.png \(it is a link to a file that"
    ):
        ImageFolder(path=str(tmp_path)).fingerprint(Path())


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cat" / "frames.gif").mkdir()
    (tmp_path / "cat" / "1.png").rename(tmp_path / "cat" / "frames.gif" / "1.png")
    assert everything(ImageFolder(path=str(tmp_path), size=8).load(Path())).shape[0] == 6


def test_bad_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.path: .*missing is not a folder"):
        ImageFolder(path=str(tmp_path / "missing")).load(Path())
    with pytest.raises(DataError, match="no image files"):
        ImageFolder(path=str(tmp_path)).fingerprint(Path())
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"bad\.png \(it is no image, whatever its name says\)"):
        ImageFolder(path=str(tmp_path)).load(Path())


def test_digits_equal_scikit_learns_own_loader() -> None:
    from sklearn.datasets import load_digits

    bunch, dataset = load_digits(), Digits().load(Path())
    assert np.array_equal(everything(dataset)[:, 0].numpy(), bunch.images)
    assert np.array_equal(labels(dataset).numpy(), bunch.target)


def test_digits_are_read_once_and_from_the_cache_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Digits().load(Path(), tmp_path)
    monkeypatch.setattr("trainer.data.digits._shipped", None)
    again = Digits().load(Path(), tmp_path)
    assert torch.equal(everything(first), everything(again))
    monkeypatch.undo()
    (tmp_path / "digits.npy").write_bytes(b"damaged")
    assert torch.equal(everything(Digits().load(Path(), tmp_path)), everything(first))
    other = _shipped()
    other[0, 0] = 9.0
    monkeypatch.setattr("trainer.data.digits._shipped", lambda: other)
    with pytest.raises(
        DataError, match=r"other digits than the published.* and remove .*digits\.npy"
    ):
        Digits().load(Path(), tmp_path / "new")


def test_codecs_survive_a_checkpoint_and_draw_labels_as_the_data_has_them() -> None:
    codec = Codec((1, 8, 8), 16, ("a", "b", "c"), (1, 0, 3))
    torch.save(codec.to_state(), file := io.BytesIO())
    file.seek(0)
    assert Codec.from_state(torch.load(file, weights_only=True)) == codec
    u = torch.tensor([0.0, 0.2499, 0.25, 0.5, 0.999999, 1.0])
    assert codec.label(u).tolist() == [0, 0, 2, 2, 2, 2]


def test_names_and_counts_of_labels_are_in_the_codec(tmp_path: Path) -> None:
    write_images(tmp_path)
    codec = ImageFolder(path=str(tmp_path), size=16).load(Path()).codec
    assert codec.label_names == ("cat", "dog")
    assert codec.label_counts == (3, 3)
    assert Digits().load(Path()).codec.label_names == tuple("0123456789")


def test_a_passage_gives_every_example_once() -> None:
    source = Digits().load(Path())
    parts = list(source.passage(500))
    assert [len(part) for part in parts] == [500, 500, 500, 297]
    assert torch.equal(torch.cat(parts), source.codec.scale(everything(source)))


def test_a_data_set_that_is_absent_says_what_to_do() -> None:
    source = Absent(Codec((2,), None), "ab12", torch.device("cpu"))
    with pytest.raises(DataError, match=r"ab12 is not here.*copy the cache"):
        source.read(torch.arange(2))
    with pytest.raises(DataError, match="or load the data set"):
        next(source.passage(2))

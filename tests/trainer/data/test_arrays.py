"""Proves that arrays of images are read as they are stored, and that what is no image is refused with the way out."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.data import Arrays
from trainer.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(12) % 5


def spec(file: Path, **options: Any) -> Arrays:
    return Arrays(path=str(file), **{"size": 8, **options})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_guided_diffusions_files_are_read_as_they_are(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", arr_0=IMAGES, arr_1=LABELS)
    for cache in (None, tmp_path / "cache"):
        source = spec(tmp_path / "a.npz").load(Path(), cache)
        stored = source.read(torch.arange(12)).permute(0, 2, 3, 1)
        assert np.array_equal(stored.numpy(), IMAGES)
        assert source.labels_of(torch.arange(12)).tolist() == LABELS.tolist()
        assert source.codec.classes == 5
    outline = spec(tmp_path / "a.npz").outline(Path())
    assert (outline.line, outline.remarks) == (
        "12 images, 5 classes (0 3, 1 3, 2 2, 3 2, 4 2)",
        (
            "sizes 8 x 8 (width x height); stored as 12 x 8 x 8 x 3 uint8, RGB",
            "mirrored at random in training (data.flip)",
        ),
    )


def test_other_layouts_of_images(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", IMAGES[:, 2:, :, 0])
    remarks = spec(tmp_path / "grey.npy", flip=False).outline(Path()).remarks
    assert remarks == ("sizes 8 x 6 (width x height); stored as 12 x 6 x 8 uint8, L",)
    np.save(tmp_path / "grey.npy", IMAGES[..., 0])
    grey = spec(tmp_path / "grey.npy", grayscale=True).load(Path())
    assert np.array_equal(grey.read(torch.arange(12))[:, 0].numpy(), IMAGES[..., 0])
    clear = np.concatenate([IMAGES, np.zeros_like(IMAGES[..., :1])], 3)
    np.savez(tmp_path / "clear.npz", pictures=clear)
    source = spec(tmp_path / "clear.npz", images="pictures", background="black").load(Path())
    assert int(source.read(torch.arange(12)).max()) == 0
    assert source.codec.classes is None
    wide = spec(tmp_path / "grey.npy", size=(4, 6)).load(Path())
    assert wide.read(torch.tensor([0])).shape == (1, 3, 4, 6)


@pytest.mark.parametrize(
    ("channels", "options"),
    [(4, {"alpha": True}), (2, {"alpha": True, "grayscale": True}), (5, {"channels": 5}), (1, {"channels": 1})],
    ids=["RGBA", "LA", "five bands", "one band"],
)  # fmt: skip
def test_other_channels_are_kept(channels: int, options: dict[str, Any], tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(1, 256, (6, 8, 8, channels), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", arr_0=images)
    data = spec(tmp_path / "a.npz", **options)
    source = data.load(Path(), tmp_path / "cache")
    assert data.shape == source.codec.shape == (channels, 8, 8)
    assert np.array_equal(source.read(torch.arange(6)).permute(0, 2, 3, 1).numpy(), images)
    plain = spec(tmp_path / "a.npz", grayscale=channels < 3)
    if channels <= 4:
        assert plain.fingerprint(Path()) != data.fingerprint(Path())


def test_one_class_is_called_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=IMAGES, arr_1=np.zeros(12, int))
    assert spec(tmp_path / "a.npz").outline(Path()).line == "12 images, 1 class (0 12)"


def test_channels_are_colours_or_not(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((6, 8, 8, 5), np.uint8))
    with pytest.raises(DataError, match=r"1 to 4 channels, .*: set data\.channels: 5 if these are"):
        spec(tmp_path / "a.npz").load(Path())
    with pytest.raises(DataError, match=r"with data\.channels: 4, or .*: set data\.channels: 5"):
        spec(tmp_path / "a.npz", channels=4).load(Path())
    with pytest.raises(ValueError, match="alpha: is said of colours"):
        spec(tmp_path / "a.npz", channels=5, alpha=True)


def test_content_is_the_identity(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=IMAGES, arr_1=LABELS)
    before = spec(tmp_path / "a.npz").fingerprint(Path(), tmp_path / "cache")
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    assert spec(tmp_path / "b.npz").fingerprint(Path(), tmp_path / "cache") == before
    assert spec(tmp_path / "b.npz", labels=None).fingerprint(Path()) != before
    np.savez_compressed(tmp_path / "b.npz", more=LABELS, arr_0=IMAGES, arr_1=LABELS)
    assert spec(tmp_path / "b.npz").fingerprint(Path(), tmp_path / "cache") == before
    np.savez(tmp_path / "b.npz", arr_0=IMAGES[::-1], arr_1=LABELS)
    assert spec(tmp_path / "b.npz").fingerprint(Path(), tmp_path / "cache") != before


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": IMAGES / 255.0}, r"arr_0 is of float64, images are uint8 .*astype"),
        ({"arr_0": IMAGES.transpose(0, 3, 1, 2)}, r"shape \(12, 3, 8, 8\).*use x\.transpose\(0, 2, 3, 1\)"),
        ({"arr_0": IMAGES.reshape(12, -1)}, r"shape \(12, 192\).*reshape it"),
        ({"arr_0": IMAGES[:0]}, r"shape \(0, 8, 8, 3\)"),
        ({"x": IMAGES}, r"data\.images: .* has no array `arr_0`, it has x: name the one"),
        ({"arr_0": IMAGES, "arr_1": LABELS / 2}, r"data\.labels: the array arr_1 is float64"),
        ({"arr_0": IMAGES, "arr_1": LABELS[:5]}, r"one for each of the 12 images"),
        ({"arr_0": IMAGES, "arr_1": LABELS - 1}, r"runs from -1 to 3, labels count from 0"),
        ({"arr_0": np.array([None, 1])}, r"is of object, images are uint8"),
        ({"arr_0": IMAGES, "arr_1": np.array(["cat"] * 12)}, r"labels are whole numbers"),
        ({"arr_0": IMAGES, "arr_1": np.array([None] * 12)}, r"cannot be read .*allow_pickle"),
    ],
    ids=["floats", "channels first", "flat", "none", "name", "half", "few", "negative", "objects", "strings", "None"],
)  # fmt: skip
def test_what_is_no_image_is_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        spec(tmp_path / "a.npz").fingerprint(Path())


def test_labels_by_a_name_that_is_not_there(tmp_path: Path) -> None:
    """The usual name may be absent, any other was meant; arrays that nobody looks at are told."""
    file = tmp_path / "a.npz"
    np.savez(file, arr_0=IMAGES, labels=LABELS, ids=LABELS)
    with pytest.raises(
        DataError, match=r"^data\.labels: .* no array `label`, did you mean `labels`\?"
    ):
        spec(file, labels="label").fingerprint(Path())
    outline = spec(file).outline(Path())
    assert (
        "not used: 2 arrays of the file (labels, ids); data.labels may name one" in outline.remarks
    )
    assert spec(file, labels="labels").load(Path()).codec.classes == 5
    assert (
        "not used: 1 array of the file (ids)" in spec(file, labels="labels").outline(Path()).remarks
    )
    np.savez(file, arr_0=IMAGES, arr_1=LABELS)
    assert not any("not used" in line for line in spec(file).outline(Path()).remarks)
    assert (
        "not used: 1 array of the file (arr_1)" in spec(file, labels=None).outline(Path()).remarks
    )
    np.save(tmp_path / "a.npy", IMAGES)
    assert spec(tmp_path / "a.npy").load(Path()).codec.classes is None
    with pytest.raises(DataError, match=r"a\.npy has no array `labels`: name the one"):
        spec(tmp_path / "a.npy", labels="labels").load(Path())


def test_what_is_no_array_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz is not a file on this machine"):
        spec(tmp_path / "none.npz").load(Path())
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"cannot be read as \.npz or \.npy .*numpy\.savez"):
        spec(tmp_path / "text.npz").load(Path())
    np.savez(tmp_path / "bare.npz", arr_1=LABELS)
    with zipfile.ZipFile(tmp_path / "bare.npz", "a") as archive:
        archive.writestr("arr_0", b"no array")
    with pytest.raises(DataError, match=r"has no array `arr_0`, it has arr_1: name the one"):
        spec(tmp_path / "bare.npz").load(Path())


def cut(file: Path, _: str) -> None:
    """As a copy that was interrupted."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def cut_early(file: Path, _: str) -> None:
    """Before the first pixel."""
    file.write_bytes(file.read_bytes()[:40])


def empty(file: Path, _: str) -> None:
    """Made, and nothing copied."""
    file.write_bytes(b"")


def flip_a_bit(file: Path, name: str) -> None:
    """In the middle of what is stored of the array."""
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(f"{name}.npy")
    content = bytearray(file.read_bytes())
    content[member.header_offset + 60 + member.compress_size // 2] ^= 1
    file.write_bytes(content)


def shorten(file: Path, name: str) -> None:
    """The archive is whole, what was packed into it is not."""
    with zipfile.ZipFile(file) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    members[f"{name}.npy"] = members[f"{name}.npy"][:-5]
    with zipfile.ZipFile(file, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)


@pytest.mark.parametrize(
    ("kind", "harm", "name", "message"),
    [
        ("npy", cut, "", r"it is cut short\): copy it again"),
        ("npy", cut_early, "", r"it is cut short\): copy it again"),
        ("npy", empty, "", r"it is cut short\): copy it again"),
        ("npz", cut, "", r"it is cut short\): copy it again"),
        ("npz", flip_a_bit, "arr_0", r"it is damaged: Bad CRC-32 .*: copy it again"),
        ("npz", flip_a_bit, "arr_1", r"it is damaged: Bad CRC-32 .*: copy it again"),
        ("packed", flip_a_bit, "arr_0", r"it is damaged: .*: copy it again"),
        ("packed", flip_a_bit, "arr_1", r"it is damaged: .*: copy it again"),
        ("npz", shorten, "arr_0", r"it is cut short\): copy it again"),
        ("npz", shorten, "arr_1", r"it is cut short\): copy it again"),
    ],
)  # fmt: skip
def test_damage_is_told_before_anything_is_decoded(
    kind: str, harm: Any, name: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / f"a.{'npy' if kind == 'npy' else 'npz'}"
    if kind == "npy":
        np.save(file, IMAGES)
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        save(file, arr_0=IMAGES, arr_1=LABELS)
    spec(file).outline(Path(), tmp_path / "cache")
    harm(file, name)
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(DataError, match=message):
            spec(file).outline(Path(), cache)


def test_a_file_that_is_damaged_after_it_was_looked_at_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=IMAGES)
    pictures = spec(tmp_path / "a.npz")._pictures(Path(), None)
    flip_a_bit(tmp_path / "a.npz", "arr_0")
    with pytest.raises(DataError, match="it is damaged"):
        pictures.begin()

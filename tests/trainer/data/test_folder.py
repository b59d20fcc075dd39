"""Proves what a folder of pictures is taken for: its files, its classes, its name, and every complaint about it."""

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.data import ImageFolder
from trainer.data.scan import _read
from trainer.errors import DataError


def noise(file: Path, seed: int, size: tuple[int, int] = (20, 20)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format="png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three and two pictures."""
    for i, name in enumerate(["cat/a.png", "cat/b.png", "cat/c.PNG", "dog/a.png", "dog/b.jpeg"]):
        noise(tmp_path / "images" / name, i)
    return tmp_path / "images"


def spec(folder: Path, **options: Any) -> ImageFolder:
    return ImageFolder(path=str(folder), size=8, **options)


MIRRORED = "mirrored at random in training (data.flip)"


def labels(folder: Path, **options: Any) -> list[int] | None:
    source = spec(folder, **options).load(Path())
    found = source.labels_of(torch.arange(len(source)))
    return None if found is None else found.tolist()


def said(folder: Path, **options: Any) -> str:
    outline = spec(folder, **options).outline(Path())
    return "\n".join([str(outline.line), *outline.remarks])


def test_mirroring_is_said(folder: Path) -> None:
    assert MIRRORED in said(folder)
    assert MIRRORED not in said(folder, flip=False)


def test_what_was_found_is_one_line(folder: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "cat/._a.png", "notes.txt", "dog/readme", "x.heic"):
        (folder / name).write_text("x")
    assert spec(folder).outline(Path()).line == (
        "5 images, 2 classes (cat 3, dog 2); left out: 1 .db, 1 .heic, 1 .txt, 2 hidden, 1 without extension"
    )
    assert labels(folder) == [0, 0, 0, 1, 1]


def test_deeper_folders_do_not_split_a_class(folder: Path) -> None:
    noise(folder / "cat" / "2021" / "a.png", 7)
    noise(folder / "cat" / "2022" / "a.png", 8)
    assert labels(folder) == [0, 0, 0, 0, 0, 1, 1]


def test_a_stray_picture_is_no_class(folder: Path) -> None:
    noise(folder / "stray.png", 7)
    with pytest.raises(
        DataError, match=r"1 image beside the class folders \(stray\.png\).*labels: none"
    ):
        spec(folder).fingerprint(Path())
    assert labels(folder, labels="none") is None


def test_prefixes_are_classes_in_any_folder(tmp_path: Path) -> None:
    for i, name in enumerate(["10_b.png", "9_a.png", "deep/10_a.png"]):
        noise(tmp_path / name, i)
    assert labels(tmp_path, labels="prefix") == [0, 1, 0], "text order, as published: 10 before 9"
    noise(tmp_path / "bird.png", 9)
    with pytest.raises(DataError, match=r"data\.labels: prefix .*1 of 4 images .*\(bird\.png\)"):
        spec(tmp_path, labels="prefix").fingerprint(Path())


def test_one_class_is_no_label(tmp_path: Path) -> None:
    noise(tmp_path / "only" / "a.png", 0)
    assert labels(tmp_path) is None
    assert "all images are of one class (only), so there are no labels" in said(tmp_path)


def test_folders_that_are_no_classes_are_told(folder: Path, tmp_path: Path) -> None:
    """Empty, of other files, of nothing but damage; in a .zip, too."""
    (folder / "ant").mkdir()
    (folder / ".git").mkdir()
    (folder / "bee").mkdir()
    (folder / "bee" / "notes.txt").write_text("x")
    (folder / "cow" / "deep").mkdir(parents=True)
    (folder / "cow" / "deep" / "a.png").write_text("404 not found")
    says = "3 folders hold no picture that can be used, and are no classes: ant, bee, cow"
    for place in (folder, zipped(folder, tmp_path / "images.zip")):
        assert says in said(place, damaged="skip")
        assert "no class" not in said(place, damaged="skip", labels="none")
    for name in ("bee", "cow"):
        shutil.rmtree(folder / name)
    assert "1 folder holds no picture that can be used, and is no class: ant" in said(folder)
    (folder / "ant").rmdir()
    assert "no class" not in said(folder)


def test_a_prefix_is_never_empty(tmp_path: Path) -> None:
    for i, name in enumerate(["_1.png", "dog_1.png", "cat_1.png"]):
        noise(tmp_path / name, i)
    with pytest.raises(
        DataError, match=r"1 of 3 images have nothing before the underscore \(_1\.png\): rename"
    ):
        spec(tmp_path, labels="prefix").fingerprint(Path())


def damage(folder: Path) -> None:
    (folder / "cat" / "x.png").write_bytes(b"")
    whole = (folder / "dog" / "a.png").read_bytes()
    (folder / "dog" / "y.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "z.jpg").write_text("404 not found")
    (folder / "dog" / "gone.png").symlink_to("nowhere.png")
    (folder / "dog" / "loop.png").symlink_to("loop.png")


def test_damaged_files_are_all_named_at_once(folder: Path) -> None:
    damage(folder)
    with pytest.raises(DataError) as error:
        spec(folder).load(Path())
    assert "5 of 10 files" in str(error.value)
    assert "dog/gone.png (it is a link to a file that is not there)" in str(error.value)
    assert "and 2 more" in str(error.value)
    assert "repair or remove them, or set data.damaged: skip" in str(error.value)


def test_damaged_files_are_skipped_where_that_is_wanted(folder: Path) -> None:
    clean = spec(folder).fingerprint(Path())
    damage(folder)
    skipping = spec(folder, damaged="skip")
    assert labels(folder, damaged="skip") == [0, 0, 0, 1, 1]
    assert "skipped 5 damaged files: " in said(folder, damaged="skip")
    assert skipping.fingerprint(Path()) == clean, "what is left is the same data"


def test_links_are_followed_and_rings_are_found(folder: Path, tmp_path: Path) -> None:
    noise(tmp_path / "elsewhere" / "f.png", 9)
    (folder / "fox").symlink_to(tmp_path / "elsewhere")
    assert labels(folder) == [0, 0, 0, 1, 1, 2]
    (folder / "cat" / "up").symlink_to(folder)
    with pytest.raises(DataError, match=r"cat/up \(it is a link to a folder that holds it\)"):
        spec(folder).fingerprint(Path())
    assert labels(folder, damaged="skip") == [0, 0, 0, 1, 1, 2]


def test_what_is_no_plain_file_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "pipe.png")
    with pytest.raises(DataError, match=r"cat/pipe\.png \(it is no plain file\)"):
        spec(folder).fingerprint(Path())


def test_a_folder_without_pictures_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_text("x")
    (tmp_path / "b.heic").write_text("x")
    with pytest.raises(DataError, match=r"^data\.path: no image files .* \(there is: 2 \.heic\): "):
        spec(tmp_path).fingerprint(Path())
    (tmp_path / "c.png").write_text("x")
    with pytest.raises(DataError, match=r"no image files .*1 damaged, c\.png"):
        spec(tmp_path, damaged="skip").fingerprint(Path())


def test_any_name_is_a_name(tmp_path: Path) -> None:
    odd = ["Füchse & Co/ein Bild.png", "Füchse & Co/猫.png", "z\nz/a.png"]
    for i, name in enumerate(odd):
        noise(tmp_path / name, i)
    raw = os.fsencode(tmp_path) + b"/z\nz/caf\xe9.png"
    shutil.copy(tmp_path / odd[0], raw)
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    assert spec(tmp_path).load(Path(), cache).codec.label_counts == (2, 2)
    assert spec(tmp_path).load(Path(), cache).codec.label_counts == (2, 2), "from the cache"
    assert "2 classes (Füchse & Co 2, z?z 2)" in said(tmp_path)
    with open(raw, "wb"):
        pass
    with pytest.raises(DataError, match=r"z\?z/caf.\.png \(it is empty"):
        spec(tmp_path).fingerprint(Path())


def test_the_same_content_is_the_same_data_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    before = spec(folder).fingerprint(Path())
    (tmp_path / "link").symlink_to(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert spec(tmp_path / "link").fingerprint(Path()) == before
    assert spec(tmp_path / "copy").fingerprint(Path()) == before
    assert ImageFolder(path="images", size=8).fingerprint(tmp_path) == before


def test_everything_that_changes_an_example_changes_the_fingerprint(folder: Path) -> None:
    options: list[dict[str, Any]] = [
        {}, {"size": 9}, {"size": [8, 9]}, {"grayscale": True}, {"resize": "lanczos"}, {"background": "black"},
        {"labels": "none"},
    ]  # fmt: skip
    specs = [ImageFolder(**{"path": str(folder), "size": 8, **each}) for each in options]
    prints = [each.fingerprint(Path()) for each in specs]
    noise(folder / "dog" / "a.png", 77)
    prints.append(spec(folder).fingerprint(Path()))
    (folder / "dog").rename(folder / "ant")
    prints.append(spec(folder).fingerprint(Path()))
    assert len(set(prints)) == len(prints)
    assert spec(folder, flip=False).fingerprint(Path()) == prints[-1], "the examples are the same"


def test_files_are_read_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look reads only what is new or was touched."""
    from trainer.data import scan

    asked: list[int] = []

    def counted(found: Any, entries: Any) -> Any:
        asked.append(len(entries))
        return _read(found, entries)

    monkeypatch.setattr(scan, "_read", counted)
    first = spec(folder).fingerprint(Path(), tmp_path / "cache")
    assert spec(folder).fingerprint(Path(), tmp_path / "cache") == first
    noise(folder / "dog" / "a.png", 77)
    noise(folder / "dog" / "c.png", 78)
    assert spec(folder).fingerprint(Path(), tmp_path / "cache") != first
    assert asked == [5, 0, 2]
    (kept,) = (tmp_path / "cache").glob("scan-*.jsonl")
    kept.write_text("damaged\n")
    assert spec(folder).fingerprint(Path(), tmp_path / "cache") == spec(folder).fingerprint(Path())


def test_remarks_tell_sizes_modes_and_what_was_done(tmp_path: Path) -> None:
    noise(tmp_path / "a.png", 0, (40, 30))
    noise(tmp_path / "b.png", 1, (4, 90))
    shutil.copy(tmp_path / "b.png", tmp_path / "c.png")
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(tmp_path / "d.png")
    Image.fromarray(np.full((9, 9), 300, np.uint16)).save(tmp_path / "e.png")
    assert said(tmp_path).split("\n") == [
        "5 images",
        "sizes 9 x 9 to 40 x 30 (width x height); stored as 3 RGB, 1 RGBA, 1 I;16",
        "1 image with transparency, put on white (data.background)",
        "1 image of 16-bit grey, scaled from 0..65535 to 8 bits; the largest value in them is 300, so they are dark: "
        "unless that is meant, multiply their values by 218",
        "2 images smaller than 8 x 8: enlarged",
        "2 images so long that the centre crop keeps less than a quarter",
        "1 image is an exact copy of another",
        MIRRORED,
    ]


@pytest.mark.parametrize(
    ("peak", "kind", "says"),
    [
        (4095, "png", "4,095, so they are dark: unless that is meant, multiply their values by 16"),
        (255, "tiff", "255, so they are dark: unless that is meant, multiply their values by 257"),
        (0, "png", "0, so they are dark: unless that is meant, multiply their values by 65535"),
        (40000, "png", "40,000"),
    ],
)
def test_grey_that_uses_little_of_its_range_is_told(
    peak: int, kind: str, says: str, tmp_path: Path
) -> None:
    """12 bits in 16, and 8 in 32; of all pictures, also when they are known already."""
    values = np.linspace(0, peak, 64).reshape(8, 8)
    for part, name in ((1.0, "a"), (0.5, "b")):
        scaled = (values * part).astype(np.int32 if kind == "tiff" else np.uint16)
        Image.fromarray(scaled).save(tmp_path / f"{name}.{kind}")
    for _ in range(2):
        remarks = spec(tmp_path).outline(Path(), tmp_path.parent / "cache").remarks
        deep = f"2 images of 16-bit grey, scaled from 0..65535 to 8 bits; the largest value in them is {says}"
        assert deep in remarks


def test_a_size_may_be_a_rectangle(folder: Path) -> None:
    wide = ImageFolder(path=str(folder), size=(6, 10))
    assert wide.shape == (3, 6, 10)
    assert wide.load(Path()).read(torch.tensor([0])).shape == (1, 3, 6, 10)
    assert ImageFolder(path="x", size=(8, 8)) == ImageFolder(path="x", size=8)


def zipped(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for each in sorted(folder.rglob("*")):
            archive.write(each, each.relative_to(folder))
    return file


def test_a_zip_is_the_folder_in_it(folder: Path, tmp_path: Path) -> None:
    for name in (".DS_Store", "notes.txt", "__MACOSX/cat/._a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    file = zipped(folder, tmp_path / "images.zip")
    for cache in (None, tmp_path / "cache"):
        assert spec(file).fingerprint(Path(), cache) == spec(folder).fingerprint(Path(), cache)
    one, other = (spec(place).load(Path(), tmp_path / "cache") for place in (file, folder))
    assert torch.equal(one.read(torch.arange(5)), other.read(torch.arange(5)))
    assert "left out: 1 .txt, 2 hidden" in said(file)
    assert len(list((tmp_path / "cache").glob("pictures-*.npy"))) == 1


def test_backslashes_in_a_zip_are_folders(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("ant\\", b"")
        archive.writestr("cat\\.hidden\\x.png", b"x")
        for each in sorted(folder.rglob("*.*")):
            archive.write(each, str(each.relative_to(folder)).replace("/", "\\"))
    file = tmp_path / "images.zip"
    assert spec(file).load(Path()).fingerprint == spec(folder).fingerprint(Path())
    assert "2 classes (cat 3, dog 2); left out: 1 hidden" in said(file)
    assert "1 folder holds no picture that can be used, and is no class: ant" in said(file)


def test_a_damaged_zip_is_named(folder: Path, tmp_path: Path) -> None:
    file = zipped(folder, tmp_path / "images.zip")
    content = bytearray(file.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 255
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=r"1 of 5 files .*cat/a\.png \(it is damaged in the archive: Bad CRC"
    ):
        spec(file).fingerprint(Path())
    assert labels(file, damaged="skip") == [0, 0, 1, 1]
    file.write_bytes(content[:200])
    with pytest.raises(DataError, match=r"cannot be read as a \.zip"):
        spec(file).fingerprint(Path())


def test_labels_of_edms_dataset_json(tmp_path: Path) -> None:
    """Its folders are shards of the pictures; text order of 2 and 10 would be the wrong one."""
    root = tmp_path / "edm"
    given = {"00000/img0.png": 10, "00000/img1.png": 2, "00001/img2.png": 10, "00001/img3.png": 0}
    for i, name in enumerate(given):
        noise(root / name, i)
    (root / "dataset.json").write_text(json.dumps({"labels": list(given.items())}))
    for place in (root, zipped(root, tmp_path / "edm.zip")):
        with pytest.raises(DataError, match=r"holds a dataset\.json, .*set data\.labels: json"):
            spec(place).fingerprint(Path())
        source = spec(place, labels="json").load(Path())
        assert labels(place, labels="json") == [2, 1, 2, 0]
        assert source.codec.label_names == ("00", "02", "10")
        assert labels(place, labels="none") is None


def test_images_that_only_dataset_json_knows_are_told(tmp_path: Path) -> None:
    """A .zip that was unpacked in part; what is damaged is there, and told as that."""
    given = {"0/a.png": 1, "0/b.png": 0, "0/c.png": 1, "1/d.png": 0, "1/e.png": 0}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": list(given.items())}))
    for i, name in enumerate(["0/a.png", "0/b.png"]):
        noise(tmp_path / name, i)
    (tmp_path / "0" / "c.png").write_text("404 not found")
    says = said(tmp_path, labels="json", damaged="skip")
    assert "2 images of 5 in dataset.json not here: 1/d.png, 1/e.png: is everything" in says
    for i, name in enumerate(given):
        noise(tmp_path / name, i)
    assert "not here" not in said(tmp_path, labels="json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"labels": null}', None),
        ("{", r"holds no list of labels"),
        ("[1]", r"holds no list of labels"),
        ('{"labels": [["a.png", 1]]}', r"says nothing of 1 image \(b\.png\)"),
        ('{"labels": [["a.png", 1], ["b.png", 0.5]]}', r"has the label 0\.5, labels are whole"),
        ('{"labels": [["a.png", null], ["b.png", 1]]}', r"has the label null"),
        ('{"labels": [["a.png", [0, 1]], ["b.png", 1]]}', r"has the label \[0, 1\]"),
        (None, r"json needs a dataset\.json at the top"),
    ],
)
def test_a_dataset_json_that_does_not_fit(
    content: str | None, message: str | None, tmp_path: Path
) -> None:
    noise(tmp_path / "a.png", 0)
    noise(tmp_path / "b.png", 1)
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    if message is None:
        assert labels(tmp_path, labels="json") is None
        return
    with pytest.raises(DataError, match=message):
        spec(tmp_path, labels="json").fingerprint(Path())

"""Proves that what the library `datasets` saved is read picture for picture, by content, with clear complaints."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.data import HuggingFaceSet, Source, huggingface_rows
from trainer.data.rows import state_of
from trainer.errors import DataError, EnvironmentProblem

datasets = pytest.importorskip("datasets")

IMAGES = [np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8) for i in range(6)]
LABELS = [0, 2, 2, 0, 1, 2]
NAMES = ["cat", "bird", "dog"]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()


def table(images: Any = None, **columns: Any) -> Any:
    """With a ClassLabel unless other columns are given."""
    features = {"image": datasets.Image()}
    if not columns:
        columns = {"label": LABELS}
        features["label"] = datasets.ClassLabel(names=NAMES)
    for name, values in columns.items():
        if name not in features:
            features[name] = datasets.Dataset.from_dict({name: values}).features[name]
    stored = [png(i) for i in IMAGES] if images is None else images
    rows = {"image": [None if i is None else {"bytes": i, "path": None} for i in stored], **columns}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def parquet(place: Path) -> Path:
    table().to_parquet(place / "some.parquet")
    return place / "some.parquet"


def parquet_folder(place: Path) -> Path:
    (place / "data").mkdir()
    table().to_parquet(place / "data" / "train-00000-of-00001.parquet")
    return place


def saved(place: Path) -> Path:
    table().save_to_disk(place / "saved")
    return place / "saved"


def saved_splits(place: Path) -> Path:
    tables = {"train": table(), "test": table().select(range(2))}
    datasets.DatasetDict(tables).save_to_disk(place / "splits")
    return place / "splits"


def image_folder(place: Path) -> Path:
    """The library sorts the classes by name, and the files."""
    for i, (pixels, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        file = place / "photos" / NAMES[label] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(pixels))
    return place / "photos"


def spec(path: Path, **options: Any) -> HuggingFaceSet:
    return HuggingFaceSet.model_validate({"path": str(path), "size": 8, "flip": False, **options})


def examples(source: Source) -> torch.Tensor:
    return source.read(torch.arange(len(source)))


def labels(source: Source) -> list[int] | None:
    found = source.labels_of(torch.arange(len(source)))
    return None if found is None else found.tolist()


@pytest.mark.parametrize("made", [parquet, parquet_folder, saved, saved_splits])
def test_pictures_and_labels_are_those_of_the_table(made: Any, tmp_path: Path) -> None:
    data = spec(made(tmp_path))
    source = data.load(Path(), tmp_path / "cache")
    assert np.array_equal(examples(source).numpy(), np.stack(IMAGES).transpose(0, 3, 1, 2))
    assert labels(source) == LABELS
    assert source.codec.label_names == tuple(NAMES)
    assert data.outline(Path(), tmp_path / "cache").line == (
        f"6 images, 3 classes (cat 2, bird 1, dog 3); huggingface {data.path}, split train"
    )
    remarks = ("sizes 8 x 8 (width x height); stored as 6 RGB",)
    assert data.outline(Path(), tmp_path / "cache").remarks == remarks


def test_a_folder_of_images_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    source = spec(image_folder(tmp_path)).load(Path(), tmp_path / "cache")
    order = [4, 0, 3, 1, 2, 5]
    assert np.array_equal(
        examples(source).numpy(), np.stack([IMAGES[i] for i in order]).transpose(0, 3, 1, 2)
    )
    assert labels(source) == [0, 1, 1, 2, 2, 2]
    assert source.codec.label_names == ("bird", "cat", "dog")


def test_identity_is_content_and_a_known_set_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = spec(parquet(tmp_path)).fingerprint(Path(), cache)
    assert spec(saved(tmp_path), damaged="skip").fingerprint(Path(), cache) == first
    assert spec(saved_splits(tmp_path)).fingerprint(Path(), cache) == first
    assert spec(tmp_path / "splits", split="test").fingerprint(Path(), cache) != first
    assert spec(tmp_path / "saved", label_column=False).fingerprint(Path(), cache) != first
    relative = HuggingFaceSet(path="some.parquet", size=8)
    assert relative.fingerprint(tmp_path, cache) == first
    pixels = examples(relative.load(tmp_path, cache))
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert torch.equal(examples(relative.load(tmp_path, cache)), pixels)


@pytest.mark.parametrize(
    ("values", "numbers", "names"),
    [
        (["b", "a", "b", "b", "ü", "a"], [1, 0, 1, 1, 2, 0], ("a", "b", "ü")),
        ([10, 9, 9, 10, 2, 2], [2, 1, 1, 2, 0, 0], ("2", "9", "10")),
        ([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], [1, 0, 1, 1, 0, 0], ("0", "1")),
        ([True, False, False, True, True, True], [1, 0, 0, 1, 1, 1], ("False", "True")),
        (["a"] * 6, None, None),
    ],
    ids=["texts", "numbers", "whole floats", "truth", "one class"],
)
def test_labels_of_several_types(
    values: list[Any], numbers: list[int] | None, names: tuple[str, ...] | None, tmp_path: Path
) -> None:
    table(label=values).to_parquet(tmp_path / "x.parquet")
    source = spec(tmp_path / "x.parquet").load(Path(), tmp_path / "cache")
    assert labels(source) == numbers
    assert source.codec.label_names == names


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"label": [0.5, 1.0, 2.0, 0.1, 0.2, 0.3]}, {}, r"label holds float64 such as 0\.5, which are no classes"),
        ({"label": ["a", None, "b", "a", "b", None]}, {}, r"2 of 6 .*: row 1 \(it has no label\), row 5 .*damaged: skip"),  # noqa: E501
        ({"label": [[1], [2], [1], [2], [1], [1]]}, {}, r"the column label holds List such as \[1\]"),
        ({"kind": ["a"] * 6}, {"label_column": "sort"}, r"no column sort: .* are image \(images\), kind \(string\)"),
        ({"kind": ["a"] * 6}, {"image_column": "kind"}, r"data\.image_column: the column kind holds string, not images"),  # noqa: E501
        ({"kind": ["a"] * 6}, {"split": "test2"}, r"there is no test2, the splits are `train`"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(
    columns: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    datasets.DatasetDict({"train": table(**columns)}).save_to_disk(tmp_path / "x")
    with pytest.raises(DataError, match=message):
        spec(tmp_path / "x", **options).outline(Path(), tmp_path / "cache")


def test_a_table_without_images_lists_its_columns(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a"], "n": [1]}).to_parquet(tmp_path / "x.parquet")
    message = r"data\.image_column: there is no column of images: the columns are text \(string\), n \(int64\)$"
    with pytest.raises(DataError, match=message):
        spec(tmp_path / "x.parquet").fingerprint(Path(), tmp_path / "cache")


def test_rows_that_cannot_be_used_are_refused_or_skipped(tmp_path: Path) -> None:
    whole = [png(i) for i in IMAGES]
    images = [whole[0], whole[1][:60], whole[2], None, b"text", whole[5]]
    features = {"label": [0, 1, 1, 0, 1, None]}
    table(images, **features).save_to_disk(tmp_path / "x")
    message = (
        r"4 of 6 .*: row 1 \(it is damaged.*row 3 \(it has no image\), row 4 .* and 1 more: repair"
    )
    with pytest.raises(DataError, match=message):
        spec(tmp_path / "x").fingerprint(Path(), tmp_path / "cache")
    data = spec(tmp_path / "x", damaged="skip")
    source = data.load(Path(), tmp_path / "cache")
    assert np.array_equal(
        examples(source).numpy(), np.stack([IMAGES[0], IMAGES[2]]).transpose(0, 3, 1, 2)
    )
    assert labels(source) == [0, 1]
    _, remark = data.outline(Path(), tmp_path / "cache").remarks
    assert remark.startswith("skipped 4 damaged rows: row 1 (it is damaged")


def test_images_of_other_programs_are_bytes_or_a_structure(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = [png(i) for i in IMAGES]
    pq.write_table(pa.table({"n": LABELS, "png": stored}), tmp_path / "bare.parquet")
    files = [{"bytes": one, "path": f"{i}.png"} for i, one in enumerate(stored)]
    pq.write_table(pa.table({"picture": files, "label": LABELS}), tmp_path / "files.parquet")
    want = np.stack(IMAGES).transpose(0, 3, 1, 2)
    for name, found in (("bare", None), ("files", LABELS)):
        source = spec(tmp_path / f"{name}.parquet").load(Path(), tmp_path / "cache")
        assert np.array_equal(examples(source).numpy(), want)
        assert labels(source) == found


def test_transparency_lies_on_the_background(tmp_path: Path) -> None:
    clear = png(np.zeros((8, 8, 4), np.uint8))
    table([clear] * 6, label=LABELS).save_to_disk(tmp_path / "x")
    for background, value in (("white", 255), ("black", 0)):
        data = spec(tmp_path / "x", background=background)
        assert set(examples(data.load(Path(), tmp_path / "cache")).flatten().tolist()) == {value}
    assert "with transparency, put on black" in data.outline(Path()).remarks[1]
    data = spec(tmp_path / "x", background="black", alpha=True)
    assert set(examples(data.load(Path(), tmp_path / "cache")).flatten().tolist()) == {0}
    assert data.shape == (4, 8, 8)
    assert data.outline(Path()).remarks[1:] == ("6 images with transparency, kept",)


def test_paths_that_lead_nowhere_are_told_with_the_way_to_the_hub(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none is not on this machine: .* its commit as data\.revision"):  # fmt: skip
        spec(tmp_path / "none").fingerprint(Path())
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"x\.parquet cannot be read as a data set"):
        spec(tmp_path / "x.parquet").fingerprint(Path(), tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty cannot be read as a data set"):
        spec(tmp_path / "empty").fingerprint(Path(), tmp_path / "cache")
    with pytest.raises(ValueError, match="revision"):
        spec(tmp_path, revision="main")


@pytest.mark.parametrize("path", ["/", "/proc", "/sys/kernel", "/dev"])
def test_folders_of_the_system_are_refused_before_they_are_walked(
    tmp_path: Path, path: str
) -> None:
    with pytest.raises(DataError, match="is the system's own: write where the images are"):
        HuggingFaceSet(path=path, size=8).outline(tmp_path)


def test_an_empty_path_is_no_path() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        HuggingFaceSet(path="", size=8)


def test_a_folder_with_much_else_in_it_is_refused_before_the_library_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    for number in range(5):
        (tmp_path / "home" / f"{number}.log").write_text("")
    asked = HuggingFaceSet(path="home", size=8)

    monkeypatch.setattr(huggingface_rows, "_MOST_OTHERS", 4)
    with pytest.raises(DataError, match="holds more than 4 files that are neither images nor tab"):
        asked.outline(tmp_path)

    monkeypatch.setattr(huggingface_rows, "_MOST_OTHERS", 5)
    monkeypatch.setattr(huggingface_rows, "MOST_ENTRIES", 4)
    with pytest.raises(DataError, match=r"home holds more than 4 files: write the path of the fo"):
        asked.outline(tmp_path)


def test_what_links_lead_to_is_counted_too(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for number in range(5):
        (tmp_path / "far" / f"{number}.png").write_text("")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")

    assert len(state_of([tmp_path / "near"], 5)) == 5
    with pytest.raises(DataError, match="link holds more than 4 files"):
        state_of([tmp_path / "near"], 4)


def test_the_held_out_examples_are_the_test_split(tmp_path: Path) -> None:
    data = spec(saved_splits(tmp_path))
    held = data.held_out(Path(), tmp_path / "cache")
    assert held is not None
    assert len(held.load(Path(), tmp_path / "cache")) == 2
    assert held.held_out(Path()) is None
    assert spec(saved(tmp_path)).held_out(Path()) is None


def test_an_unreachable_hub_is_told_with_the_way_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline by the library's own switch."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(EnvironmentProblem, match=r"cannot be reached for nobody/none .*save_to_disk"):  # fmt: skip
        HuggingFaceSet(path="nobody/none", revision="0" * 40).load(Path())


def test_the_library_is_asked_for_where_it_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'diffsweep\[huggingface\]'"):
        spec(tmp_path).load(Path())

"""Proves that `validate` reads the data: it says what it found, and refuses what every trial would refuse."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from service.cli import invoke
from tests.trainer.data.published import mnist
from trainer.data import ImageFolder

YAML = """\
name: x
base:
  data: {kind: image_folder, path: images, size: 8}
  model: {kind: unet, channels: [8], groups: 4, attention: []}
  train: {kimg: 0.064, batch_size: 16}
  evaluation: {evaluations: 1, features: {kind: pixels}, full: {images: 8, steps: 2}}
seeds: 1
launcher: inproc
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirteen pictures in two classes, and a file that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DIFFSWEEP_DATA", raising=False)
    for i in range(13):
        file = tmp_path / "images" / ("cat" if i < 9 else "dog") / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 12), (i, 0, 0)).save(file)
    (tmp_path / "images" / "cat" / "x.heic").write_text("?")
    (tmp_path / "x.yaml").write_text(YAML)
    return tmp_path


FOUND = "13 images, 2 classes (cat 9, dog 4); left out: 1 .heic"
SIZES = "sizes 10 x 12 (width x height); stored as 13 RGB"
MIRRORED = "mirrored at random in training (data.flip)"


def test_what_was_found_stands_below_the_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "x.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [f"data: {FOUND}", f"  {SIZES}", f"  {MIRRORED}"]

    assert invoke(["validate", "x.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["data"]["base"]
    assert (found["found"], found["remarks"]) == (FOUND, [SIZES, MIRRORED])

    assert invoke(["plan", "x.yaml"]) == 0
    assert f"data: {FOUND}" in capsys.readouterr().out.splitlines()


def test_nothing_is_decoded_before_somebody_trains(folder: Path) -> None:
    """Metrics, spaces and inputs are checked on what is known without the pixels, which may be many."""
    (folder / "x.yaml").write_text(YAML.replace("groups: 4", "groups: 4, classes: 2"))
    assert invoke(["validate", "x.yaml"]) == 0
    assert list((folder / "home").rglob("pictures-*")) == []
    ImageFolder(path="images", size=8).load(Path(), folder / "home" / "cache")
    assert len(list((folder / "home").rglob("pictures-*.npy"))) == 1


def test_data_sets_of_several_cells_are_told_apart(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.yaml").write_text(YAML + "arms: {all: {}, few: {data.path: images/dog}}\n")
    assert invoke(["validate", "x.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"data of all: {FOUND}" in lines
    assert "data of few: 4 images" in lines


def keys(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert invoke(["validate", "x.yaml", "--json"]) == 0
    return [trial["key"] for trial in json.loads(capsys.readouterr().out)["trials"]]


def test_the_place_of_the_data_is_no_part_of_a_trial(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through a link, moved, or with another policy for files that are all whole: the same trial."""
    before = keys(capsys)
    (folder / "link").symlink_to("images")
    (folder / "x.yaml").write_text(YAML.replace("path: images", "path: link, damaged: skip"))
    assert keys(capsys) == before
    (folder / "images" / "cat" / "0.png").unlink()
    assert keys(capsys) != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("classes: 1", "x.yaml:4: base.model.classes: 1 is too few, the data has 2 classes\n"),
        ("classes: 2", ""),
    ],
)
def test_too_few_classes_are_found_before_anything_is_trained(
    folder: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    (folder / "x.yaml").write_text(YAML.replace("groups: 4", f"groups: 4, {options}"))
    assert invoke(["validate", "x.yaml"]) == (2 if message else 0)
    assert capsys.readouterr().err == message


def test_damaged_files_are_told_at_their_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "images" / "dog" / "z.png").write_bytes(b"")
    assert invoke(["validate", "x.yaml"]) == 2
    assert capsys.readouterr().err == (
        f"x.yaml:3: base.data.path: 1 of 14 files in {folder}/images cannot be used: dog/z.png (it is empty (0 "
        "bytes)): repair or remove it, or set data.damaged: skip\n"
    )


def test_published_sets_and_tables_are_told_of(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that is not there is the user's to mend (exit 2), a package that is not installed the machine's (3)."""
    published = YAML.replace("kind: image_folder, path: images", "kind: torchvision, name: MNIST")
    (folder / "x.yaml").write_text(published)
    assert invoke(["validate", "x.yaml"]) == 2
    assert capsys.readouterr().err == (
        f"x.yaml:3: base.data.root: MNIST is not in {folder}/data (there is no MNIST/raw/train-images-idx3-ubyte): "
        "set data.root to the folder that torchvision was given, or data.download: true\n"
    )
    mnist(folder / "data")
    assert invoke(["validate", "x.yaml"]) == 0
    digits = "0 3, 1 3, 2 3, 3 3, 4 3, 5 2, 6 2, 7 2 and 2 more of 2 each"
    line = f"data: 25 images, 10 classes ({digits}); torchvision MNIST, split train"
    assert line in capsys.readouterr().out.splitlines()

    (folder / "x.yaml").write_text(YAML.replace("image_folder", "huggingface"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert invoke(["validate", "x.yaml"]) == 3
    assert "pip install 'diffsweep[huggingface]'" in capsys.readouterr().err

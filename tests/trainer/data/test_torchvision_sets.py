"""Proves that torchvision's sets are read pixel for pixel as it does, are content, and are not trusted unread."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from tests.trainer.data.published import FORGED, cifar10, mnist
from trainer.data import Batches, Source, TorchvisionSet
from trainer.data.rows import Rows
from trainer.data.stored import VARIABLE
from trainer.errors import DataError, EnvironmentProblem
from trainer.inputs import Batch
from trainer.inputs.tags import Tags
from trainer.loop import train
from trainer.trial import TrialSpec

SPLITS = {
    "CelebA": ("train", "valid", "test"),
    "Flowers102": ("train", "val", "test"),
    "SVHN": ("train", "test", "extra"),
}
CASES = [
    (name, split)
    for name in FORGED
    for split in (*SPLITS.get(name, ("train", "test")), "all")
]  # fmt: skip


def theirs(name: str, root: Path, split: str) -> Any:
    if name in SPLITS:
        return getattr(datasets, name)(str(root), split=split)
    return getattr(datasets, name)(str(root), train=split == "train")


def spec(name: str, root: Path, **options: Any) -> TorchvisionSet:
    return TorchvisionSet.model_validate({"name": name, "root": str(root), **options})


def examples(source: Source) -> torch.Tensor:
    return source.read(torch.arange(len(source)))


@pytest.mark.parametrize(("name", "split"), CASES)
def test_pictures_and_labels_are_torchvisions(
    name: str, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the pictures' own size nothing is resized; labels are its numbers, with every class of the set."""
    FORGED[name](tmp_path / "root", monkeypatch)
    parts = SPLITS.get(name, ("train", "test")) if split == "all" else (split,)
    peers = [theirs(name, tmp_path / "root", part) for part in parts]
    rows = [peer[i] for peer in peers for i in range(len(peer))]
    size = {"CelebA": {"size": [218, 178]}, "Flowers102": {"size": 24, "resize": "box"}}.get(name, {})  # fmt: skip
    data = spec(name, tmp_path / "root", split=split, **size)
    source = data.load(Path(), tmp_path / "cache")
    assert len(source) == len(rows)
    assert source.codec.shape == data.shape
    want = np.stack([data.frame.pixels(image) for image, _ in rows])
    assert np.array_equal(examples(source).numpy(), want)
    if name != "Flowers102":
        plain = [np.asarray(image) for image, _ in rows]
        assert np.array_equal(want, [p[None] if p.ndim == 2 else p.transpose(2, 0, 1) for p in plain])  # fmt: skip
    labels = source.labels_of(torch.arange(len(source)))
    if name == "CelebA":
        assert labels is None
    else:
        assert labels is not None
        assert labels.tolist() == [int(label) for _, label in rows]
        assert source.codec.classes == (102 if name == "Flowers102" else 10)


def test_what_is_usual_for_each_set_is_filled_in() -> None:
    def usual(name: str, **options: Any) -> tuple[Any, ...]:
        data = spec(name, Path("data"), **options)
        return (*data.shape, data.flip)

    assert usual("MNIST") == (1, 28, 28, False)
    assert usual("FashionMNIST") == (1, 28, 28, False)
    assert usual("SVHN") == (3, 32, 32, False)
    assert usual("CIFAR10") == (3, 32, 32, True)
    assert usual("CelebA") == (3, 64, 64, True)
    assert usual("Flowers102") == (3, 64, 64, True)
    assert usual("MNIST", pad=2) == (1, 32, 32, False)
    assert usual("MNIST", size=16, grayscale=False, flip=True) == (3, 16, 16, True)
    explicit = spec("MNIST", Path("data"), size=28, grayscale=True, flip=False)
    assert explicit.digest() == spec("MNIST", Path("data")).digest()
    again = TorchvisionSet.model_validate_json(explicit.model_dump_json())
    assert again == explicit


def test_padding_and_cropping_move_no_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist(tmp_path / "root")
    plain, padded = (examples(spec("MNIST", tmp_path / "root", pad=p).load(Path())) for p in (0, 2))
    assert torch.equal(padded[:, :, 2:-2, 2:-2], plain)
    assert int(padded.sum()) == int(plain.sum())
    FORGED["CelebA"](tmp_path / "root", monkeypatch)
    whole = spec("CelebA", tmp_path / "root", size=[218, 178])
    face = spec("CelebA", tmp_path / "root", size=148, crop=[40, 15, 148, 148])
    assert torch.equal(
        examples(face.load(Path())), examples(whole.load(Path()))[:, :, 40:188, 15:163]
    )
    assert len({whole.fingerprint(Path()), face.fingerprint(Path())}) == 2


@pytest.mark.parametrize(
    ("name", "crop", "size"),
    [
        ("MNIST", [40, 15, 148, 148], "28 x 28"), ("MNIST", [0, 1, 28, 28], "28 x 28"),
        ("CelebA", [100, 15, 148, 148], "178 x 218"), ("Flowers102", [0, 0, 43, 40], "60 x 42"),
    ],
)  # fmt: skip
def test_a_crop_outside_is_told_before_anything_is_decoded(
    name: str, crop: list[int], size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FORGED[name](tmp_path / "root", monkeypatch)
    outside = spec(name, tmp_path / "root", crop=crop)
    said = (
        rf"^data\.crop: .* is not inside pictures of {size} \(width x height\): write a crop that"
    )
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        with pytest.raises(DataError, match=said):
            outside.outline(Path(), cache)


def test_attributes_of_celeba_are_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the file, named without the empty name at its end; remembered, on any device, part of the identity."""
    FORGED["CelebA"](tmp_path / "root", monkeypatch)
    data = spec("CelebA", tmp_path / "root", size=8, split="test")
    want = [theirs("CelebA", tmp_path / "root", "test")[i][1].bool().tolist() for i in range(2)]
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        source = data.load(Path(), cache)
        assert source.codec.tags == tuple(f"column_{i}" for i in range(40))
        tags = source.to(torch.device("cpu")).tags_of(torch.arange(2))
        assert tags is not None
        assert tags.tolist() == want
    outline = data.outline(Path(), tmp_path / "cache")
    assert outline.source is not None
    Tags(count=40).check(outline.source)
    batches = Batches(source, 0)
    told = Batch.of(batches, batches.draw(0, 2), seed=0)
    rows = batches.rows(0, 2)
    assert torch.equal(Tags(count=40).trained(told)["vector"], torch.tensor(want)[rows] * 2.0 - 1.0)
    pictures = data._pictures(Path(), None)
    before = pictures.fingerprint(data.frame)
    assert pictures.tags is not None
    pictures.tags[0, 0] = ~pictures.tags[0, 0]
    assert pictures.fingerprint(data.frame) != before


def test_a_network_that_is_told_tags_trains_on_celeba(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamed and resident give the same numbers."""
    FORGED["CelebA"](tmp_path / "root", monkeypatch)
    trial = TrialSpec.model_validate(
        {
            "data": spec("CelebA", tmp_path / "root", size=8, split="all"),
            "model": {"kind": "unet", "channels": [8], "groups": 4},
            "inputs": [{"kind": "tags", "count": 40, "dropout": 0.1}],
            "train": {"kimg": 0.02, "batch_size": 4},
            "evaluation": {
                "evaluations": 1, "features": {"kind": "pixels"}, "full": {"images": 4, "steps": 2}, "draws": 1,
            },
        }
    )  # fmt: skip
    metrics = []
    for residence in ("always", "never"):
        monkeypatch.setenv(VARIABLE, residence)
        *_, last = train(trial, tmp_path / residence, cache=tmp_path / "cache", device="cpu")
        metrics.append([last.metrics["train/loss"], last.metrics["eval/fid"]])
    assert metrics[0] == metrics[1]


def test_identity_is_content(tmp_path: Path) -> None:
    mnist(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    cache = tmp_path / "cache"
    first = spec("MNIST", tmp_path / "a").fingerprint(Path(), cache)
    assert spec("MNIST", tmp_path / "b", download=True).fingerprint(Path(), cache) == first
    assert spec("MNIST", tmp_path / "a").fingerprint(Path()) == first
    assert spec("MNIST", tmp_path / "a", split="test").fingerprint(Path(), cache) != first
    labels = tmp_path / "b" / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] = 9
    labels.write_bytes(content)
    assert spec("MNIST", tmp_path / "b").fingerprint(Path(), cache) != first


def test_a_set_that_is_known_is_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for its fingerprint, nor for examples that were decoded."""
    mnist(tmp_path / "root")
    data = spec("MNIST", tmp_path / "root")
    first = data.load(Path(), tmp_path / "cache")

    def opened(*_: object) -> Rows:
        raise AssertionError("it was opened")

    monkeypatch.setattr("trainer.data.torchvision_sets.open_set", opened)
    again = data.load(Path(), tmp_path / "cache")
    assert torch.equal(examples(first), examples(again))
    assert again.fingerprint == data.fingerprint(Path(), tmp_path / "cache")
    with pytest.raises(AssertionError, match="it was opened"):
        spec("MNIST", tmp_path / "root", size=14).load(Path(), tmp_path / "cache")


def test_what_was_found_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(name: str) -> tuple[str | None, str]:
        FORGED[name](tmp_path / name, monkeypatch)
        outline = spec(name, tmp_path / name).outline(Path(), tmp_path / "cache")
        return outline.line, outline.remarks[0]

    digits = "0 3, 1 3, 2 3, 3 3, 4 3, 5 2, 6 2, 7 2 and 2 more of 2 each"
    assert said("MNIST") == (
        f"25 images, 10 classes ({digits}); torchvision MNIST, split train",
        "sizes 28 x 28 (width x height); stored as 25 L",
    )
    assert said("CelebA") == (
        "3 images, 40 tags; torchvision CelebA, split train",
        "sizes 178 x 218 (width x height); stored as 3 RGB",
    )
    line, sizes = said("Flowers102")
    assert str(line).startswith("3 images, 102 classes (")
    assert sizes == "sizes 60 x 42 to 60 x 49 (width x height); stored as 3 RGB"


class Tell:
    """Unpickling it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_pickle_that_is_not_the_published_is_never_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10(tmp_path / "root", monkeypatch)
    told = tmp_path / "told"
    (tmp_path / "root" / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Tell(told)))  # fmt: skip
    with pytest.raises(DataError, match=r"are not the published ones .*data\.download: true.*data\.root"):  # fmt: skip
        spec("CIFAR10", tmp_path / "root").load(Path(), tmp_path / "cache")
    assert not told.exists()
    pickle.loads(pickle.dumps(Tell(told)))
    assert told.exists(), "it would have"


def test_files_that_are_missing_or_damaged_are_told_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = r"MNIST is not in .*/none \(there is no MNIST/raw/train-images-idx3-ubyte\): set data\.root .*, or "
    with pytest.raises(DataError, match=absent + r"data\.download: true"):
        spec("MNIST", tmp_path / "none").fingerprint(Path())
    mnist(tmp_path / "root")
    file = tmp_path / "root" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="are not the published ones"):
        spec("MNIST", tmp_path / "root").load(Path())
    FORGED["CelebA"](tmp_path / "root", monkeypatch)
    (tmp_path / "root" / "celeba" / "img_align_celeba" / "000004.jpg").write_bytes(b"")
    damaged = r"1 of 3 pictures cannot be used: .*000004\.jpg \(it is empty \(0 bytes\)\): unpack CelebA again"
    with pytest.raises(DataError, match=damaged):
        spec("CelebA", tmp_path / "root").outline(Path(), tmp_path / "cache")


def test_a_download_that_fails_says_why_and_what_else_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address leads to a port of this machine at which nobody listens."""
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    data = spec("MNIST", tmp_path / "root", download=True)
    failed = "could not download MNIST .*refused.*copy the files there"
    with pytest.raises(EnvironmentProblem, match=failed):
        data.load(Path(), tmp_path / "cache")
    mnist(tmp_path / "whole")
    whole = spec("MNIST", tmp_path / "whole", download=True)
    assert len(whole.load(Path(), tmp_path / "cache")) == 25, "nothing is missing, nothing fetched"


def test_splits_and_names_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="split: MNIST has train, test and all, not extra"):
        spec("MNIST", Path("data"), split="extra")
    with pytest.raises(ValueError, match=r"'MNIST', 'FashionMNIST'"):
        spec("Mnist", Path("data"))


def test_the_held_out_examples_are_the_test_split(tmp_path: Path) -> None:
    mnist(tmp_path / "root")
    data = spec("MNIST", tmp_path / "root", size=14)
    held = data.held_out(Path())
    assert held is not None
    assert len(held.load(Path())) == 12
    assert held.shape == data.shape
    assert held.held_out(Path()) is None
    assert spec("MNIST", tmp_path / "root", split="all").held_out(Path()) is None

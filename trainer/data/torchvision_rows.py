"""What lies in the files of torchvision's data sets? They are found, downloaded if asked, checked and opened by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from trainer.data.listing import printable
from trainer.data.parallel import PATIENCE_S
from trainer.data.picture import Opened, Unreadable, opened
from trainer.data.rows import Rows
from trainer.errors import DataError, EnvironmentProblem
from trainer.files import cache_lock

Name = Literal["MNIST", "FashionMNIST", "CIFAR10", "CelebA", "Flowers102", "SVHN"]
_USUAL_SIZE = 64
_DIGITS = tuple("0123456789")
_IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_CELEBA = ("attr_celeba", "bbox_celeba", "landmarks_align_celeba", "eval_partition")


@dataclass(frozen=True)
class Published:
    """What is known of a set before it is read."""

    splits: tuple[str, ...]
    """As torchvision names them; `all` is these, in this order."""
    files: tuple[str, ...]
    """Files and folders under the root; {split} stands for each split that is read."""
    side: int | None = None
    """Of every picture, in pixels; None: they are larger, and a usual size is taken."""
    grayscale: bool = False
    flip: bool = False
    """Whether mirrored pictures are as likely as the pictures."""
    classes: tuple[str, ...] | None = None
    """Names of the labels where torchvision has none, or odd ones."""

    def size(self, crop: object, pad: object) -> int:
        """Pixels of a side if the spec does not say: those of the pictures, where they are only padded."""
        if self.side is None or crop is not None or not isinstance(pad, int):
            return self.side or _USUAL_SIZE
        return self.side + 2 * pad

    def needed(self, root: Path, splits: Iterable[str]) -> list[Path]:
        """The files of these splits."""
        named = (file.format(split=split) for split in splits for file in self.files)
        return [root / file for file in dict.fromkeys(named)]


SETS: dict[str, Published] = {
    "MNIST": Published(
        ("train", "test"), tuple(f"MNIST/raw/{name}-ubyte" for name in _IDX), 28, grayscale=True, classes=_DIGITS,
    ),
    "FashionMNIST": Published(
        ("train", "test"), tuple(f"FashionMNIST/raw/{name}-ubyte" for name in _IDX), 28, grayscale=True,
    ),
    "CIFAR10": Published(
        ("train", "test"),
        tuple(
            f"cifar-10-batches-py/{name}"
            for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        ),
        32, flip=True,
    ),
    "CelebA": Published(
        ("train", "valid", "test"),
        ("celeba/img_align_celeba", "celeba/identity_CelebA.txt", *(f"celeba/list_{name}.txt" for name in _CELEBA)),
        flip=True,
    ),
    "Flowers102": Published(
        ("train", "val", "test"),
        ("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"), flip=True,
    ),
    "SVHN": Published(("train", "test", "extra"), ("{split}_32x32.mat",), 32, classes=_DIGITS),
}  # fmt: skip


class ArrayRows(Rows):
    """Pictures that lie in one array."""

    def __init__(
        self, place: str, pixels: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
    ) -> None:
        """`pixels` uint8 [N, H, W] or [N, H, W, 3]."""
        self.pixels, self.labels, self.label_names, self._place = pixels, labels, names, place

    def __len__(self) -> int:
        return len(self.pixels)

    def content(self, row: int) -> bytes:
        """Its pixels."""
        return self.pixels[row].tobytes()

    def opened(self, content: bytes) -> Opened:
        """The pixels as a picture."""
        image = Image.fromarray(np.frombuffer(content, np.uint8).reshape(self.pixels.shape[1:]))
        return Opened(image, image.mode)

    def name(self, row: int) -> str:
        """By number."""
        return f"picture {row} of {self._place}"


class FileRows(Rows):
    """Pictures that are files of their own."""

    def __init__(
        self, files: list[Path], labels: np.ndarray | None, names: tuple[str, ...] | None
    ) -> None:
        self._files, self.labels, self.label_names = files, labels, names

    def __len__(self) -> int:
        return len(self._files)

    def content(self, row: int) -> bytes:
        """The file."""
        try:
            return self._files[row].read_bytes()
        except OSError as error:
            raise Unreadable(f"it cannot be read ({error.strerror})") from None

    def opened(self, content: bytes) -> Opened:
        """The picture in it, in the colours that are stored, as all who publish on these sets see it."""
        return opened(content, profiles=False)

    def name(self, row: int) -> str:
        """Its file."""
        return printable(self._files[row])


def fetch(name: str, root: Path, splits: tuple[str, ...], cache: Path | None) -> None:
    """Download what is not there, once for all processes that ask. Raises EnvironmentProblem."""
    if cache is None:
        _download(name, root, splits)
        return
    with cache_lock(cache / f"download-{name}", PATIENCE_S):
        _download(name, root, splits)


def _download(name: str, root: Path, splits: tuple[str, ...]) -> None:
    if all(file.exists() for file in SETS[name].needed(root, splits)):
        return  # while this process waited
    try:
        for split in splits:
            _dataset(name, root, split, download=True)
    except Exception as error:  # the library raises anything where a network fails
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise EnvironmentProblem(
            f"torchvision could not download {name} to {printable(root)}: {reason}: mend that, or copy the files "
            "there from a machine that has them and set data.download: false"
        ) from None


def open_set(name: str, root: Path, splits: tuple[str, ...]) -> Rows:
    """The rows of these splits, one split after the other. Raises DataError where the files are not the published."""
    try:
        sets = [_dataset(name, root, split) for split in splits]
    except Exception as error:  # readers raise anything on damaged files
        raise _unfit(name, root, splits, error) from None
    published = SETS[name]
    names = published.classes or (None if name == "CelebA" else tuple(sets[0].classes))
    if name == "CelebA":
        folder = root / "celeba" / "img_align_celeba"
        rows = FileRows([folder / file for one in sets for file in one.filename], None, None)
        rows.tags = np.concatenate([np.asarray(one.attr, bool) for one in sets])
        # the published header ends with a space, which torchvision takes for one more name
        rows.tag_names = tuple(sets[0].attr_names)[: rows.tags.shape[1]]
        return rows
    if name == "Flowers102":
        numbers = np.array([label for one in sets for label in one._labels], np.int64)
        return FileRows([Path(file) for one in sets for file in one._image_files], numbers, names)
    assert names is not None
    pixels = np.concatenate([_pixels(name, one) for one in sets])
    labels = np.concatenate([_labels(name, one) for one in sets])
    return ArrayRows(f"{name}'s split {'+'.join(splits)}", pixels, labels, names)


def _dataset(name: str, root: Path, split: str, *, download: bool = False) -> Any:
    """torchvision's object; it checks md5 sums before it unpickles anything."""
    from torchvision import datasets

    which: dict[str, Any] = {"split": split}
    if name in ("MNIST", "FashionMNIST", "CIFAR10"):
        which = {"train": split == "train"}
    return getattr(datasets, name)(str(root), download=download, **which)


def _pixels(name: str, one: Any) -> np.ndarray:
    """uint8 [N, H, W] or [N, H, W, 3]."""
    pixels = np.asarray(one.data)
    return pixels.transpose(0, 2, 3, 1) if name == "SVHN" else pixels


def _labels(name: str, one: Any) -> np.ndarray:
    return np.asarray(one.labels if name == "SVHN" else one.targets, np.int64).reshape(-1)


def _unfit(name: str, root: Path, splits: tuple[str, ...], error: Exception) -> DataError:
    """What is missing, or that something is wrong, and both ways out."""
    missing = [file for file in SETS[name].needed(root, splits) if not file.exists()]
    if missing:
        return DataError(
            f"data.root: {name} is not in {printable(root)} (there is no {missing[0].relative_to(root)}): set "
            "data.root to the folder that torchvision was given, or data.download: true"
        )
    reason = " ".join(str(error).split())[:150] or type(error).__name__
    return DataError(
        f"data.root: the files of {name} in {printable(root)} are not the published ones ({reason}): remove them and "
        "set data.download: true, or set data.root to a folder with whole ones"
    )

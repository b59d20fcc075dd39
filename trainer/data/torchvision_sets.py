"""The published sets that torchvision reads: MNIST, FashionMNIST, CIFAR10, CelebA, Flowers102, SVHN."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image, ImageOps
from pydantic import Field, model_validator

from trainer.data.base import DataSpec
from trainer.data.found import usable
from trainer.data.framed import Framed
from trainer.data.listing import printable
from trainer.data.rows import Once, RowPictures, read_rows, state_of
from trainer.data.torchvision_rows import SETS, Name, fetch, open_set
from trainer.errors import DataError

Box = tuple[
    Annotated[int, Field(ge=0, le=8192)],
    Annotated[int, Field(ge=0, le=8192)],
    Annotated[int, Field(ge=1, le=8192)],
    Annotated[int, Field(ge=1, le=8192)],
]


class TorchvisionSet(Framed):
    """A published set by torchvision's name, in a folder as torchvision keeps it."""

    incidental: ClassVar[frozenset[str]] = frozenset({"root", "download"})
    without_test: ClassVar[str] = "data.split: the test split is trained on: write train"

    kind: Literal["torchvision"] = "torchvision"
    name: Name
    """Which: torchvision's class. CelebA has no labels but 40 tags, for an input of kind tags."""
    root: str = "data"
    """The folder that torchvision was given as its root; relative paths start at the data root."""
    download: bool = False
    """Download what is not there; CelebA also takes the package gdown."""
    split: Literal["train", "valid", "val", "test", "extra", "all"] = "train"
    """As torchvision names them: train, test; CelebA has valid, Flowers102 val, SVHN extra; all: one after another."""
    crop: Box | None = None
    """[top, left, height, width] that is cut out before resizing; v-diffusion's of CelebA is [40, 15, 148, 148]."""
    pad: Annotated[int, Field(ge=0, le=256)] = 0
    """Black pixels added on each side, after the crop: 2 makes MNIST's 28 x 28 to 32 x 32."""

    @model_validator(mode="before")
    @classmethod
    def _as_usual(cls, given: Any) -> Any:
        """Left out, size, grayscale and flip are those of the set: its own size, no flips of digits and clothes."""
        published = SETS.get(str(given.get("name"))) if isinstance(given, dict) else None
        if published is None:
            return given
        usual = {
            "size": published.size(given.get("crop"), given.get("pad", 0)),
            "grayscale": published.grayscale,
            "flip": published.flip,
        }
        return usual | given

    @model_validator(mode="after")
    def _known_split(self) -> "TorchvisionSet":
        known = SETS[self.name].splits
        if self.split not in (*known, "all"):
            raise ValueError(f"split: {self.name} has {', '.join(known)} and all, not {self.split}")
        return self

    def held_out(self, root: Path, cache: Path | None = None) -> DataSpec | None:
        """The test split; None for `test` and `all`, beside which nothing is left."""
        return None if self.split in ("test", "all") else self.model_copy(update={"split": "test"})

    def _pictures(self, root: Path, cache: Path | None) -> RowPictures:
        folder = _folder(root, self.root)
        published = SETS[self.name]
        splits = published.splits if self.split == "all" else (self.split,)
        files = published.needed(folder, splits)
        if self.download and not all(file.exists() for file in files):
            fetch(self.name, folder, splits, cache)
        rows = Once(lambda: open_set(self.name, folder, splits))
        state = ["torchvision", self.name, *splits, *state_of(files)]
        remedy = f"unpack {self.name} again, or remove it there and set data.download: true"
        found = usable(read_rows(rows, state, cache), f"data.root: {printable(folder)}", remedy)
        trimming = Trimming(self.crop, self.pad)
        trimming.check(found.summary.looks.least)
        called = f"torchvision {self.name}, split {self.split}"
        return RowPictures(found, rows, called, trimming.trimmed, repr(trimming))


TorchvisionData = TorchvisionSet
"""The members of this file: a new set that torchvision reads is an entry in SETS, and a case of `open_set`."""


@dataclass(frozen=True)
class Trimming:
    """What is done to a picture before it is fitted to its frame."""

    crop: tuple[int, int, int, int] | None
    """Top, left, height, width."""
    pad: int

    def check(self, least: tuple[int, int]) -> None:
        """Raises DataError where the crop is not inside every picture; `least` are their least width and height."""
        if self.crop is None:
            return
        top, left, height, width = self.crop
        if left + width > least[0] or top + height > least[1]:
            raise DataError(
                f"data.crop: {list(self.crop)} (top, left, height, width) is not inside pictures of "
                f"{least[0]} x {least[1]} (width x height): write a crop that is"
            )

    def trimmed(self, image: Image.Image) -> Image.Image:
        """Cropped, then padded."""
        if self.crop is not None:
            top, left, height, width = self.crop
            image = image.crop((left, top, left + width, top + height))
        return ImageOps.expand(image, self.pad, 0) if self.pad else image


def _folder(root: Path, path: str) -> Path:
    try:
        return (root / Path(path).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"data.root: {path[:60]!r} cannot be a folder ({error})") from None

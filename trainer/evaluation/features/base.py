"""What is a feature space? A spec that says what it needs and builds the frozen network that images are compared by."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.data import Codec, Source
from trainer.data.base import DataSpec
from trainer.errors import UserError
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


WIDEST = 16_384
"""Dimensions of a feature space: a covariance of more takes over 2 GB, and its eigenvalues hours."""


@dataclass(frozen=True)
class Extractor:
    """A frozen network that images are compared by."""

    features: Callable[[Tensor], Tensor]
    """x [B, ...] in [-1, 1] -> features [B, D]."""
    weights: str
    """Digest of the weights."""
    classify: Callable[[Tensor], Tensor] | None = None
    """Features [B, D] -> class probabilities float64 [B, K], where the network has classes."""
    remark: str = ""
    """What a person should know of it, such as how well it knows the data."""


class FeatureSpace(Spec):
    """A member of the family: builds its extractor for a data set."""

    words: ClassVar[str]
    """What the space is, to be read after "in the feature space of"."""
    classifies: ClassVar[bool] = False
    """Whether its extractor also gives class probabilities."""
    is_papers: ClassVar[bool] = False
    """Whether a distance in it may go by its plain name; in all others the name says the space: `FID (pixels)`."""

    learns: ClassVar[bool] = False
    """Whether its extractor is trained on the data, which takes their examples."""

    kind: str

    def reported(self) -> FeatureSpace:
        """The space of the reported numbers, if that of the curve's cheap protocol may be cheaper: this one."""
        return self

    def called(self) -> str:
        """Its words, and what else tells it from others of its kind."""
        return self.words

    @abstractmethod
    def dimensions(self, shape: tuple[int, ...]) -> int | None:
        """Of the space, for data of this shape; None where only its weights tell."""

    def foresee(self, data: DataSpec) -> None:
        """Raise UserError if it is known before reading that this data cannot be compared here."""
        width = self.dimensions(data.shape)
        if width is not None and width > WIDEST:
            raise UserError(
                f"evaluation.features: {self.kind} of this data has {width:,} dimensions, whose covariance alone takes "
                f"{8e-9 * width**2:.3g} GB: use classifier or inception, or smaller images"
            )

    def check(self, codec: Codec) -> None:
        """Raise UserError if what was read of the data cannot be compared here."""

    def ready(self) -> None:
        """Raise UserError or EnvironmentProblem if files or packages that it needs are not there, or not right."""

    def is_made(self, source: Source, cache: Path) -> bool:
        """Whether what is trained once on the data is there. The source need not hold its examples."""
        return not self.learns

    def seconds(self, source: Source) -> float:
        """Estimate, from a few steps on this machine, of what training the extractor takes once."""
        return 0.0

    def quick(self) -> FeatureSpace:
        """One that looks at images just as fast and is made in no time, for somebody who times it."""
        return self

    def prepare(self, source: Source, cache: Path) -> None:
        """Make what is made once, with progress on standard error, so that trials find it. Raises as `build` does."""

    @abstractmethod
    def build(self, source: Source, cache: Path) -> Extractor:
        """The extractor on the source's device. Raises UserError for data it cannot look at."""

    def unseen(self, extractor: Extractor, held_out: Source, cache: Path) -> str:
        """What a person should know of how it fares on the test split, to follow its remark; empty: nothing."""
        return ""


class Pixels(FeatureSpace):
    """The values themselves: exact on toy data, a poor judge of images."""

    words: ClassVar[str] = "the pixels themselves"
    kind: Literal["pixels"] = "pixels"

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """As many as there are values."""
        return math.prod(shape)

    def build(self, source: Source, cache: Path) -> Extractor:
        """Flattening; there are no weights."""
        return Extractor(lambda x: x.flatten(1), "none")


def needs_images(kind: str, shape: tuple[int, ...]) -> None:
    """Raise UserError for points."""
    if len(shape) != 3:
        raise UserError(f"evaluation.features: {kind} needs images: use kind: pixels for points")


def needs_colours(kind: str, shape: tuple[int, ...]) -> None:
    """Raise UserError for points, and for images that are neither grey nor RGB."""
    needs_images(kind, shape)
    if shape[0] not in (1, 3):
        raise UserError(
            f"evaluation.features: {kind} looks at grey or RGB images, and the data has {shape[0]} channels: use "
            "kind: classifier or pixels, or data without alpha"
        )


ValueSpaces = Pixels
"""The members of this file: a new space without a network is one class above and one name here."""

"""What does every set of pictures share? What each picture is fitted to, whether it is mirrored, how it is served."""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from trainer.data.base import DataSpec, Outline
from trainer.data.picture import Background, Frame, Resize
from trainer.data.pictures import Pictures, outline_of, source_of
from trainer.data.source import Source
from trainer.spec import Neutral

Side = Annotated[int, Field(ge=1, le=8192)]
"""Pixels."""
Place = Annotated[str, Field(min_length=1)]
"""Where pictures lie."""


def _squared(size: int | tuple[int, int]) -> int | tuple[int, int]:
    """[32, 32] is 32."""
    return size[0] if isinstance(size, tuple) and size[0] == size[1] else size


Size = Annotated[Side | tuple[Side, Side], AfterValidator(_squared)]
"""A side, or [height, width]."""


class Framed(DataSpec):
    """A set of pictures that are fitted to one size: a member says where they are (`_pictures`)."""

    size: Size = 32
    """Side in pixels, or [height, width]: resized to just cover it, then the centre cropped."""
    resize: Resize = "bicubic"
    """How: antialiased bicubic, bilinear, lanczos or box; box_halving: 2 x 2 means first, as improved-diffusion."""
    grayscale: bool = False
    """One channel instead of three."""
    flip: bool = True
    """Mirror left to right at random during training: set it to false where left and right differ, as in text."""

    @property
    def frame(self) -> Frame:
        """What every picture is fitted to."""
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        return Frame(height, width, self.grayscale, self.resize)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""
        return self.frame.shape

    @property
    def flips(self) -> bool:
        """As asked for."""
        return self.flip

    def load(self, root: Path, cache: Path | None = None) -> Source:
        """Images uint8 [N, C, H, W], decoded once into `cache`; labels and tags if there are any."""
        return source_of(self._pictures(root, cache), self.frame, cache=cache, flip=self.flip)

    def fingerprint(self, root: Path, cache: Path | None = None) -> str:
        """Digest of the pictures as they are stored in their order, the labels and the frame, wherever they lie."""
        return self._pictures(root, cache).fingerprint(self.frame)

    def outline(self, root: Path, cache: Path | None = None) -> Outline:
        """Images, their sizes, classes, what was left out."""
        pictures = self._pictures(root, cache)
        source = outline_of(pictures, self.frame, flip=self.flip)
        remarks = pictures.remarks(self.frame)
        if self.flip:
            remarks += ("mirrored at random in training (data.flip)",)
        return Outline(source.fingerprint, source, pictures.line(), remarks)

    @abstractmethod
    def _pictures(self, root: Path, cache: Path | None) -> Pictures:
        """What can be used of the set, none of it decoded yet. Raises DataError."""


class Composed(Framed):
    """Pictures that may be transparent."""

    background: Background = "white"
    """What lies behind transparent pixels: white, as paper and most viewers; black ink would vanish on black."""
    alpha: Annotated[bool, Neutral(False)] = False
    """Keep transparency as a channel more, RGBA or grey with alpha; what nobody sees has the background's colour."""

    @property
    def frame(self) -> Frame:
        """What every picture is fitted to."""
        return replace(super().frame, background=self.background, alpha=self.alpha)


class OwnFiles(Composed):
    """Pictures in a folder or file of one's own. The kinds are older than two of the fields, and keep their keys."""

    incidental: ClassVar[frozenset[str]] = frozenset({"path", "test"})
    without_test: ClassVar[str] = "data.test: say where images lie that training does not see"

    path: Place
    test: Annotated[Place | None, Neutral(None)] = None
    """Another such path, of images that training does not see: for `evaluation.reference: test` and metrics of
    `split: test`; null: there are none. Classes are known by their names."""
    resize: Annotated[Resize, Neutral("bicubic")] = "bicubic"
    """How: antialiased bicubic, bilinear, lanczos or box; box_halving: 2 x 2 means first, as improved-diffusion."""
    background: Annotated[Background, Neutral("white")] = "white"
    """What lies behind transparent pixels: white, as paper and most viewers; black ink would vanish on black."""

    def held_out(self, root: Path, cache: Path | None = None) -> DataSpec | None:
        """What `test` names, fitted alike."""
        if self.test is None:
            return None
        return self.model_copy(update={"path": self.test, "test": None})

"""Which fields does every set of pictures share? What each picture is fitted to, and whether training mirrors it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from trainer.data.base import DataSpec
from trainer.data.picture import Background, Frame, Resize

Side = Annotated[int, Field(ge=1, le=8192)]
"""Pixels."""


def _squared(size: int | tuple[int, int]) -> int | tuple[int, int]:
    """[32, 32] is 32."""
    return size[0] if isinstance(size, tuple) and size[0] == size[1] else size


Size = Annotated[Side | tuple[Side, Side], AfterValidator(_squared)]
"""A side, or [height, width]."""


def frame_of(
    size: int | tuple[int, int], grayscale: bool, resize: Resize, background: Background = "white"
) -> Frame:
    """What pictures of these settings are fitted to."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return Frame(height, width, grayscale, resize, background)


class Framed(DataSpec):
    """A set of pictures that are fitted to one size."""

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
        return frame_of(self.size, self.grayscale, self.resize)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""
        return self.frame.shape

    @property
    def flips(self) -> bool:
        """As asked for."""
        return self.flip

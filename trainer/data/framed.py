"""Which fields does every set of pictures share? What each picture is fitted to, and whether training mirrors it."""

from typing import Annotated

from pydantic import Field, field_validator

from trainer.data.base import DataSpec
from trainer.data.picture import Frame, Resize

Side = Annotated[int, Field(ge=1, le=8192)]
"""Pixels."""


class Framed(DataSpec):
    """A set of pictures that are fitted to one size."""

    size: Side | tuple[Side, Side] = 32
    """Side in pixels, or [height, width]: resized to just cover it, then the centre cropped."""
    resize: Resize = "bicubic"
    """How: antialiased bicubic, bilinear, lanczos or box; box_halving: 2 x 2 means first, as improved-diffusion."""
    grayscale: bool = False
    """One channel instead of three."""
    flip: bool = True
    """Mirror left to right at random during training: set it to false where left and right differ, as in text."""

    @field_validator("size", mode="after")
    @classmethod
    def _square(cls, size: int | tuple[int, int]) -> int | tuple[int, int]:
        """[32, 32] is 32."""
        return size[0] if isinstance(size, tuple) and size[0] == size[1] else size

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

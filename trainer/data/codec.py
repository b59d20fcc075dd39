"""How do stored values become x0 and back? What a data set is, without its examples: it goes with every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Codec:
    """Shape, value range and labels of a data set: enough to generate in its terms where it is absent."""

    shape: tuple[int, ...]
    """Of one example: [C, H, W] of images, [D] of points."""
    levels: int | None
    """Largest integer value of a pixel (255, or 16 for the digits); None: stored as float32 in data units."""
    label_names: tuple[str, ...] | None = None
    """Name of label 0, 1, ...; None: the data has no labels."""
    label_counts: tuple[int, ...] | None = None
    """Examples of label 0, 1, ..."""
    tags: tuple[str, ...] | None = None
    """Names of the attributes of which an example may have any number; None: the data has none."""

    @property
    def classes(self) -> int | None:
        """How many labels there are; None: none."""
        return None if self.label_names is None else len(self.label_names)

    def scale(self, stored: Tensor) -> Tensor:
        """float32 x0 [B, ...], images in [-1, 1], of stored values [B, ...]."""
        if self.levels is None:
            return stored
        x0 = stored.to(torch.float32, copy=True)
        return x0.mul_(2.0 / self.levels).sub_(1.0)

    def quantize(self, x: Tensor) -> Tensor:
        """Generated x rounded to the values that data can take, still in [-1, 1]."""
        if self.levels is None:
            return x
        half = 0.5 * self.levels
        return ((x + 1.0) * half).round().clamp(0.0, float(self.levels)) / half - 1.0

    def label(self, u: Tensor) -> Tensor:
        """Labels int64 [B] for uniform u [B] in (0, 1), each as often as the data has it."""
        assert self.label_counts is not None, "data without labels"
        ends = torch.tensor(self.label_counts, dtype=torch.float64, device=u.device).cumsum(0)
        drawn = torch.searchsorted(ends, u.double() * ends[-1], right=True)
        return drawn.clamp_max(len(ends) - 1)

    def to_state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Codec:
        """Inverse of `to_state`."""
        names, counts, tags = state["label_names"], state["label_counts"], state.get("tags")
        return cls(
            tuple(state["shape"]),
            state["levels"],
            None if names is None else tuple(names),
            None if counts is None else tuple(counts),
            None if tags is None else tuple(tags),
        )

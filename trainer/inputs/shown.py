"""Which examples do samples start from where the data set is absent? The first ones, kept with the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trainer.data import Absent, Codec, Source
from trainer.errors import DataError
from trainer.inputs.base import NetworkInput
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kept(Absent):
    """A data set of which the first examples and their tags are known."""

    count: int = 0
    """How many examples the data set has."""
    first: Tensor | None = None
    """Stored values [n, ...] of its first examples."""
    first_tags: Tensor | None = None
    """bool [m, K] of its first examples."""

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Tensor) -> Tensor:
        """Stored values of the first rows; DataError beyond them."""
        return self._of(self.first, rows)

    def tags_of(self, rows: Tensor) -> Tensor | None:
        """Tags of the first rows; DataError beyond them."""
        return self._of(self.first_tags, rows)

    def to(self, device: torch.device) -> Kept:
        """Moved."""
        first, tags = (None if t is None else t.to(device) for t in (self.first, self.first_tags))
        return replace(self, on=device, first=first, first_tags=tags)

    def _of(self, kept: Tensor | None, rows: Tensor) -> Tensor:
        held = 0 if kept is None else len(kept)
        if kept is None or int(rows.max()) >= held:
            raise DataError(
                f"these samples are made for examples of the data set {self.fingerprint}, which is not here, and the "
                f"checkpoint keeps the first {held} of them: ask for samples 0 to {held - 1}, or load the data set"
            )
        return kept[rows]


def keep(inputs: Sequence[NetworkInput], source: Source) -> dict[str, Any] | None:
    """What a checkpoint must hold of the data for these inputs to speak without it; None: nothing."""
    images = max((one.examples_kept() for one in inputs), default=0)
    tags = max((one.tags_kept() for one in inputs), default=0)
    if not images and not tags:
        return None

    def rows(count: int) -> Tensor:
        return torch.arange(min(count, len(source)), device=source.device)

    return {
        "count": len(source),
        "first": source.read(rows(images)).cpu() if images else None,
        "first_tags": source.tags_of(rows(tags)) if tags else None,
    }


def kept(
    state: dict[str, Any] | None, codec: Codec, fingerprint: str, device: torch.device
) -> Source:
    """What `keep` gave, as a data set; one that holds nothing where it gave nothing."""
    if state is None:
        return Absent(codec, fingerprint, device)
    return Kept(codec, fingerprint, device, **state).to(device)

"""How do examples come by tags? A source of pictures beside a table that says which attributes each has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.source import Source
from trainer.data.through import Through
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class Tagged(Through):
    """The examples of another source, with tags that are always in memory."""

    def __init__(self, source: Source, tags: Tensor) -> None:
        """`tags` bool [N, K], of the K names in the source's codec."""
        super().__init__(source, source.codec)
        self._tags = tags

    def tags_of(self, rows: Tensor) -> Tensor:
        """bool [B, K], on the device."""
        return self._tags[rows.to(self._tags.device)]

    def to(self, device: torch.device) -> Tagged:
        """Both."""
        return Tagged(self._source.to(device), self._tags.to(device))

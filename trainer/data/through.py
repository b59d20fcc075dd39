"""A source of another's examples: what is told of them may differ, they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.codec import Codec
from trainer.data.source import Source
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class Through(Source):
    """The examples of another source; a member changes what is told of them, and how it moves."""

    def __init__(self, source: Source, codec: Codec) -> None:
        self.codec, self.fingerprint, self.flip = codec, source.fingerprint, source.flip
        self._source = source

    @property
    def resident(self) -> bool:
        """As the examples are."""
        return self._source.resident

    @property
    def device(self) -> torch.device:
        """Where the examples are served."""
        return self._source.device

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Tensor) -> Tensor:
        """The examples."""
        return self._source.read(rows)

    def announce(self, rows: Tensor) -> None:
        """To the examples."""
        self._source.announce(rows)

    def labels_of(self, rows: Tensor) -> Tensor | None:
        """Their labels."""
        return self._source.labels_of(rows)

    def tags_of(self, rows: Tensor) -> Tensor | None:
        """Their tags."""
        return self._source.tags_of(rows)

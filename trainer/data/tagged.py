"""How do examples come by tags? A source of pictures beside a table that says which attributes each has."""

import torch
from torch import Tensor

from trainer.data.source import Source


class Tagged(Source):
    """The examples of another source, with tags that are always in memory."""

    def __init__(self, source: Source, tags: Tensor) -> None:
        """`tags` bool [N, K], of the K names in the source's codec."""
        self.codec, self.fingerprint, self.flip = source.codec, source.fingerprint, source.flip
        self._source, self._tags = source, tags

    @property
    def resident(self) -> bool:
        """As the pictures are."""
        return self._source.resident

    @property
    def device(self) -> torch.device:
        """Where the pictures are served."""
        return self._source.device

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Tensor) -> Tensor:
        """The pictures."""
        return self._source.read(rows)

    def announce(self, rows: Tensor) -> None:
        """To the pictures."""
        self._source.announce(rows)

    def labels_of(self, rows: Tensor) -> Tensor | None:
        """The pictures' labels."""
        return self._source.labels_of(rows)

    def tags_of(self, rows: Tensor) -> Tensor:
        """bool [B, K], on the device."""
        return self._tags[rows.to(self._tags.device)]

    def to(self, device: torch.device) -> "Tagged":
        """Both."""
        return Tagged(self._source.to(device), self._tags.to(device))

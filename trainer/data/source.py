"""How are the examples of a data set served? By row; nobody outside knows where they lie."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainer.data.codec import Codec
from trainer.errors import DataError
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class Source(ABC):
    """All examples of a data set."""

    codec: Codec
    fingerprint: str
    """Identity of the content: what the data's spec gives for it."""
    flip: bool
    """Whether training mirrors images left to right at random."""

    @property
    @abstractmethod
    def resident(self) -> bool:
        """Whether all examples lie in the memory of `device`."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where `read` puts the examples."""

    @abstractmethod
    def __len__(self) -> int:
        """How many examples there are."""

    @abstractmethod
    def read(self, rows: Tensor) -> Tensor:
        """Stored values [B, ...] (uint8, or float32) of rows int64 [B]."""

    @abstractmethod
    def labels_of(self, rows: Tensor) -> Tensor | None:
        """Labels int64 [B] of rows [B]; None where the data has none."""

    def tags_of(self, rows: Tensor) -> Tensor | None:
        """Which of the codec's tags they have, bool [B, K] of rows [B]; None where the data has none."""
        return None

    @abstractmethod
    def to(self, device: torch.device) -> Source:
        """The same examples, served on `device`."""

    def announce(self, rows: Tensor) -> None:  # noqa: B027  # nothing to do is right for what lies in memory
        """Rows int64 [B] that will be read soon: a hint, which changes no value."""

    def passage(self, count: int) -> Iterator[Tensor]:
        """x0 of every example once, in order, `count` [B, ...] at a time; no more of them are ever in memory."""
        size, place = len(self), torch.device("cpu") if not self.resident else self.device
        for first in range(0, size, count):
            rows = torch.arange(first, min(first + count, size), device=place)
            x0 = self.codec.scale(self.read(rows))
            if first + count < size:
                self.announce(rows[: size - first - count] + count)
            yield x0


@dataclass(frozen=True)
class Resident(Source):
    """A whole data set as one tensor: uint8 images [N, C, H, W] or float32 points [N, D]."""

    codec: Codec
    examples: Tensor
    """Stored values [N, ...]."""
    labels: Tensor | None
    """int64 [N], or None."""
    fingerprint: str
    flip: bool = False

    @classmethod
    def of(
        cls,
        examples: Tensor,
        labels: Tensor | None = None,
        *,
        levels: int | None,
        names: tuple[str, ...] | None = None,
        fingerprint: str | None = None,
        flip: bool = False,
    ) -> Resident:
        """From tensors alone; labels without `names` are called by their numbers.

        Without a fingerprint it is that of the values.
        """
        counts = None
        if labels is not None:
            names = names or tuple(str(number) for number in range(int(labels.max()) + 1))
            counts = tuple(torch.bincount(labels, minlength=len(names)).tolist())
        codec = Codec(tuple(examples.shape[1:]), levels, names, counts)
        return cls(codec, examples, labels, fingerprint or digest(examples, labels), flip)

    @property
    def resident(self) -> bool:
        """Always."""
        return True

    @property
    def device(self) -> torch.device:
        """Where the tensor lies."""
        return self.examples.device

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, rows: Tensor) -> Tensor:
        """Whole rows are copied: six times faster than indexing."""
        return self.examples.index_select(0, rows.to(self.device))

    def labels_of(self, rows: Tensor) -> Tensor | None:
        """Indexing."""
        return None if self.labels is None else self.labels[rows]

    def to(self, device: torch.device) -> Source:
        """Moved."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, examples=self.examples.to(device), labels=labels)


@dataclass(frozen=True)
class Absent(Source):
    """A data set of which only the codec and the name are known: a trained model's on another machine, or one that is
    not decoded yet."""

    codec: Codec
    fingerprint: str
    on: torch.device | None = None
    """None: the processor."""
    flip: bool = False
    examples: int | None = None
    """How many there are, where that is known."""

    @property
    def resident(self) -> bool:
        """Never."""
        return False

    @property
    def device(self) -> torch.device:
        """Where samples in its terms are made."""
        return self.on or torch.device("cpu")

    def __len__(self) -> int:
        if self.examples is None:
            raise self._missing()
        return self.examples

    def read(self, rows: Tensor) -> Tensor:
        """Never: raises DataError."""
        raise self._missing()

    def labels_of(self, rows: Tensor) -> Tensor | None:
        """Never: raises DataError."""
        raise self._missing()

    def to(self, device: torch.device) -> Absent:
        """The same, elsewhere."""
        return replace(self, on=device)

    def _missing(self) -> DataError:
        return DataError(
            f"the data set {self.fingerprint} is not here, and the cache does not hold what was measured of it: "
            "copy the cache (DIFFSWEEP_HOME/cache) of the machine that trained, or load the data set"
        )


def digest(*tensors: Tensor | None) -> str:
    """16 hex digits over shapes and values."""
    sha = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            sha.update(f"{tuple(tensor.shape)}/{tensor.dtype}".encode())
            sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]

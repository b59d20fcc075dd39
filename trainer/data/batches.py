"""Which examples does a training step see? Batches by global example index, the same for any number of workers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from trainer.data.source import Source
from trainer.lazily import torch
from trainer.randomness import Stream, derive

if TYPE_CHECKING:
    from torch import Tensor


_REMEMBERED = 48
"""Calls of `get` from which the next are foreseen: some batches of up to so many slices in half."""
_AHEAD = 2
_EPOCHS = 3
"""Permutations kept: the present, the one before it, the next."""


@dataclass(frozen=True)
class Drawn:
    """Examples that a step will see, as they lie in the data; `drawn[a:b]` are some of them.

    What is computed of them, and every random number, is a function of these tensors alone.
    """

    index: Tensor
    """Global index of each, int64 [B]."""
    stored: Tensor
    """Stored values [B, ...]."""
    labels: Tensor | None = None
    """int64 [B]; None: the data has none."""
    tags: Tensor | None = None
    """Which of the codec's tags they have, bool [B, K]; None: the data has none."""

    def __getitem__(self, part: slice) -> Drawn:
        return Drawn(*(None if x is None else x[part] for x in self.tensors()))  # type: ignore[arg-type]

    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of it, in the order of the fields."""
        return self.index, self.stored, self.labels, self.tags

    def copy(self) -> Drawn:
        """The same in tensors of its own."""
        return Drawn(*(None if x is None else x.clone() for x in self.tensors()))  # type: ignore[arg-type]

    def become(self, other: Drawn) -> None:
        """As many others, in the tensors that are there."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            if mine is not None and theirs is not None:
                mine.copy_(theirs)


class Batches:
    """Endless shuffled batches: example i is number i mod N of the permutation of epoch i div N."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source = source
        self.seed = seed
        self._flips = Stream(seed, "data/flip")
        self._epochs: dict[int, Tensor] = {}
        self._calls: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def draw(self, first: int, count: int) -> Drawn:
        """The global examples first, first + 1, ..., read from the data."""
        source, rows = self.source, self.rows(first, count)
        stored = source.read(rows)
        if not source.resident:
            self._calls.append((first, count))
            for coming in foreseen(list(self._calls), _AHEAD):
                source.announce(self.rows(*coming))
        index = torch.arange(first, first + count, device=source.device)
        return Drawn(index, stored, source.labels_of(rows), source.tags_of(rows))

    def get(self, first: int, count: int) -> Tensor:
        """x0 float32 [count, ...] in [-1, 1] of the global examples first, first + 1, ..."""
        drawn = self.draw(first, count)
        return self.seen(drawn, self.mirrored(drawn.index))

    def seen(self, drawn: Drawn, mirrored: Tensor | None) -> Tensor:
        """x0 float32 [B, ...] in [-1, 1], left and right exchanged where that is said (bool [B])."""
        x0 = self.source.codec.scale(drawn.stored)
        if mirrored is None:
            return x0
        return torch.where(mirrored.reshape(-1, *([1] * (x0.ndim - 1))), x0.flip(-1), x0)

    def mirrored(self, index: Tensor) -> Tensor | None:
        """Which examples of global index int64 [B] are seen mirrored left to right (bool [B]); None: never any."""
        return self._flips.coin(index) if self.source.flip else None

    def rows(self, first: int, count: int) -> Tensor:
        """Rows of the data set that those examples read [count]; every epoch visits each row once."""
        size, stop = len(self.source), first + count
        parts = [
            self._permutation(epoch)[max(first - epoch * size, 0) : stop - epoch * size]
            for epoch in range(first // size, (stop - 1) // size + 1)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        """Made once: looking ahead goes to and fro between two epochs."""
        if epoch not in self._epochs:
            generator = torch.Generator().manual_seed(derive(self.seed, f"data/order/{epoch}"))
            order = torch.randperm(len(self.source), generator=generator)
            # what is read from a file is looked up on the processor
            self._epochs[epoch] = order.to(self.source.device) if self.source.resident else order
            for old in [each for each in self._epochs if abs(each - epoch) >= _EPOCHS - 1]:
                del self._epochs[old]
        return self._epochs[epoch]


def foreseen(calls: list[tuple[int, int]], ahead: int) -> list[tuple[int, int]]:
    """The next (first, count) after those that were asked for, if they repeat themselves; else the next in line.

    A worker asks for the slices of its share and then skips the others' shares: the period is a batch.
    """
    steps = [(b[0] - a[0], b[1]) for a, b in pairwise(calls)]
    period = next(
        (p for p in range(1, len(steps) // 2 + 1) if steps[p:] == steps[:-p]),
        None,
    )
    first, count = calls[-1]
    coming = []
    for number in range(ahead):
        if period is None:
            step, following = count, count
        else:
            step, following = steps[len(steps) - period + number % period]
        first, count = first + step, following
        coming.append((first, count))
    return coming

"""Which examples does a training step see? Batches by global example index, the same for any number of workers."""

from __future__ import annotations

from collections import deque
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


class Batches:
    """Endless shuffled batches: example i is number i mod N of the permutation of epoch i div N."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source = source
        self.seed = seed
        self._flips = Stream(seed, "data/flip")
        self._epochs: dict[int, Tensor] = {}
        self._calls: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def get(self, first: int, count: int) -> Tensor:
        """x0 float32 [count, ...] in [-1, 1] of the global examples first, first + 1, ..."""
        x0 = self.source.codec.scale(self.source.read(self.rows(first, count)))
        if not self.source.resident:
            self._calls.append((first, count))
            for coming in foreseen(list(self._calls), _AHEAD):
                self.source.announce(self.rows(*coming))
        mirrored = self.mirrored(first, count)
        if mirrored is not None:
            x0 = torch.where(mirrored.reshape(-1, *([1] * (x0.ndim - 1))), x0.flip(-1), x0)
        return x0

    def mirrored(self, first: int, count: int) -> Tensor | None:
        """Which of these examples are seen mirrored left to right (bool [count]); None: never any."""
        if not self.source.flip:
            return None
        return self._flips.coin(torch.arange(first, first + count, device=self.source.device))

    def labels(self, first: int, count: int) -> Tensor | None:
        """Labels [count] of the same examples, if the data has any."""
        return self.source.labels_of(self.rows(first, count))

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

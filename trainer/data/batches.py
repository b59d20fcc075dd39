"""Which examples does a training step see? Batches by global example index, the same for any number of workers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from trainer.data.source import Source
from trainer.lazily import torch
from trainer.randomness import Stream, derive
from trainer.stretches import Stretches

if TYPE_CHECKING:
    from torch import Tensor


_REMEMBERED = 48
"""Calls of `get` from which the next are foreseen: some batches of up to so many slices in half."""
_AHEAD = 2
_COINS = 1 << 16
"""Examples whose flips are drawn at once."""


@dataclass(frozen=True)
class Drawn:
    """Examples that a step will see, as they lie in the data; `drawn[a:b]` are some of them.

    What is computed of them, and every random number, is a function of these tensors alone.
    """

    index: Tensor
    """Global index of each, int64 [B]."""
    stored: Tensor
    """Stored values [B, ...]."""
    mirrored: Tensor | None = None
    """Which are seen mirrored left to right, bool [B]; None: never any."""
    labels: Tensor | None = None
    """int64 [B]; None: the data has none."""
    tags: Tensor | None = None
    """Which of the codec's tags they have, bool [B, K]; None: the data has none."""

    def __getitem__(self, part: slice) -> Drawn:
        return Drawn(*(None if x is None else x[part] for x in self.tensors()))  # type: ignore[arg-type]

    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of it, in the order of the fields."""
        return self.index, self.stored, self.mirrored, self.labels, self.tags

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
        self._order = Stretches(len(source), self._permutation)
        self._coins = Stretches(_COINS, self._drawn)
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
        mirrored = self._coins.of(first, count) if source.flip else None
        return Drawn(index, stored, mirrored, source.labels_of(rows), source.tags_of(rows))

    def seen(self, drawn: Drawn) -> Tensor:
        """x0 float32 [B, ...] in [-1, 1]."""
        stored = drawn.stored
        if drawn.mirrored is not None:
            # whole rows are copied: where() would decide for each of their values
            rows = torch.arange(len(stored), device=stored.device) + len(stored) * drawn.mirrored
            stored = torch.cat([stored, stored.flip(-1)]).index_select(0, rows)
        return self.source.codec.scale(stored)

    def get(self, first: int, count: int) -> Tensor:
        """x0 float32 [count, ...] in [-1, 1] of the global examples first, first + 1, ..."""
        return self.seen(self.draw(first, count))

    def rows(self, first: int, count: int) -> Tensor:
        """Rows of the data set that those examples read [count]; every epoch visits each row once."""
        return self._order.of(first, count)

    def _permutation(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, f"data/order/{epoch}"))
        order = torch.randperm(len(self.source), generator=generator)
        # what is read from a file is looked up on the processor
        return order.to(self.source.device) if self.source.resident else order

    def _drawn(self, number: int) -> Tensor:
        first = number * _COINS
        return self._flips.coin(torch.arange(first, first + _COINS, device=self.source.device))


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

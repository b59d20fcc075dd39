"""What is a function of the global index alone? Made for a stretch of examples at once, and kept for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

_KEPT = 3
"""Stretches kept: the present, the one before it, the next."""


class Stretches:
    """Something of every global example, made for a stretch of them at once: epochs, or what else has a length."""

    def __init__(self, length: int, make: Callable[[int], Tensor], axis: int = 0) -> None:
        """`make(k)` is that of the examples k * length, k * length + 1, ..., which lie along `axis`."""
        self._length, self._make, self._axis = length, make, axis
        self._made: dict[int, Tensor] = {}

    def of(self, first: int, count: int) -> Tensor:
        """That of the global examples first, first + 1, ..., `count` along the axis."""
        length, stop = self._length, first + count
        parts = []
        for number in range(first // length, (stop - 1) // length + 1):
            begin = max(first - number * length, 0)
            end = min(stop - number * length, length)
            parts.append(self._stretch(number).narrow(self._axis, begin, end - begin))
        return parts[0] if len(parts) == 1 else torch.cat(parts, self._axis)

    def _stretch(self, number: int) -> Tensor:
        """Made once: looking ahead goes to and fro between two."""
        if number not in self._made:
            self._made[number] = self._make(number)
            for old in [each for each in self._made if abs(each - number) >= _KEPT - 1]:
                del self._made[old]
        return self._made[number]

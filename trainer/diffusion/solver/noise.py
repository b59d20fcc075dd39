"""Which noise does a step use? A number names a draw; a Brownian path also relates overlapping intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


NoiseSource: TypeAlias = "Callable[[int], Tensor]"
"""draw number -> standard normal noise [B, ...], independent between numbers. The number is the step, except where
a solver draws twice in a step. A source may also be a `PathNoise`."""

PATH_ENDS = (math.exp(-15.0), math.exp(15.0))
"""Range of edm_sigma that the path resolves: log-SNR from 30 to -30."""
DEPTH = 20
"""Halvings (in the logarithm) of that range; between neighbours 3e-5 apart the path is a straight line."""
PATH_DRAWS = 1 << 24
"""First number of the path's own draws, out of the way of the draws by step."""


@runtime_checkable
class PathNoise(Protocol):
    """A noise source that knows where it is asked: Brownian motion W over edm_sigma."""

    def __call__(self, step: int) -> Tensor:
        """Independent standard normal noise for what does not lie on the path."""
        ...

    def between(self, upper: float, lower: float) -> Tensor:
        """(W(upper) - W(lower)) / sqrt(upper - lower), standard normal; overlapping intervals are correlated."""
        ...


class BrownianPath:
    """W(edm_sigma) built from numbered normal draws by bridging the geometric middle (Levy's construction).

    Every grid reads the same path, so samples of one seed stay comparable when the number of steps changes.
    Implements `PathNoise`.
    """

    def __init__(self, source: NoiseSource) -> None:
        self.source = source

    def __call__(self, step: int) -> Tensor:
        """Draw `step` of the source, not on the path."""
        return self.source(step)

    def between(self, upper: float, lower: float) -> Tensor:
        """Standardized increment from `lower` to `upper`; both are kept within `PATH_ENDS`."""
        low, high = (min(max(level, PATH_ENDS[0]), PATH_ENDS[1]) for level in (lower, upper))
        if not low < high:
            raise ValueError(f"no Brownian increment between edm_sigma {lower:g} and {upper:g}")
        return (self._at(high) - self._at(low)) / math.sqrt(high - low)

    def _at(self, level: float) -> Tensor:
        """W(level), down the tree in which node n has the children 2n and 2n + 1."""
        (low, high), node = PATH_ENDS, 1
        at_low = math.sqrt(low) * self._draw(0)
        at_high = at_low + math.sqrt(high - low) * self._draw(node)
        for _ in range(DEPTH):
            middle = math.sqrt(low * high)
            share = (middle - low) / (high - low)
            spread = math.sqrt(share * (high - middle))
            node *= 2
            at_middle = at_low + share * (at_high - at_low) + spread * self._draw(node)
            if level < middle:
                high, at_high = middle, at_middle
            else:
                low, at_low, node = middle, at_middle, node + 1
        return at_low + (level - low) / (high - low) * (at_high - at_low)

    def _draw(self, node: int) -> Tensor:
        return self.source(PATH_DRAWS + node).to(torch.float64)


def draw(noise: NoiseSource, number: int, upper: float, lower: float) -> Tensor:
    """Noise for the interval of edm_sigma from the path if there is one, else draw `number`."""
    if isinstance(noise, PathNoise):
        return noise.between(upper, lower)
    return noise(number)

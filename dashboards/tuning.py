"""What did a search find, in plain values? And how good is the best of so many candidates?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_EDGE = 0.03
"""Closer to an end of its range than this share of it, a value is at the end."""


@dataclass(frozen=True)
class Point:
    """One candidate that has ended."""

    number: int
    """From 0, in the order in which they were asked."""
    setting: Mapping[str, str]
    """Dotted path to its value, as a person would write it."""
    place: Mapping[str, float]
    """Dotted path to where its value lies between the ends of the range, from 0 to 1."""
    value: float
    """Its number, the mean over its seeds; not finite where it diverged or broke."""
    score: float
    """By which candidates are ordered: smaller is better, inf is the worst."""


@dataclass(frozen=True)
class Tuning:
    """One search: of one cell, or of all together."""

    cells: tuple[str, ...]
    """That share the winner."""
    metric: str
    """What `value` is, with its unit."""
    lower_is_better: bool
    by: str
    """Who chose the candidates."""
    planned: int
    """Candidates in all."""
    seeds: tuple[int, ...]
    """With which each was trained; those of the comparison are others."""
    points: tuple[Point, ...]
    """By number."""
    asked: int
    """Candidates so far, those at work too."""
    winner: int | None = None
    """Number of the best one, once all have ended."""
    importances: Mapping[str, float] = field(default_factory=dict)
    """Dotted path to its share in the variance of the score; empty where nothing can be said."""

    @property
    def best(self) -> Point | None:
        """The best so far, the earliest of equals; None while there is none that works."""
        sound = [point for point in self.points if math.isfinite(point.score)]
        return min(sound, key=lambda point: (point.score, point.number), default=None)

    @property
    def at_an_end(self) -> list[str]:
        """The paths at which the best so far lies at an end of its range: a better one may lie beyond."""
        places = self.best.place if self.best is not None else {}
        return [path for path, place in places.items() if not _EDGE <= place <= 1.0 - _EDGE]

    @property
    def running_best(self) -> list[tuple[int, float]]:
        """(candidates spent, the best value among them), from the first that works on."""
        line: list[tuple[int, float]] = []
        best = math.inf
        held = math.nan
        for spent, point in enumerate(self.points, start=1):
            if point.score < best:
                best, held = point.score, point.value
            if math.isfinite(best):
                line.append((spent, held))
        return line


class Band(NamedTuple):
    """The best of so many candidates, over all orders in which they could have come."""

    spent: list[int]
    low: list[float]
    middle: list[float]
    high: list[float]
    """Best-so-far values that 10, 50 and 90 % of the orders reach or beat; not finite ones are left out."""


def best_of_any_order(points: Sequence[Point]) -> Band:
    """How good the best of k is, for every k: exact over all orderings, for candidates drawn independently.

    The quantiles of what Dodge et al. (2019, arXiv 1909.03004) call expected validation performance, over
    draws without replacement (Tang et al., 2020, arXiv 2004.13705); of quantiles, a diverged candidate is one.
    """
    ranked = sorted(points, key=lambda point: point.score)
    values = [p.value if math.isfinite(p.score) else math.inf for p in ranked]
    count = len(ranked)
    band = Band([], [], [], [])
    first = np.arange(1, count + 1)
    for spent in range(1, count + 1):
        # P(the best is among the first i) = 1 - C(n - i, k) / C(n, k)
        without = np.where(count - first >= spent, _log_choose(count - first, spent), -np.inf)
        reached = 1.0 - np.exp(without - _log_choose(np.array([count]), spent))
        low, middle, high = (
            values[int(np.argmax(reached >= share - 1e-9))] for share in (0.1, 0.5, 0.9)
        )
        if math.isfinite(low) and math.isfinite(middle) and math.isfinite(high):
            band.spent.append(spent)
            band.low.append(low)
            band.middle.append(middle)
            band.high.append(high)
    return band


def _log_choose(n: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    from scipy.special import gammaln

    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(np.maximum(n - k, 0) + 1.0))

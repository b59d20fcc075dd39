"""How many more seeds would settle it? A power calculation from the pairs that are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dashboards.verdict.statistics import ALPHA, Floats, deviation, fewest_seeds

POWER = 0.8
MOST_SEEDS = 1000


@dataclass(frozen=True)
class MoreSeeds:
    """How many more seeds would settle it, if the true difference is the one seen."""

    more: int | None
    """None when `MOST_SEEDS` would not do."""
    total: int | None
    low: int | None
    """Fewest further seeds when the noise is as small as the data allow (80 % band of the sd)."""
    high: int | None
    """The same for the largest noise; None beyond `MOST_SEEDS`, or when one pair tells no noise."""
    spread_known: bool
    """False for a single pair: the number is then only the fewest that any test needs."""


def more_seeds(
    values: Sequence[float] | Floats,
    *,
    margin: float | None,
    comparisons: int = 1,
    alpha: float = ALPHA,
    power: float = POWER,
) -> MoreSeeds:
    """Power calculation: paired t test at `alpha` / comparisons, or SAME if that is nearer.

    `margin` is absolute. A difference takes at least the seeds a sign-flip test needs for alpha.
    """
    data = np.asarray(values, dtype=np.float64)
    fewest = fewest_seeds(comparisons, alpha)
    if data.size < 2:
        return MoreSeeds(fewest - data.size, fewest, None, None, spread_known=False)
    mean, sd, freedom = float(data.mean()), deviation(data), data.size - 1

    def total(noise: float) -> int | None:
        detect = _seeds_to_detect(mean, noise, alpha / comparisons, power, fewest)
        same = _seeds_to_equate(mean, noise, margin, alpha, power)
        settled = [n for n in (detect, same) if n is not None]
        return max(data.size + 1, min(settled)) if settled else None

    small = sd * math.sqrt(freedom / float(stats.chi2.ppf(0.9, freedom)))
    large = sd * math.sqrt(freedom / float(stats.chi2.ppf(0.1, freedom)))
    totals = [total(noise) for noise in (sd, small, large)]
    more, low, high = (None if n is None else n - data.size for n in totals)
    return MoreSeeds(more, totals[0], low, high, spread_known=True)


def _seeds_to_detect(mean: float, sd: float, alpha: float, power: float, fewest: int) -> int | None:
    if mean == 0:
        return None
    if sd == 0:
        return fewest
    return _first(lambda n: _t_power(abs(mean) / sd, n, alpha) >= power, max(2, fewest))


def _t_power(effect: float, n: int, alpha: float) -> float:
    critical = float(stats.t.ppf(1 - alpha / 2, n - 1))
    shift = effect * math.sqrt(n)
    if shift > 30:
        return 1.0
    return float(stats.nct.sf(critical, n - 1, shift))


def _seeds_to_equate(
    mean: float, sd: float, margin: float | None, alpha: float, power: float
) -> int | None:
    if margin is None or abs(mean) >= margin:
        return None
    if sd == 0:
        return 2

    def enough(n: int) -> bool:
        error = sd / math.sqrt(n)
        critical = float(stats.t.ppf(1 - alpha / 2, n - 1))
        above = float(stats.t.cdf((margin - mean) / error - critical, n - 1))
        below = float(stats.t.cdf((margin + mean) / error - critical, n - 1))
        return above + below - 1 >= power

    return _first(enough, 2)


def _first(enough: Callable[[int], bool], start: int) -> int | None:
    """The smallest n in [start, MOST_SEEDS] for which the increasing predicate holds."""
    if enough(start):
        return start
    if not enough(MOST_SEEDS):
        return None
    low, high = start, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

"""Is a paired difference more than luck? Interval, exact test, correction, seeds it would take.

Plain numbers in, plain numbers out; which numbers are paired is decided in `verdict`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 1000
_EXACT_UP_TO = 16
_MONTE_CARLO = 2**16

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a mean; both ends are None where the data cannot give one."""

    low: float | None
    high: float | None
    level: float
    method: str
    """`bca`, `percentile`, `constant` (all values equal), `t` or `none`."""
    note: str | None = None
    """What a reader has to know before trusting it."""

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return self.low is not None and self.high is not None

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies in [-margin, margin]; False for an unknown one."""
        return (
            self.low is not None
            and self.high is not None
            and -margin <= self.low
            and self.high <= margin
        )

    def mapped(self, function: Callable[[float], float]) -> Interval:
        """The interval of an increasing function of the mean."""
        if self.low is None or self.high is None:
            return self
        low, high = function(self.low), function(self.high)
        return Interval(low, high, self.level, self.method, self.note)


def bootstrap_interval(
    values: Sequence[float] | Floats,
    *,
    level: float = 1 - ALPHA,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """BCa bootstrap interval of the mean (Efron 1987), the same on every call.

    One value gives no interval; equal values give one without width; where BCa is undefined the
    percentile interval is given. `note` says so, and says when a bootstrap is too short to trust.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return Interval(None, None, level, "none", "one pair has no spread: no interval")
    if np.ptp(data) <= 1e-12 * np.abs(data).max():
        mean = float(data.mean())
        return Interval(mean, mean, level, "constant", "all differences are equal")
    note = _short_sample_note(data.size)
    low, high = _bootstrap(data, "BCa", level, resamples, seed)
    if math.isfinite(low) and math.isfinite(high):
        return Interval(low, high, level, "bca", note)
    low, high = _bootstrap(data, "percentile", level, resamples, seed)
    fallback = "BCa is undefined for these values, this is the percentile interval"
    return Interval(low, high, level, "percentile", "; ".join(filter(None, [fallback, note])))


def _bootstrap(
    data: Floats, method: Literal["BCa", "percentile"], level: float, resamples: int, seed: int
) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (data,),
            np.mean,
            confidence_level=level,
            n_resamples=resamples,
            method=method,
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def _short_sample_note(n: int) -> str | None:
    if n >= 8:
        return None
    return f"with {n} pairs a bootstrap interval is too short (it covers less than it says)"


def student_interval(values: Sequence[float] | Floats, *, level: float = 1 - ALPHA) -> Interval:
    """Student's t interval of the mean: wide at few values, right for about normal ones."""
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return Interval(None, None, level, "none", "one pair has no spread: no interval")
    half = float(stats.t.ppf((1 + level) / 2, data.size - 1)) * _sd(data) / math.sqrt(data.size)
    mean = float(data.mean())
    return Interval(mean - half, mean + half, level, "t")


def sign_flip_p(values: Sequence[float] | Floats, *, seed: int = 0) -> float:
    """Two-sided p of the mean under random signs: exact up to 16 values, seeded Monte Carlo beyond.

    Exact for any distribution as long as the two members of a pair are exchangeable under the null
    hypothesis (Fisher 1935). The smallest it can be is 2 / 2^n.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        return 1.0
    seen = abs(float(data.sum()))
    slack = 1e-9 * float(np.abs(data).sum())
    if data.size <= _EXACT_UP_TO:
        bits = np.arange(2**data.size)[:, None] >> np.arange(data.size) & 1
        sums = np.abs((2.0 * bits - 1.0) @ data)
        return float(np.mean(sums >= seen - slack))
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(_MONTE_CARLO, data.size)) * 2.0 - 1.0
    hits = int(np.count_nonzero(np.abs(signs @ data) >= seen - slack))
    return (hits + 1) / (_MONTE_CARLO + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def smallest_p(n: int, comparisons: int = 1) -> float:
    """The smallest (Holm-adjusted) p that `n` pairs can reach when all comparisons are as clear."""
    return min(1.0, comparisons * 2.0 / 2.0**n)


def fewest_seeds(comparisons: int = 1, alpha: float = ALPHA) -> int:
    """The fewest pairs whose smallest p is below `alpha`: six for one comparison at .05."""
    n = 1
    while smallest_p(n, comparisons) >= alpha:
        n += 1
    return n


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
    mean, sd, freedom = float(data.mean()), _sd(data), data.size - 1

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


def _sd(data: Floats) -> float:
    """Sample standard deviation; rounding noise of equal values counts as none."""
    sd = float(data.std(ddof=1))
    return sd if sd > 1e-12 * float(np.abs(data).max()) else 0.0

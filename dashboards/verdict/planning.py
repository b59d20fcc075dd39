"""What would more seeds do? The smallest difference they detect, and how probable a decision is."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dashboards.verdict.looks import spending
from dashboards.verdict.statistics import ALPHA, Floats, deviation, signs, smallest_p

POWER = 0.8
_MOST_RIVALS = 50
"""More are simulated as so many."""
_SIMULATIONS = 4000
_FLIPPED_BELOW = 10
"""Pairs below which what has to be exceeded is that of the flips of the data at hand: they are few."""


@dataclass(frozen=True)
class Outlook:
    """What a number of seeds would do, by the noise of the pairs that are there."""

    seeds: int
    """In all."""
    detects: float
    """The smallest effect, on the scale of the differences, that they find in 80 % if no other cell differs."""
    decides: float | None
    """Predictive probability that they decide, given what was seen; None: too few pairs to say."""
    is_new: bool = False
    """Whether they have to be planned from the start: what may be spent on this experiment is spent."""
    hours: float | None = None
    """CPU- or GPU-hours of the seeds that are missing, in all cells."""
    cost_unit: str = "CPU"


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a pair's difference, and its degrees of freedom."""

    sd: float
    freedom: int


def pooled(samples: Sequence[Floats]) -> Noise | None:
    """The noise that samples of differences have in common; None where no sample has two values."""
    known = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in known)
    if not freedom:
        return None
    squares = sum((len(sample) - 1) * deviation(sample) ** 2 for sample in known)
    return Noise(math.sqrt(squares / freedom), freedom)


@functools.lru_cache(maxsize=256)
def detectable(n: int, rivals: int = 1, alpha: float = ALPHA, power: float = POWER) -> float:
    """The effect in standard deviations that n pairs find with this probability: infinite where none can.

    One of `rivals` cells differs, the others do not; all share the baseline's noise. By simulation of normal
    pairs, with what the largest of all rivals has to exceed.
    """
    rivals = min(rivals, _MOST_RIVALS)
    # p values are multiples of the smallest
    reached = math.floor(alpha / smallest_p(n) + 1e-9) * smallest_p(n)
    if reached == 0:
        return math.inf
    found = (_by_flips if n < _FLIPPED_BELOW else _by_limit)(n, rivals, reached)
    low, high = 0.0, 16.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high


def _by_limit(n: int, rivals: int, alpha: float) -> Callable[[float], float]:
    """Power by effect, with one limit for all data."""
    highest = _statistics((n,), rivals, 0.0).max(axis=(1, 2))
    limit = float(np.quantile(highest, 1 - alpha))
    noise = np.random.default_rng(n).standard_normal((_SIMULATIONS // 2, n))

    def found(effect: float) -> float:
        pairs = noise + effect
        return float(np.mean(np.abs(pairs.sum(axis=1)) / np.sqrt((pairs**2).sum(axis=1)) > limit))

    return found


def _by_flips(n: int, rivals: int, alpha: float) -> Callable[[float], float]:
    """Power by effect, with the limit that the flips of each data set give: of few pairs it varies a lot."""
    rows = signs(n)[: 2 ** (n - 1)]  # the others are these, turned
    size = max(200, min(_SIMULATIONS // 2, 8_000_000 // (len(rows) * rivals)))
    trials = np.random.default_rng(n).standard_normal((size, n, rivals + 1)) / math.sqrt(2)
    pairs = trials[..., 1:] - trials[..., :1]
    others = _flipped(rows, pairs[..., 1:]).max(axis=-1, initial=0.0)

    def found(effect: float) -> float:
        own = _flipped(rows, pairs[..., :1] + effect)[..., 0]
        p = np.mean(np.maximum(own, others) >= own[:, :1] - 1e-9, axis=1)
        return float(np.mean(p <= alpha + 1e-9))

    return found


def _flipped(rows: Floats, pairs: Floats) -> Floats:
    """Standardized sums [simulations, rows, rivals] of pairs [simulations, n, rivals] with these signs."""
    return np.asarray(np.abs(rows @ pairs) / np.sqrt((pairs**2).sum(axis=1, keepdims=True)))


def decision_probability(
    differences: Floats, noise: Noise, total: int, margin: float | None, need: float
) -> float:
    """How probably `total` pairs find a difference, or that it is within the margin, given those so far.

    The mean of all is predicted from a flat prior: a t distribution around the mean so far. It decides
    beyond `need`, the effect in standard deviations that so many pairs find half of the time.
    """
    from scipy import special

    n, mean = len(differences), float(differences.mean())
    if math.isinf(need):
        return 0.0
    if noise.sd == 0:
        return 1.0
    need *= noise.sd
    scale = noise.sd * math.sqrt((total - n) / (n * total))
    within = 0.0 if margin is None else min(need, max(0.0, margin - need))
    if scale == 0:
        return float(abs(mean) > need or abs(mean) < within)
    ends = (np.array([-need, -within, within, need]) - mean) / scale
    below = special.stdtr(noise.freedom, ends)  # Student's cumulative distribution
    return float(np.clip(below[0] + below[2] - below[1] + 1 - below[3], 0.0, 1.0))


@dataclass(frozen=True)
class Expected:
    """What a design costs and finds under a stated difference."""

    effect: float
    """In standard deviations of a pair's difference."""
    seeds: float
    """Mean number of seeds of a cell until it is decided or the seeds are used up."""
    trials: float
    """Mean number of trials of all cells, the baseline's too."""
    finds: float
    """Probability that a cell is found to be different."""


def expected(looks: Sequence[int], rivals: int, effect: float) -> Expected:
    """What planned looks come to if every rival differs from the baseline by `effect`, with normal noise.

    By simulation: all rivals share the baseline's noise, a test's threshold is that of the largest of them.
    """
    nothing = _statistics(tuple(looks), rivals, 0.0)
    found = nothing if effect == 0 else _statistics(tuple(looks), rivals, effect)
    early = np.zeros(len(nothing), dtype=bool)
    at = np.full(found.shape[::2], looks[-1])
    is_open = np.ones_like(at, dtype=bool)
    for place, (n, spent) in enumerate(zip(looks, spending(looks), strict=True)):
        if smallest_p(n) > spent + 1e-12:
            continue
        highest = np.where(early, np.inf, nothing[:, place].max(axis=1))
        limit = np.sort(highest)[::-1][int(spent * len(highest))]
        early |= highest > limit
        now = is_open & (found[:, place] > limit)
        at[now] = n
        is_open &= ~now
    trials = (at.sum(axis=1) + at.max(axis=1)).mean()
    return Expected(effect, float(at.mean()), float(trials), float(1 - is_open.mean()))


@functools.lru_cache(maxsize=32)
def _statistics(looks: tuple[int, ...], rivals: int, effect: float) -> Floats:
    """Standardized sums [simulations, looks, rivals] of differences with standard deviation 1."""
    rng = np.random.default_rng(len(looks))
    size = max(200, min(_SIMULATIONS, 4_000_000 // (looks[-1] * (rivals + 1))))
    trials = rng.standard_normal((size, looks[-1], rivals + 1)) / math.sqrt(2)
    pairs = trials[..., 1:] - trials[..., :1] + effect
    found = [
        np.abs(pairs[:, :n].sum(axis=1)) / np.sqrt((pairs[:, :n] ** 2).sum(axis=1)) for n in looks
    ]
    return np.stack(found, axis=1)

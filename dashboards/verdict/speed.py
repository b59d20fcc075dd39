"""How much sooner does one curve get where another gets? Area, kimg-to-target, all targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dashboards.verdict.evidence import Curve
from dashboards.verdict.statistics import Floats, Interval, bootstrap_interval, sign_flip_p

_TARGETS = 49


class Pair(NamedTuple):
    """Two curves that share a seed."""

    baseline: Curve
    cell: Curve


def span(pair: Pair) -> tuple[float, float]:
    """The kimg range both curves cover."""
    return (
        float(max(pair.baseline.kimg[0], pair.cell.kimg[0])),
        float(min(pair.baseline.kimg[-1], pair.cell.kimg[-1])),
    )


def mean_level(curve: Curve, start: float, stop: float) -> float:
    """Area under the curve over kimg in [start, stop], divided by its width (trapezoids).

    The axis is kimg, not its logarithm: every image costs the same, so this is the metric an
    average image of the budget was trained at, in the metric's own unit.
    """
    inside = (curve.kimg > start) & (curve.kimg < stop)
    kimg = np.concatenate([[start], curve.kimg[inside], [stop]])
    value = np.interp(kimg, curve.kimg, curve.value)
    return float(np.trapezoid(value, kimg) / (stop - start))


def reach(curve: Curve, target: float, *, lower_is_better: bool) -> float:
    """First kimg at which the metric is at `target` or better; infinity when it never is.

    Between two evaluations the metric is taken as a power of kimg where it is positive, as linear
    in log kimg elsewhere: then "1.3 times faster" is 1.3 at every target, also between points. A
    target met at the first evaluation gives that evaluation's kimg: it may have been met earlier.
    """
    sign = 1.0 if lower_is_better else -1.0
    cost, goal = sign * curve.value, sign * target
    met = np.flatnonzero(cost <= goal)
    if met.size == 0:
        return math.inf
    index = int(met[0])
    if index == 0 or curve.kimg[index - 1] <= 0:
        return float(curve.kimg[index])
    values = np.array([curve.value[index - 1], target, curve.value[index]])
    start, goal, stop = np.log(values) if values.min() > 0 else values
    before, after = np.log(curve.kimg[index - 1]), np.log(curve.kimg[index])
    crossing = float(np.exp(before + (start - goal) / (start - stop) * (after - before)))
    return min(crossing, float(curve.kimg[index]))


def reachable(pair: Pair, *, lower_is_better: bool) -> tuple[float, float] | None:
    """Metric values both pass, easy to hard: better start to worse best; None if there is none."""
    sign = 1.0 if lower_is_better else -1.0
    easy = min(sign * pair.baseline.value[0], sign * pair.cell.value[0])
    hard = max((sign * pair.baseline.value).min(), (sign * pair.cell.value).min())
    return (sign * float(easy), sign * float(hard)) if hard < easy else None


@dataclass(frozen=True)
class SpeedLine:
    """Speed-up as a function of the target: kimg of the baseline over kimg of the cell."""

    targets: tuple[float, ...]
    """From easy to hard."""
    ratios: tuple[float, ...]
    """Above 1: the cell is there sooner."""


@dataclass(frozen=True)
class SpeedUp:
    """The speed-up for all targets both reach; the single number is its mean, never its best."""

    seeds: tuple[int, ...]
    per_seed: tuple[SpeedLine, ...]
    """One line per seed, over all targets which that pair reaches."""
    mean: SpeedLine | None
    """Geometric mean over seeds, over the targets all pairs reach; None when there are none."""
    overall: float | None
    """Geometric mean over those targets and seeds."""
    slowest: float | None
    """The smallest value of `mean`."""
    fastest: float | None
    """The largest value of `mean`."""
    interval: Interval
    """Of `overall`: bootstrap over seeds on the log scale."""
    p: float | None
    """Exact sign-flip p of the log of `overall`."""


def speed_up(pairs: Mapping[int, Pair], *, lower_is_better: bool) -> SpeedUp | None:
    """Compare times to every target both reach; None when no pair shares a target."""
    ranges = {
        seed: both
        for seed, pair in pairs.items()
        if (both := reachable(pair, lower_is_better=lower_is_better)) is not None
    }
    if not ranges:
        return None
    seeds = tuple(sorted(ranges))
    lines = tuple(
        _line(pairs[seed], _targets(*ranges[seed]), lower_is_better=lower_is_better)
        for seed in seeds
    )
    sign = 1.0 if lower_is_better else -1.0
    easy = sign * min(sign * ranges[seed][0] for seed in seeds)
    hard = sign * max(sign * ranges[seed][1] for seed in seeds)
    none = Interval(None, None, 0.95, "none", "the pairs share no target")
    if sign * hard >= sign * easy:
        return SpeedUp(seeds, lines, None, None, None, None, none, None)
    targets = _targets(easy, hard)
    logs = np.array(
        [
            np.log(_line(pairs[seed], targets, lower_is_better=lower_is_better).ratios)
            for seed in seeds
        ]
    )
    mean = np.exp(logs.mean(axis=0))
    per_seed = logs.mean(axis=1)
    return SpeedUp(
        seeds=seeds,
        per_seed=lines,
        mean=SpeedLine(tuple(map(float, targets)), tuple(map(float, mean))),
        overall=float(np.exp(per_seed.mean())),
        slowest=float(mean.min()),
        fastest=float(mean.max()),
        interval=bootstrap_interval(per_seed).mapped(math.exp),
        p=sign_flip_p(per_seed),
    )


def _targets(easy: float, hard: float) -> Floats:
    """Targets from easy to hard: evenly spaced in the logarithm where there is one."""
    space = np.geomspace if easy > 0 and hard > 0 else np.linspace
    targets = np.asarray(space(easy, hard, _TARGETS), dtype=np.float64)
    targets[0], targets[-1] = easy, hard
    return targets


def _line(pair: Pair, targets: Floats, *, lower_is_better: bool) -> SpeedLine:
    ratios = [
        reach(pair.baseline, target, lower_is_better=lower_is_better)
        / reach(pair.cell, target, lower_is_better=lower_is_better)
        for target in map(float, targets)
    ]
    return SpeedLine(tuple(map(float, targets)), tuple(ratios))

"""How much sooner does one curve get where another gets? Area, kimg to a target, speed-up over many targets.

Curves are made monotone first (isotonic regression, which averages what goes up and down): a noisier curve
would otherwise pass every target sooner by luck.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dashboards.verdict.evidence import Curve
from dashboards.verdict.statistics import Floats

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


def monotone(curve: Curve, *, lower_is_better: bool) -> Curve:
    """The curve that only improves and is nearest to it: on the logarithm where values are positive."""
    logarithmic = bool(curve.value.min() > 0)
    values = np.log(curve.value) if logarithmic else curve.value
    fitted = -_rising(-values) if lower_is_better else _rising(values)
    return Curve(curve.kimg, np.exp(fitted) if logarithmic else fitted)


def _rising(values: Floats) -> Floats:
    """The nearest sequence that never falls, in least squares, by pooling adjacent violators.

    Ayer, Brunk, Ewing, Reid & Silverman, Annals of Mathematical Statistics 26 (1955) 641.
    """
    means, counts = list[float](), list[int]()
    for value in values:
        mean, count = float(value), 1
        while means and means[-1] >= mean:
            before, of = means.pop(), counts.pop()
            mean, count = (of * before + count * mean) / (of + count), of + count
        means.append(mean)
        counts.append(count)
    return np.repeat(np.asarray(means), counts)


def reach(curve: Curve, targets: Sequence[float] | Floats, *, lower_is_better: bool) -> Floats:
    """First kimg at which a monotone curve is at each target or better; infinity where it never is.

    Between two evaluations the metric is taken as a power of kimg where it is positive, as linear
    in log kimg elsewhere: then "1.3 times faster" is 1.3 at every target, also between points. A
    target met at the first evaluation gives that evaluation's kimg: it may have been met earlier.
    """
    sign = 1.0 if lower_is_better else -1.0
    cost, goals = sign * curve.value, sign * np.asarray(targets, dtype=np.float64)
    index = np.searchsorted(-cost, -goals - 1e-12 * np.abs(goals), side="left")
    times = np.full(len(goals), math.inf)
    times[index == 0] = curve.kimg[0]
    between = (index > 0) & (index < len(cost))
    if between.any():
        after = index[between]
        before = after - 1
        start, stop, goal = curve.value[before], curve.value[after], sign * goals[between]
        if min(curve.value.min(), goal.min()) > 0:
            start, stop, goal = np.log(start), np.log(stop), np.log(goal)
        share = np.clip((start - goal) / (start - stop), 0.0, 1.0)
        early, late = curve.kimg[before], curve.kimg[after]
        begun = early > 0
        logs = np.log(np.where(begun, early, 1.0)), np.log(late)
        crossing = np.exp(logs[0] + share * (logs[1] - logs[0]))
        times[between] = np.where(begun, crossing, late)
    return times


@dataclass(frozen=True)
class SpeedLine:
    """Speed-up as a function of the target: kimg of the baseline over kimg of the cell."""

    targets: tuple[float, ...]
    """From easy to hard."""
    ratios: tuple[float, ...]
    """Above 1: the cell is there sooner."""


@dataclass(frozen=True)
class SpeedUp:
    """The speed-up over a range of targets, the same for all seeds; the number is its mean, never its best."""

    seeds: tuple[int, ...]
    per_seed: tuple[SpeedLine, ...]
    """One line per seed, over the targets that both trials of the pair reach."""
    mean: SpeedLine | None
    """Geometric mean over seeds, at the targets that all pairs reach; None when there are none."""
    easy: float
    """The first target of the range."""
    hard: float
    """The last."""
    missed: int
    """Pairs that do not reach the whole range."""

    @property
    def slowest(self) -> float | None:
        """The smallest value of `mean`."""
        return None if self.mean is None else min(self.mean.ratios)

    @property
    def fastest(self) -> float | None:
        """The largest value of `mean`."""
        return None if self.mean is None else max(self.mean.ratios)


def primary_target(curves: Sequence[Curve], *, lower_is_better: bool) -> float:
    """What half of the baseline's trials reach within the budget: the median of their last values.

    `curves` are monotone and of the baseline alone, so the target does not depend on any rival.
    """
    return _median([float(curve.value[-1]) for curve in curves], lower_is_better=lower_is_better)


def target_range(pairs: Sequence[Pair], *, lower_is_better: bool) -> tuple[float, float] | None:
    """Targets of the speed-up, easy to hard, from monotone curves; None when they share none.

    Hard is what every trial of the comparison reaches, so none is favoured. Easy is where the baseline's
    median trial stood at the middle of the budget's logarithm: targets before that are met while nothing
    has been learned yet. If a cell does not come that far, it is where the better one began.
    """
    if not pairs:
        return None
    sign = 1.0 if lower_is_better else -1.0
    hard = max(float((sign * curve.value).min()) for pair in pairs for curve in pair)
    middles = [_middle(pair.baseline) for pair in pairs]
    easy = sign * _median(middles, lower_is_better=lower_is_better)
    if hard >= easy:
        easy = min(float(sign * curve.value[0]) for pair in pairs for curve in pair)
    return (sign * easy, sign * hard) if hard < easy else None


def _middle(curve: Curve) -> float:
    """Its value at the middle, on a logarithmic axis, between the first evaluation and the last."""
    positive = curve.kimg > 0
    kimg = np.log(curve.kimg[positive])
    return float(np.interp((kimg[0] + kimg[-1]) / 2, kimg, curve.value[positive]))


def _median(values: Sequence[float], *, lower_is_better: bool) -> float:
    """The value that half of them, at least, are as good as."""
    return float(np.quantile(values, 0.5, method="higher" if lower_is_better else "lower"))


def targets_between(easy: float, hard: float) -> Floats:
    """Targets from easy to hard: evenly spaced in the logarithm where there is one."""
    space = np.geomspace if easy > 0 and hard > 0 else np.linspace
    targets = np.asarray(space(easy, hard, _TARGETS), dtype=np.float64)
    targets[0], targets[-1] = easy, hard
    return targets


def mean_time(times: Floats) -> float:
    """Geometric mean of kimg to targets; infinity if one is missed."""
    return float(np.exp(np.log(times).mean()))


def speed_up(
    targets: Floats, baseline: Mapping[int, Floats], cell: Mapping[int, Floats]
) -> SpeedUp | None:
    """The lines behind the speed-up, from kimg to each target by seed; None when no pair shares a target."""
    lines: dict[int, SpeedLine] = {}
    logs = []
    for seed in baseline:
        both = np.isfinite(baseline[seed]) & np.isfinite(cell[seed])
        ratios = baseline[seed][both] / cell[seed][both]
        if both.any():
            lines[seed] = SpeedLine(tuple(map(float, targets[both])), tuple(map(float, ratios)))
        log = np.full(len(targets), math.nan)
        log[both] = np.log(ratios)
        logs.append(log)
    if not lines:
        return None
    table = np.array(logs)
    shared = np.isfinite(table).all(axis=0)
    mean = SpeedLine(
        tuple(map(float, targets[shared])),
        tuple(map(float, np.exp(table[:, shared].mean(axis=0)))),
    )
    return SpeedUp(
        seeds=tuple(lines),
        per_seed=tuple(lines.values()),
        mean=mean if shared.any() else None,
        easy=float(targets[0]),
        hard=float(targets[-1]),
        missed=int(np.isnan(table).any(axis=1).sum()),
    )

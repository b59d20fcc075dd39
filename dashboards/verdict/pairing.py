"""Which paired numbers are judged? Final metric, area, kimg to a target and speed-up, by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from dashboards.verdict.comparable import quantity
from dashboards.verdict.evidence import Curve, Evidence, Quantity, Trial
from dashboards.verdict.samples import LOST, Sample
from dashboards.verdict.speed import (
    Pair,
    SpeedUp,
    mean_level,
    mean_time,
    monotone,
    primary_target,
    reach,
    span,
    speed_up,
    target_range,
    targets_between,
)
from dashboards.verdict.values import Name
from trainer.report import Status

_T = TypeVar("_T")
_KIMG = Quantity("kimg", lower_is_better=True)
_LOST = (Status.DIVERGED, Status.FAILED)


@dataclass(frozen=True)
class Pairing:
    """Everything about one cell and the baseline that statistics are made from."""

    ended: tuple[int, ...]
    """Seeds that ended in both, one way or another, in the order in which they count."""
    samples: dict[Name, Sample] = field(default_factory=dict)
    """Empty when no seed ended in both."""
    speed: SpeedUp | None = None


class Pairer:
    """Pairs the baseline's trials with those of any cell."""

    def __init__(self, evidence: Evidence, baseline: str, target: float | None = None) -> None:
        """`target` is the curve metric's value for kimg to target; None: what half of the baseline's
        trials of the first look reach, so that neither a rival nor a later seed moves it.
        """
        self._baseline, self._order = baseline, evidence.seeds
        self._first = self._order[: evidence.looks[0]] if evidence.looks else self._order
        self._metric, self._curve_metric = evidence.metric, evidence.curve_metric
        self._final = quantity(evidence, self._metric)
        self._curve = quantity(evidence, self._curve_metric)
        self._lower = self._curve.lower_is_better
        self._values = outcomes(evidence, self._metric)
        self._curves: dict[tuple[str, int], Curve | None] = {}
        """Of trials that ended and have one; None: lost."""
        self._smooth: dict[tuple[str, int], Curve] = {}
        for trial in evidence.trials:
            self._take(trial)
        self._final = as_compared(self._final, self._values.values())
        lows = (float(c.value.min()) for c in self._curves.values() if c is not None)
        self._curve = as_compared(self._curve, lows)
        base = [self._smooth[baseline, s] for s in self._first if (baseline, s) in self._smooth]
        own = primary_target(base, lower_is_better=self._lower) if base else None
        self._target = own if target is None else target

    def _take(self, trial: Trial) -> None:
        key = trial.cell, trial.seed
        if trial.status in _LOST:
            self._curves[key] = None
        if trial.status is not Status.FINISHED:
            return
        curve = trial.curves.get(self._curve_metric)
        if curve is None or len(curve.kimg) < 2:
            return
        is_finite = bool(np.isfinite(curve.value).all())
        self._curves[key] = curve if is_finite else None
        if is_finite:
            self._smooth[key] = monotone(curve, lower_is_better=self._lower)

    def pair(self, cell: str) -> Pairing:
        """The baseline and one cell."""
        ended = self._in_both(self._values, cell)
        if not ended:
            return Pairing(())
        finals = self._both(cell, ended, lambda key: self._values[key])
        samples: dict[Name, Sample] = {"final": _sample(self._metric, self._final, finals)}
        drawn = self._in_both(self._curves, cell)
        smooth = {
            s: Pair(*(self._smooth[name, s] for name in (self._baseline, cell)))
            for s in self._in_both(self._smooth, cell)
        }
        if not smooth:
            return Pairing(ended, samples)
        areas = self._both(cell, drawn, lambda key: self._area(cell, key))
        samples["area"] = _sample(self._curve_metric, self._curve, areas)
        if (goal := self._target) is not None:
            times = self._times(
                cell, drawn, lambda c: reach(c, [goal], lower_is_better=self._lower)[0]
            )
            samples["target"] = replace(_sample(self._curve_metric, _KIMG, times), target=goal)
        first = [smooth[s] for s in self._first if s in smooth] or list(smooth.values())
        ends = target_range(first, lower_is_better=self._lower)
        if ends is None:
            return Pairing(ended, samples)
        targets = targets_between(*ends)
        base, own = (
            {
                s: reach(self._smooth[name, s], targets, lower_is_better=self._lower)
                for s in drawn
                if (name, s) in self._smooth
            }
            for name in (self._baseline, cell)
        )
        means = (
            {s: mean_time(base[s]) if s in base else LOST for s in drawn},
            {s: mean_time(own[s]) if s in own else LOST for s in drawn},
        )
        samples["speed"] = _sample(self._curve_metric, _KIMG, means)
        both = [{s: times[s] for s in smooth} for times in (base, own)]
        return Pairing(ended, samples, speed_up(targets, both[0], both[1]))

    def _in_both(self, of: Mapping[tuple[str, int], _T], cell: str) -> tuple[int, ...]:
        return tuple(s for s in self._order if (self._baseline, s) in of and (cell, s) in of)

    def _both(
        self, cell: str, seeds: Sequence[int], outcome: Callable[[tuple[str, int]], float]
    ) -> tuple[dict[int, float], dict[int, float]]:
        base, own = ({s: outcome((name, s)) for s in seeds} for name in (self._baseline, cell))
        return base, own

    def _area(self, cell: str, key: tuple[str, int]) -> float:
        """Mean level over the range that both curves of the pair cover."""
        curve, seed = self._curves[key], key[1]
        if curve is None:
            return LOST
        pair = [c for name in (self._baseline, cell) if (c := self._curves[name, seed]) is not None]
        start, stop = span(Pair(pair[0], pair[-1]))
        return mean_level(curve, start, stop) if stop > start else LOST

    def _times(
        self, cell: str, seeds: Sequence[int], time: Callable[[Curve], float]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """What monotone curves give, infinity where it is never reached; lost curves are lost."""
        return self._both(
            cell, seeds, lambda key: float(time(self._smooth[key])) if key in self._smooth else LOST
        )


def _sample(
    metric: str, quantity: Quantity, both: tuple[Mapping[int, float], Mapping[int, float]]
) -> Sample:
    return Sample(metric, quantity.lower_is_better, quantity.ratio, *both)


def outcomes(evidence: Evidence, metric: str) -> dict[tuple[str, int], float]:
    """(cell, seed) to the final number of every trial that ended, `LOST` where it has none."""
    return {
        (t.cell, t.seed): LOST if t.status in _LOST else t.finals.get(metric, LOST)
        for t in evidence.trials
        if t.status is Status.FINISHED or t.status in _LOST
    }


def as_compared(quantity: Quantity, values: Iterable[float]) -> Quantity:
    """Ratios need positive numbers, of all cells: otherwise differences are compared, in all of them."""
    is_positive = all(value > 0 for value in values if np.isfinite(value))
    return replace(quantity, ratio=quantity.ratio and is_positive)

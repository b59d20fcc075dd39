"""Does a cell train better than the baseline, or was it luck? Paired by seed, equal images.

Three measures are judged: the final metric (it alone gives the headline), the area under the curve
and kimg-to-target. Training loss is never one of them: it is another quantity in every cell.

A trial that diverged is an outcome, the worst there is: a seed on which only one of the two diverged
enters the sign-flip test against the one that diverged, as large as the largest difference seen.
That keeps the test exact, since exchanging the two exchanges this too. Such seeds have no number,
so mean and intervals are over the surviving pairs, and SAME is not said while there are any. A seed
on which both diverged tells nothing; one that failed or is missing is no outcome: both give no pair.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dashboards import pairing, wording
from dashboards.paired import (
    ALPHA,
    Interval,
    MoreSeeds,
    bootstrap_interval,
    holm,
    more_seeds,
    sign_flip_p,
    student_interval,
)
from dashboards.runs import IncomparableError
from dashboards.speed import Curve, Pair, SpeedUp, mean_level, reach, span, speed_up

if TYPE_CHECKING:
    from dashboards.runs import Sweep

Word = Literal["BETTER", "WORSE", "SAME", "INCONCLUSIVE"]
Name = Literal["final", "area", "target"]


@dataclass(frozen=True)
class Measure:
    """One number of a cell against the baseline's, by seed; differences are cell - baseline."""

    name: Name
    metric: str
    cell: str
    baseline: str
    lower_is_better: bool
    margin: float
    """Relative to the baseline's mean."""
    seeds: tuple[int, ...]
    baseline_values: tuple[float, ...]
    cell_values: tuple[float, ...]
    differences: tuple[float, ...]
    mean: float
    relative: float | None
    """`mean` over the baseline's mean; None when that is 0."""
    interval: Interval
    """BCa bootstrap, absolute."""
    student: Interval
    """Student t, absolute: SAME needs both, since a bootstrap of few pairs is too short."""
    p: float
    p_holm: float
    comparisons: int
    """How many cells Holm's correction counts."""
    word: Word
    more: MoreSeeds | None
    """Only when INCONCLUSIVE."""
    cost_hours: float | None
    """CPU- or GPU-hours of `more.more` seeds of the whole sweep."""
    cost_unit: str
    target: float | None = None
    """For kimg-to-target: the metric value to reach."""
    censored_baseline: int = 0
    """Pairs in which the baseline never reached the target: its time counts as the whole budget."""
    censored_cell: int = 0
    diverged_baseline: int = 0
    """Seeds on which only the baseline diverged: in `p`, in none of the values."""
    diverged_cell: int = 0

    @property
    def tested(self) -> int:
        """Seeds that the test counts: pairs, and those on which one of the two diverged."""
        return len(self.seeds) + self.diverged_baseline + self.diverged_cell

    @property
    def scale(self) -> float | None:
        """What relative numbers are relative to: the magnitude of the baseline's mean."""
        mean = abs(float(np.mean(self.baseline_values)))
        return mean if mean > 0 else None

    def sentence(self) -> str:
        """The result and what it rests on, in words."""
        return wording.measure(self)


@dataclass(frozen=True)
class Comparison:
    """One cell against the baseline."""

    cell: str
    baseline: str
    word: Word
    planned: int
    """Seeds of the sweep; `final.seeds` are those which gave a pair."""
    dropped: tuple[pairing.Dropped, ...]
    final: Measure | None
    """None when no seed finished in both cells."""
    area: Measure | None
    target: Measure | None
    speed: SpeedUp | None

    def measures(self) -> list[Measure]:
        """Those there are, the deciding one first."""
        return [m for m in (self.final, self.area, self.target) if m is not None]

    def sentence(self) -> str:
        """The verdict on this cell: word, numbers, what was dropped, what would settle it."""
        return wording.comparison(self)


@dataclass(frozen=True)
class Verdicts:
    """Every cell against the baseline, and the one sentence to begin with."""

    metric: str
    curve_metric: str
    baseline: str
    margin: float
    protocol: str | None
    protocol_curve: str | None
    kimg: float | None
    """The budget all compared trials share."""
    comparisons: tuple[Comparison, ...]
    refused: tuple[pairing.Refused, ...] = ()
    """Cells that are not compared, each with the reason."""

    def sentence(self) -> str:
        """The overall verdict."""
        return wording.overall(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything, with the sentences, as JSON has it (infinities and NaN become null)."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        plain["sentence"] = self.sentence()
        for found, comparison in zip(plain["comparisons"], self.comparisons, strict=True):
            found["sentence"] = comparison.sentence()
            for measure in comparison.measures():
                found[measure.name]["sentence"] = measure.sentence()
        return plain


def judge(
    sweep: Sweep,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    margin: float | None = None,
    target: float | None = None,
) -> Verdicts:
    """Compare every cell of a sweep with its baseline; those of other budget or protocol are refused.

    `target` is the curve metric's value for kimg-to-target; without it each comparison takes the
    hardest value which all its trials reach: nothing is censored and neither cell is favoured.
    Raises `IncomparableError` for an unknown baseline or metric, and when every cell is refused.
    """
    metric = sweep.metric if metric is None else metric
    lower = pairing.lower_is_better(metric)
    sweep = dataclasses.replace(sweep, metric=metric)
    base = pairing.baseline_of(sweep, baseline)
    if metric not in sweep.trials.columns:
        known = ", ".join(sweep.final_metrics) or "none yet"
        raise IncomparableError(f"no trial reported {metric}; final metrics are: {known}")
    found = _Judge(
        sweep=sweep,
        baseline=base,
        margin=sweep.margin if margin is None else margin,
        lower=lower,
        values=pairing.finals(sweep, metric),
        curves=pairing.curves(sweep),
        target=target,
    )
    refused = pairing.refusals(sweep, (metric, sweep.curve_metric), base)
    odd = {refusal.cell for refusal in refused}
    others = [cell for cell in sweep.cells if cell != base and cell not in odd]
    compared = [base, *others]
    images = [i for cell in compared for i in pairing.budget(sweep, metric, cell)]
    drafts = {cell: found.samples(cell) for cell in others}
    return Verdicts(
        metric=metric,
        curve_metric=sweep.curve_metric,
        baseline=base,
        margin=found.margin,
        protocol=sweep.protocol(metric, [base]),
        protocol_curve=sweep.protocol(sweep.curve_metric, [base]),
        kimg=images[0] / 1000 if images else None,
        comparisons=tuple(found.comparison(cell, drafts) for cell in others),
        refused=refused,
    )


@dataclass(frozen=True)
class _Sample:
    """Paired values of one measure, before any statistics."""

    metric: str
    baseline: dict[int, float]
    cell: dict[int, float]
    target: float | None = None
    censored: tuple[int, int] = (0, 0)
    """Baseline's, cell's."""

    diverged: tuple[int, int] = (0, 0)
    """Seeds on which only the baseline diverged, and only the cell."""

    def differences(self) -> list[float]:
        return [self.cell[seed] - self.baseline[seed] for seed in sorted(self.cell)]

    def tested(self, *, lower: bool) -> list[float]:
        """The differences, and the worst one seen for every seed on which one of the two diverged."""
        seen = self.differences()
        worst = max(map(abs, seen)) or 1.0
        worst = worst if lower else -worst
        base, cell = self.diverged
        return [*seen, *[-worst] * base, *[worst] * cell]


@dataclass(frozen=True)
class _Judge:
    sweep: Sweep
    baseline: str
    margin: float
    lower: bool
    values: Mapping[str, Mapping[int, float]]
    curves: Mapping[tuple[str, int], Curve]
    target: float | None

    def samples(self, cell: str) -> dict[Name, _Sample]:
        base, other = self.values[self.baseline], self.values[cell]
        seeds = sorted(set(base) & set(other))
        if not seeds:
            return {}
        found: dict[Name, _Sample] = {
            "final": _Sample(
                self.sweep.metric, {s: base[s] for s in seeds}, {s: other[s] for s in seeds}
            )
        }
        pairs = self.pairs(cell)
        if pairs:
            found["area"] = self._area(pairs)
            found["target"] = self._to_target(pairs)
        lost = pairing.one_sided(self.sweep, self.values, self.baseline, cell)
        return {n: dataclasses.replace(sample, diverged=lost) for n, sample in found.items()}

    def pairs(self, cell: str) -> dict[int, Pair]:
        """Curves of both cells by seed, where both have at least two points in common range."""
        found = {
            seed: Pair(self.curves[self.baseline, seed], self.curves[cell, seed])
            for seed in self.values[cell]
            if (cell, seed) in self.curves and (self.baseline, seed) in self.curves
        }
        return {seed: pair for seed, pair in sorted(found.items()) if np.diff(span(pair))[0] > 0}

    def _area(self, pairs: Mapping[int, Pair]) -> _Sample:
        return _Sample(
            self.sweep.curve_metric,
            {s: mean_level(p.baseline, *span(p)) for s, p in pairs.items()},
            {s: mean_level(p.cell, *span(p)) for s, p in pairs.items()},
        )

    def _to_target(self, pairs: Mapping[int, Pair]) -> _Sample:
        sign = 1.0 if self.lower else -1.0
        bests = [(sign * curve.value).min() for pair in pairs.values() for curve in pair]
        target = sign * float(max(bests)) if self.target is None else self.target
        budget = min(span(pair)[1] for pair in pairs.values())

        def times(curves: Mapping[int, Curve]) -> tuple[dict[int, float], int]:
            exact = {s: reach(c, target, lower_is_better=self.lower) for s, c in curves.items()}
            censored = sum(value > budget for value in exact.values())
            return {seed: min(budget, value) for seed, value in exact.items()}, censored

        base, base_censored = times({s: p.baseline for s, p in pairs.items()})
        other, other_censored = times({s: p.cell for s, p in pairs.items()})
        metric = self.sweep.curve_metric
        return _Sample(metric, base, other, target, (base_censored, other_censored))

    def comparison(self, cell: str, drafts: Mapping[str, dict[Name, _Sample]]) -> Comparison:
        measures = {name: self._measure(cell, name, drafts) for name in drafts[cell]}
        pairs = self.pairs(cell)
        final = measures.get("final")
        return Comparison(
            cell=cell,
            baseline=self.baseline,
            word=final.word if final is not None else "INCONCLUSIVE",
            planned=len(self.sweep.seeds),
            dropped=pairing.dropped_seeds(self.sweep, self.baseline, cell),
            final=final,
            area=measures.get("area"),
            target=measures.get("target"),
            speed=speed_up(pairs, lower_is_better=self.lower) if pairs else None,
        )

    def _measure(self, cell: str, name: Name, drafts: Mapping[str, dict[Name, _Sample]]) -> Measure:
        rivals = [c for c, samples in drafts.items() if name in samples]
        lower = self.lower if name != "target" else True
        raw = [sign_flip_p(drafts[c][name].tested(lower=lower)) for c in rivals]
        place = rivals.index(cell)
        sample = drafts[cell][name]
        seeds = sorted(sample.cell)
        differences, tested = sample.differences(), sample.tested(lower=lower)
        mean = float(np.mean(differences))
        scale = abs(float(np.mean(list(sample.baseline.values()))))
        limit = self.margin * scale
        interval, student = bootstrap_interval(differences), student_interval(differences)
        p_holm = holm(raw)[place]
        same = interval.within(limit) and student.within(limit) and not any(sample.diverged)
        word = _word(tested, p_holm, same=same, lower=lower)
        margin = None if any(sample.diverged) else limit
        plan = more_seeds(tested, margin=margin, comparisons=len(rivals))
        seed_hours = pairing.hours_per_seed(self.sweep)
        settled = plan.more is None or word != "INCONCLUSIVE"
        return Measure(
            name=name,
            metric=sample.metric,
            cell=cell,
            baseline=self.baseline,
            lower_is_better=lower,
            margin=self.margin,
            seeds=tuple(seeds),
            baseline_values=tuple(sample.baseline[s] for s in seeds),
            cell_values=tuple(sample.cell[s] for s in seeds),
            differences=tuple(differences),
            mean=mean,
            relative=mean / scale if scale > 0 else None,
            interval=interval,
            student=student,
            p=raw[place],
            p_holm=p_holm,
            comparisons=len(rivals),
            word=word,
            more=plan if word == "INCONCLUSIVE" else None,
            cost_hours=None if settled or seed_hours is None else (plan.more or 0) * seed_hours,
            cost_unit=self.sweep.cost_unit,
            target=sample.target,
            censored_baseline=sample.censored[0],
            censored_cell=sample.censored[1],
            diverged_baseline=sample.diverged[0],
            diverged_cell=sample.diverged[1],
        )


def _word(tested: list[float], p: float, *, same: bool, lower: bool) -> Word:
    if same:
        return "SAME"
    if p < ALPHA:
        return "BETTER" if (sum(tested) < 0) == lower else "WORSE"
    return "INCONCLUSIVE"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

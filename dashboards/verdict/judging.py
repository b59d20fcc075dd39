"""Does a cell train better than the baseline, or was it luck? Paired by seed, equal images.

Four measures are judged: the final metric (it alone gives the headline), the area under the curve, kimg to a
target and the speed-up. Training loss is never one of them: it is another quantity in every cell.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dashboards.text import listed
from dashboards.verdict.comparable import (
    IncomparableError,
    baseline_of,
    budget,
    dropped_seeds,
    hours_per_seed,
    protocol,
    quantity,
    refusals,
)
from dashboards.verdict.engine import Decision, Engine
from dashboards.verdict.evidence import Evidence
from dashboards.verdict.pairing import Pairer, Pairing
from dashboards.verdict.planning import Outlook, decision_probability, detectable, pooled
from dashboards.verdict.rows import Rows, rows
from dashboards.verdict.samples import Sample
from dashboards.verdict.statistics import ALPHA, Floats, fewest_seeds
from dashboards.verdict.values import (
    Aside,
    Comparison,
    Guarantee,
    Key,
    Measure,
    Name,
    RowComparison,
    Verdicts,
)
from trainer.report import Status

_OF = {
    Status.WAITING: "waiting",
    Status.RUNNING: "running",
    Status.STOPPED: "not finished",
    Status.DIVERGED: "diverged",
    Status.FAILED: "failed",
}
_FEWEST_FOR_NOISE = 3
"""Pairs; two tell their noise only within a factor of hundreds."""


def judge(
    evidence: Evidence,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    margin: float | None = None,
    target: float | None = None,
) -> Verdicts:
    """Compare every cell with the baseline; those of another budget or protocol are refused.

    `target` is the curve metric's value for kimg to a target; without it, it is what half of the baseline's
    trials of the first look reach. Raises `IncomparableError` for an unknown baseline or metric, and when
    every cell is refused.
    """
    metric = evidence.metric if metric is None else metric
    judged = quantity(evidence, metric)
    margin = evidence.margin if margin is None else margin
    evidence = dataclasses.replace(evidence, metric=metric, margin=margin)
    base = baseline_of(evidence, baseline)
    if not any(metric in trial.finals for trial in evidence.finished):
        raise IncomparableError(_nothing(evidence, metric))
    refused = refusals(evidence, (metric, evidence.curve_metric), base)
    odd = {refusal.cell for refusal in refused}
    others = [cell for cell in evidence.cells if cell != base and cell not in odd]
    images = [i for cell in (base, *others) for i in budget(evidence, metric, cell)]
    pairer = Pairer(evidence, base, target)
    further = rows(evidence, base, others)
    judgement = _Judgement(evidence, base, {cell: pairer.pair(cell) for cell in others}, further)
    return Verdicts(
        metric=metric,
        curve_metric=evidence.curve_metric,
        quantity=judged,
        curve_quantity=quantity(evidence, evidence.curve_metric),
        baseline=base,
        margin=evidence.margin if judged.ratio else evidence.own_margin,
        protocol=protocol(evidence, metric, [base]),
        protocol_curve=protocol(evidence, evidence.curve_metric, [base]),
        kimg=images[0] / 1000 if images else None,
        guarantee=judgement.guarantee,
        comparisons=tuple(judgement.comparison(cell) for cell in others),
        refused=refused,
        rows=judgement.rows(),
        unlike=further.unlike,
    )


class _Judgement:
    """The engine's decisions, turned into values."""

    def __init__(
        self, evidence: Evidence, baseline: str, pairs: dict[str, Pairing], further: Rows
    ) -> None:
        self._evidence, self._baseline = evidence, baseline
        self._pairs, self._further = pairs, further.pairs
        self._samples: dict[Key, Sample] = {
            (cell, name): s for cell, pair in pairs.items() for name, s in pair.samples.items()
        }
        finals = [sample for (_, name), sample in self._samples.items() if name == "final"]
        self._samples |= {key: pair.sample for key, pair in further.pairs.items()}
        self._margins = {
            key: _margin(evidence, key[1], sample) for key, sample in self._samples.items()
        }
        late = [cell for cell in pairs if cell in evidence.late]
        planned = [cell for cell in pairs if cell not in evidence.late]
        self._rivals = {cell: len(family) for family in (planned, late) for cell in family}
        families = [family for family in (planned, late) if family] or [planned]
        own = families[-1 if baseline in evidence.late else 0]
        engines = [self._engine(family, is_own=family is own) for family in families]
        self._decisions = {key: found for one in engines for key, found in one.run().items()}
        self.guarantee: Guarantee = engines[0].guarantee()
        self._noise = pooled([sample.differences() for sample in finals])
        self._hours = hours_per_seed(evidence)

    def _engine(self, cells: Sequence[str], *, is_own: bool) -> Engine:
        """Of one family: cells that came after the first verdict do not change the words of the others.

        `is_own`: the baseline under further protocols is in it. Without a rival that is all there is, and one look.
        """
        ended = {cell: self._pairs[cell].ended for cell in cells}
        looks, base = self._evidence.looks, self._baseline
        if not cells:
            own = [pair.sample for (cell, _), pair in self._further.items() if cell == base]
            ended, looks = {base: tuple(own[0].cell) if own else ()}, looks[:1]
        members = [*cells, base] if is_own else cells
        return Engine(
            {c: {n: s for (o, n), s in self._samples.items() if o == c} for c in members},
            ended,
            self._evidence.seeds,
            looks,
            self._margins,
            len(self._evidence.stopped),
        )

    def rows(self) -> tuple[RowComparison, ...]:
        """Every comparison under a further protocol."""
        found = []
        for key, pair in self._further.items():
            decision, names = self._decisions[key], (pair.row.name, pair.against.name)
            final = self._measure(names, key, decision) if pair.sample.cell else None
            found.append(
                RowComparison(pair.row, pair.against, decision.word, decision.decided_at, final)
            )
        return tuple(found)

    def comparison(self, cell: str) -> Comparison:
        """One cell against the baseline."""
        pairing = self._pairs[cell]
        names = cell, self._baseline
        measures = {
            name: self._measure(names, (cell, name), self._decisions[cell, name])
            for name in pairing.samples
        }
        final = self._decisions.get((cell, "final"))
        planned = self._planned(None if final is None else final.decided_at)
        return Comparison(
            cell=cell,
            baseline=self._baseline,
            word=final.word if final is not None else "INCONCLUSIVE",
            decided_at=final.decided_at if final is not None else None,
            planned=planned,
            dropped=dropped_seeds(
                self._evidence, self._baseline, cell, self._evidence.seeds[:planned]
            ),
            final=measures.get("final"),
            area=measures.get("area"),
            target=measures.get("target"),
            speed=measures.get("speed"),
            lines=pairing.speed,
        )

    def _planned(self, decided_at: int | None) -> int:
        """Seeds of the look that decided, or of the next one, or all that there are."""
        seeds, guarantee = len(self._evidence.seeds), self.guarantee
        if decided_at is not None:
            return decided_at
        return seeds if guarantee.following is None else min(seeds, guarantee.following)

    def _measure(self, names: tuple[str, str], key: Key, decision: Decision) -> Measure:
        """`names` are those of what is compared, and of what with."""
        cell, name = key
        sample = self._samples[key].until(decision.seeds)
        differences = sample.differences()
        mean = float(differences.mean()) if differences.size else math.nan
        sign = 1.0 if sample.lower_is_better else -1.0
        direction = -sign if name == "speed" else sign  # a speed-up is what the time is less by

        def shown(value: float) -> float:
            return _share(direction * value) if sample.ratio else direction * value

        ends = decision.interval if direction > 0 else decision.interval.turned()
        margin = self._margins[key]
        scale = _share if sample.ratio else float
        # a row's name says its protocol
        metric = self._evidence.metric if isinstance(name, Aside) else sample.metric
        return Measure(
            name="final" if isinstance(name, Aside) else name,
            metric=sample.metric,
            title=quantity(self._evidence, metric).title,
            cell=names[0],
            baseline=names[1],
            lower_is_better=sample.lower_is_better if name != "speed" else False,
            ratio=sample.ratio,
            margin=None if margin is None else scale(margin),
            seeds=tuple(sample.surviving),
            baseline_values=tuple(sample.baseline[s] for s in sample.surviving),
            cell_values=tuple(sample.cell[s] for s in sample.surviving),
            effects=tuple(shown(float(d)) for d in differences),
            effect=shown(mean),
            interval=ends.mapped(scale),
            p=decision.p,
            p_adjusted=decision.p_adjusted,
            p_at=decision.p_at,
            word=decision.word,
            decided_at=decision.decided_at,
            outlook=self._outlook(cell, name, differences, margin, decision),
            target=sample.target,
            lost_baseline=sample.lost[0],
            lost_cell=sample.lost[1],
        )

    def _outlook(
        self,
        cell: str,
        name: Name | Aside,
        differences: Floats,
        margin: float | None,
        decision: Decision,
    ) -> Outlook | None:
        """Of the final metric, which decides how many seeds a cell gets."""
        noise = self._noise
        if decision.decided_at is not None or name != "final" or noise is None:
            return None
        n, guarantee = len(decision.seeds), self.guarantee
        total = guarantee.looks[-1] if guarantee.following else 2 * max(n, fewest_seeds() // 2)
        rivals, stopped = self._rivals[cell], len(self._evidence.stopped)
        alpha = ALPHA * rivals / (rivals + stopped)
        decides = None
        is_spent = guarantee.following is None
        if len(differences) >= _FEWEST_FOR_NOISE and not is_spent:
            half = detectable(total, rivals, alpha, 0.5)
            decides = decision_probability(differences, noise, max(n, total), margin, half)
        missing = total if is_spent else max(0, total - n)
        hours = None if self._hours is None else missing * self._hours
        return Outlook(
            total,
            noise.sd * detectable(total, rivals, alpha),
            decides,
            is_spent,
            hours,
            self._evidence.cost_unit,
        )


def _nothing(evidence: Evidence, metric: str) -> str:
    """Why no trial has a final number."""
    if evidence.finished:
        known = ", ".join(evidence.final_metrics) or "none"
        return f"no trial reported {metric}; final metrics are: {known}"
    ends = Counter(trial.status for trial in evidence.trials)
    if not ends or set(ends) == {Status.WAITING}:
        return f"no trial reported {metric}: none has begun"
    said = [f"{count} {_OF[status]}" for status, count in ends.items()]
    of = f"all {said[0]}" if len(said) == 1 else f"of {len(evidence.trials)}, {listed(said)}"
    return f"no trial reported {metric}: {of}"


def _share(logarithm: float) -> float:
    """What a log ratio is more than the baseline: 0.05 for 5 %."""
    return float(np.expm1(min(logarithm, 700.0)))


def _margin(evidence: Evidence, name: Name | Aside, sample: Sample) -> float | None:
    """On the scale of the differences; one in the metric's own unit is of the deciding metric's only."""
    if sample.ratio:
        return float(np.log1p(evidence.margin))
    is_own = name not in ("target", "speed") and not quantity(evidence, sample.metric).ratio
    return evidence.own_margin if is_own else None

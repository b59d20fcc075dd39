"""Does a cell train better than the baseline, or was it luck? Paired by seed, equal images.

Three measures are judged: the final metric (it alone gives the headline), the area under the curve
and kimg-to-target. Training loss is never one of them: it is another quantity in every cell.
"""

from __future__ import annotations

import dataclasses

import numpy as np

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
from dashboards.verdict.engine import Decision, decide
from dashboards.verdict.evidence import Evidence
from dashboards.verdict.samples import Pairing, Sample, pairings
from dashboards.verdict.speed import speed_up
from dashboards.verdict.values import Comparison, Measure, Name, Verdicts


def judge(
    evidence: Evidence,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    margin: float | None = None,
    target: float | None = None,
) -> Verdicts:
    """Compare every cell with the baseline; those of another budget or protocol are refused.

    `target` is the curve metric's value for kimg-to-target; without it each comparison takes the
    hardest value which all its trials reach: nothing is censored and neither cell is favoured.
    Raises `IncomparableError` for an unknown baseline or metric, and when every cell is refused.
    """
    metric = evidence.metric if metric is None else metric
    judged = quantity(evidence, metric)
    lower = judged.lower_is_better
    margin = evidence.margin if margin is None else margin
    evidence = dataclasses.replace(evidence, metric=metric, margin=margin)
    base = baseline_of(evidence, baseline)
    if not any(metric in trial.finals for trial in evidence.finished):
        known = ", ".join(evidence.final_metrics) or "none yet"
        raise IncomparableError(f"no trial reported {metric}; final metrics are: {known}")
    refused = refusals(evidence, (metric, evidence.curve_metric), base)
    odd = {refusal.cell for refusal in refused}
    others = [cell for cell in evidence.cells if cell != base and cell not in odd]
    images = [i for cell in (base, *others) for i in budget(evidence, metric, cell)]
    pairs = pairings(evidence, base, others, lower=lower, target=target)
    decisions = decide({cell: pairing.samples for cell, pairing in pairs.items()}, margin)
    return Verdicts(
        metric=metric,
        curve_metric=evidence.curve_metric,
        quantity=judged,
        curve_quantity=quantity(evidence, evidence.curve_metric),
        baseline=base,
        margin=margin,
        protocol=protocol(evidence, metric, [base]),
        protocol_curve=protocol(evidence, evidence.curve_metric, [base]),
        kimg=images[0] / 1000 if images else None,
        comparisons=tuple(
            _comparison(evidence, base, cell, pairing, decisions, lower=lower)
            for cell, pairing in pairs.items()
        ),
        refused=refused,
    )


def _comparison(
    evidence: Evidence,
    baseline: str,
    cell: str,
    pairing: Pairing,
    decisions: dict[tuple[str, Name], Decision],
    *,
    lower: bool,
) -> Comparison:
    measures = {
        name: _measure(evidence, baseline, cell, name, sample, decisions[cell, name])
        for name, sample in pairing.samples.items()
    }
    final = measures.get("final")
    return Comparison(
        cell=cell,
        baseline=baseline,
        word=final.word if final is not None else "INCONCLUSIVE",
        planned=len(evidence.seeds),
        dropped=dropped_seeds(evidence, baseline, cell),
        final=final,
        area=measures.get("area"),
        target=measures.get("target"),
        speed=speed_up(pairing.curves, lower_is_better=lower) if pairing.curves else None,
    )


def _measure(
    evidence: Evidence, baseline: str, cell: str, name: Name, sample: Sample, decision: Decision
) -> Measure:
    differences, scale = sample.differences(), sample.scale
    mean = float(np.mean(differences))
    more = None if decision.more is None else decision.more.more
    hours = hours_per_seed(evidence)
    return Measure(
        name=name,
        metric=sample.metric,
        title=quantity(evidence, sample.metric).title,
        cell=cell,
        baseline=baseline,
        lower_is_better=sample.lower_is_better,
        margin=evidence.margin,
        seeds=tuple(sample.seeds),
        baseline_values=tuple(sample.baseline[s] for s in sample.seeds),
        cell_values=tuple(sample.cell[s] for s in sample.seeds),
        differences=tuple(differences),
        mean=mean,
        relative=mean / scale if scale > 0 else None,
        interval=decision.interval,
        student=decision.student,
        p=decision.p,
        p_holm=decision.p_holm,
        comparisons=decision.comparisons,
        word=decision.word,
        more=decision.more,
        cost_hours=None if more is None or hours is None else more * hours,
        cost_unit=evidence.cost_unit,
        target=sample.target,
        censored_baseline=sample.censored[0],
        censored_cell=sample.censored[1],
        diverged_baseline=sample.diverged[0],
        diverged_cell=sample.diverged[1],
    )

"""Which paired numbers are judged? The final metric, the curve's area, the way to a target, by seed.

A trial that diverged is an outcome, the worst there is: a seed on which only one of the two diverged
enters the test against the one that diverged, as large as the largest difference seen. That keeps a
sign-flip test exact, since exchanging the two exchanges this too. Such seeds have no number, so mean
and intervals are over the surviving pairs, and SAME is not said while there are any. A seed on which
both diverged tells nothing; one that failed or is missing is no outcome: both give no pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dashboards.verdict.comparable import curves, finals, one_sided
from dashboards.verdict.evidence import Curve, Evidence
from dashboards.verdict.speed import Pair, mean_level, reach, span
from dashboards.verdict.values import Name


@dataclass(frozen=True)
class Sample:
    """Paired values of one measure, before any statistics."""

    metric: str
    lower_is_better: bool
    baseline: dict[int, float]
    """By seed."""
    cell: dict[int, float]
    target: float | None = None
    censored: tuple[int, int] = (0, 0)
    """Seeds on which the target was never reached: by the baseline, by the cell."""
    diverged: tuple[int, int] = (0, 0)
    """Seeds on which only the baseline diverged, and only the cell."""

    @property
    def seeds(self) -> list[int]:
        """Those that gave a pair, ascending."""
        return sorted(self.cell)

    @property
    def scale(self) -> float:
        """Magnitude of the baseline's mean, which margins are relative to."""
        return abs(float(np.mean(list(self.baseline.values()))))

    def differences(self) -> list[float]:
        """Cell - baseline, by seed."""
        return [self.cell[seed] - self.baseline[seed] for seed in self.seeds]

    def tested(self) -> list[float]:
        """The differences, and the worst one seen for every seed on which one of the two diverged."""
        seen = self.differences()
        worst = max(map(abs, seen)) or 1.0
        worst = worst if self.lower_is_better else -worst
        base, cell = self.diverged
        return [*seen, *[-worst] * base, *[worst] * cell]


@dataclass(frozen=True)
class Pairing:
    """Everything about one cell and the baseline that statistics are made from."""

    samples: dict[Name, Sample]
    """Empty when no seed finished in both."""
    curves: dict[int, Pair]
    """Both curves by seed, where they have at least two points in common range."""


def pairings(
    evidence: Evidence, baseline: str, cells: list[str], *, lower: bool, target: float | None
) -> dict[str, Pairing]:
    """The baseline's trials paired with each cell's; `lower` is the deciding metric's direction.

    `target` is the curve metric's value for kimg-to-target; None: the hardest that all reach.
    """
    values, lines = finals(evidence, evidence.metric), curves(evidence)

    def pairing(cell: str) -> Pairing:
        base, other = values[baseline], values[cell]
        seeds = sorted(set(base) & set(other))
        pairs = _curve_pairs(lines, baseline, cell, values[cell])
        if not seeds:
            return Pairing({}, pairs)
        samples: dict[Name, Sample] = {}
        ends = {s: base[s] for s in seeds}, {s: other[s] for s in seeds}
        samples["final"] = Sample(evidence.metric, lower, *ends)
        if pairs:
            samples["area"] = _area(pairs, evidence.curve_metric, lower=lower)
            samples["target"] = _to_target(pairs, evidence.curve_metric, target, lower=lower)
        lost = one_sided(evidence, values, baseline, cell)
        return Pairing({n: replace(s, diverged=lost) for n, s in samples.items()}, pairs)

    return {cell: pairing(cell) for cell in cells}


def _curve_pairs(
    lines: Mapping[tuple[str, int], Curve], baseline: str, cell: str, seeds: Mapping[int, float]
) -> dict[int, Pair]:
    both = {
        seed: Pair(lines[baseline, seed], lines[cell, seed])
        for seed in sorted(seeds)
        if (cell, seed) in lines and (baseline, seed) in lines
    }
    return {seed: pair for seed, pair in both.items() if np.diff(span(pair))[0] > 0}


def _area(pairs: Mapping[int, Pair], metric: str, *, lower: bool) -> Sample:
    return Sample(
        metric,
        lower,
        {s: mean_level(p.baseline, *span(p)) for s, p in pairs.items()},
        {s: mean_level(p.cell, *span(p)) for s, p in pairs.items()},
    )


def _to_target(
    pairs: Mapping[int, Pair], metric: str, given: float | None, *, lower: bool
) -> Sample:
    sign = 1.0 if lower else -1.0
    bests = [(sign * curve.value).min() for pair in pairs.values() for curve in pair]
    target = sign * float(max(bests)) if given is None else given
    budget = min(span(pair)[1] for pair in pairs.values())

    def times(lines: Mapping[int, Curve]) -> tuple[dict[int, float], int]:
        exact = {s: reach(c, target, lower_is_better=lower) for s, c in lines.items()}
        censored = sum(value > budget for value in exact.values())
        return {seed: min(budget, value) for seed, value in exact.items()}, censored

    base, base_censored = times({s: p.baseline for s, p in pairs.items()})
    other, other_censored = times({s: p.cell for s, p in pairs.items()})
    return Sample(metric, True, base, other, target, (base_censored, other_censored))

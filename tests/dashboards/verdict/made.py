"""Made-up experiments in plain values: a number per cell and seed, where wanted with a curve or a bad end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dashboards.verdict.evidence import Curve, Evidence, Quantity, Trial
from dashboards.verdict.judging import judge
from dashboards.verdict.values import Comparison
from trainer.report import Status

QUANTITIES = {
    "eval/fid": Quantity("FID", lower_is_better=True),
    "rung/fid": Quantity("FID (cheap protocol)", lower_is_better=True),
    "eval/recall": Quantity("recall", lower_is_better=False, ratio=False),
    "eval/kid": Quantity("KID", lower_is_better=True, ratio=False),
}
KIMG = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
_SHAPE = 30.0 * KIMG**-0.8

Outcome = float | str | None
"""A final number; a status with which the trial ended without one; None: it does not exist."""


def trial(cell: str, seed: int, outcome: float | str, metric: str, *, curve: bool) -> Trial:
    """One trial; its curve, if it has one, falls to its final number."""
    if isinstance(outcome, str):
        return Trial(cell, seed, Status(outcome), reason=f"{outcome} for a reason")
    level = outcome / _SHAPE[-1]
    curves = {"rung/fid": Curve(KIMG, level * _SHAPE)} if curve else {}
    finals = {metric: outcome}
    return Trial(cell, seed, Status.FINISHED, images=16_000, finals=finals, curves=curves)


def evidence(
    cells: Mapping[str, Sequence[Outcome]],
    *,
    metric: str = "eval/fid",
    curve: bool = False,
    **options: Any,
) -> Evidence:
    """An experiment of some cells, the first of which is the baseline; outcomes are by seed."""
    trials = tuple(
        trial(cell, seed, outcome, metric, curve=curve)
        for cell, outcomes in cells.items()
        for seed, outcome in enumerate(outcomes)
        if outcome is not None
    )
    order = tuple(range(max(map(len, cells.values()), default=0)))
    plain = {"baseline": next(iter(cells)), "order": order}
    return Evidence(trials, tuple(cells), metric, QUANTITIES, **(plain | options))


def base(seeds: int, seed: int = 0) -> list[float]:
    """A baseline's numbers: around 4."""
    return [float(v) for v in 4 * np.exp(np.random.default_rng(seed).normal(0, 0.1, seeds))]


def rival(numbers: Sequence[float], effect: float, noise: float = 0.02, seed: int = 1) -> list[Any]:
    """Numbers that differ from those of the same seed by a factor, with noise of their own."""
    rng = np.random.default_rng(seed)
    return [float(v * (1 + effect) * np.exp(rng.normal(0, noise))) for v in numbers]


def only(made: Evidence, **options: Any) -> Comparison:
    """The one comparison of it."""
    (comparison,) = judge(made, **options).comparisons
    return comparison

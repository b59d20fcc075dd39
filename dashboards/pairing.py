"""Which numbers of a sweep may be compared? Directions, equal budgets, seeds without a pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dashboards.runs import IncomparableError
from dashboards.speed import Curve

if TYPE_CHECKING:
    from dashboards.runs import Sweep

LOWER_IS_BETTER = {
    "fid": True,
    "kid": True,
    "bpd": True,
    "is": False,
    "precision": False,
    "recall": False,
}


def lower_is_better(metric: str) -> bool:
    """The direction of an `eval/` or `rung/` metric; `IncomparableError` for all others."""
    family, _, name = metric.partition("/")
    if family == "train":
        raise IncomparableError(
            f"{metric} is never compared: cells with another weighting, prediction or timestep"
            f" sampler minimize different losses. Compare eval/fid."
        )
    if family not in {"eval", "rung"} or name not in LOWER_IS_BETTER:
        known = ", ".join(f"eval/{known}" for known in LOWER_IS_BETTER)
        raise IncomparableError(f"{metric} cannot be compared; these can: {known}")
    return LOWER_IS_BETTER[name]


@dataclass(frozen=True)
class Dropped:
    """A seed that gives no pair, and whose fault it is."""

    seed: int
    cell: str
    status: str
    reason: str | None


def baseline_of(sweep: Sweep, baseline: str | None) -> str:
    """The baseline cell; `IncomparableError` when there is none or nothing to compare it with."""
    base = sweep.baseline if baseline is None else baseline
    if base is None or base not in sweep.cells:
        asked = "no baseline is given" if base is None else f"the baseline {base!r} is no cell"
        raise IncomparableError(f"{asked}; cells are: {', '.join(sweep.cells)}")
    if len(sweep.cells) < 2:
        raise IncomparableError(f"only the cell {base!r} is there: nothing to compare it with")
    return base


def finals(sweep: Sweep, metric: str) -> dict[str, dict[int, float]]:
    """Finite final values of the finished trials: cell, then seed."""
    found: dict[str, dict[int, float]] = {cell: {} for cell in sweep.cells}
    rows = sweep.trials
    for cell, seed, status, value in zip(
        rows["cell"], rows["seed"], rows["status"], rows[metric], strict=True
    ):
        if status == "finished" and math.isfinite(value):
            found[cell][int(seed)] = float(value)
    return found


def curves(sweep: Sweep) -> dict[tuple[str, int], Curve]:
    """The convergence curve of every finished trial by (cell, seed)."""
    rows = sweep.curve(sweep.curve_metric, finished_only=True)
    rows = rows[np.isfinite(rows["value"].to_numpy(dtype=np.float64))]
    return {
        (str(cell), int(seed)): Curve(
            group["kimg"].to_numpy(dtype=np.float64), group["value"].to_numpy(dtype=np.float64)
        )
        for (cell, seed), group in rows.groupby(["cell", "seed"], observed=True)
    }


def common_budget(sweep: Sweep, metric: str) -> float | None:
    """The kimg all finished trials share; `IncomparableError` when they differ."""
    rows = sweep.trials
    rows = rows[(rows["status"] == "finished") & rows[metric].notna()]
    budgets: dict[float, list[str]] = {}
    for cell, kimg in zip(rows["cell"], rows["kimg"], strict=True):
        budgets.setdefault(round(float(kimg), 6), []).append(str(cell))
    if len(budgets) > 1:
        said = "; ".join(f"{k:g} kimg in {', '.join(sorted(set(c)))}" for k, c in budgets.items())
        raise IncomparableError(
            f"the trials were trained on different budgets ({said}): only equal images compare."
            f" Give all cells the same train.kimg."
        )
    return next(iter(budgets), None)


def dropped_seeds(sweep: Sweep, baseline: str, cell: str) -> tuple[Dropped, ...]:
    """Seeds without a pair, each with the cells at fault."""
    rows = sweep.trials.set_index(["cell", "seed"])
    found: list[Dropped] = []
    for seed in sweep.seeds:
        for name in (baseline, cell):
            if (name, seed) not in rows.index:
                found.append(Dropped(seed, name, "missing", None))
                continue
            status, reason = rows.loc[(name, seed), "status"], rows.loc[(name, seed), "reason"]
            value = rows.loc[(name, seed), sweep.metric]
            text = str(reason) if isinstance(reason, str) and reason else None
            if status != "finished":
                found.append(Dropped(seed, name, str(status), text))
            elif not math.isfinite(float(value)):  # type: ignore[arg-type]
                found.append(Dropped(seed, name, "failed", f"it has no {sweep.metric}"))
    return tuple(found)


def hours_per_seed(sweep: Sweep) -> float | None:
    """What one more seed of every cell costs, from the mean of the trials that finished."""
    done = sweep.trials[sweep.trials["status"] == "finished"]
    means = done.groupby("cell")["seconds"].mean().dropna()
    if means.empty:
        return None
    return float(means.mean()) * len(sweep.cells) * max(sweep.gpus, 1.0) / 3600

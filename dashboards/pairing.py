"""Which numbers of a sweep may be compared? Directions, equal budgets, seeds without a pair, costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dashboards.runs import IncomparableError
from dashboards.speed import Curve
from trainer.evaluation.metric import KINDS

if TYPE_CHECKING:
    from dashboards.runs import Sweep


def lower_is_better(metric: str) -> bool:
    """The direction of an `eval/` or `rung/` metric; `IncomparableError` for all others."""
    family, _, name = metric.partition("/")
    if family == "train":
        raise IncomparableError(
            f"{metric} is never compared: cells with another weighting, prediction or timestep"
            f" sampler minimize different losses. Compare eval/fid."
        )
    if family not in {"eval", "rung"} or name not in KINDS:
        known = ", ".join(f"eval/{known}" for known in KINDS)
        raise IncomparableError(f"{metric} cannot be compared; these can: {known}")
    return KINDS[name].lower_is_better


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


@dataclass(frozen=True)
class Refused:
    """A cell that is not compared with the baseline: its numbers mean something else."""

    cell: str
    why: str
    """In a few words, for the headline."""
    reason: str
    """In full, with the way out."""


def budget(sweep: Sweep, metric: str, cell: str) -> list[int]:
    """Images on which the cell's finished trials were trained: one number if all is well."""
    rows = sweep.trials
    rows = rows[(rows["cell"] == cell) & (rows["status"] == "finished") & rows[metric].notna()]
    return sorted({round(1000 * float(kimg)) for kimg in rows["kimg"] if math.isfinite(kimg)})


def refusals(sweep: Sweep, metrics: Sequence[str], baseline: str) -> tuple[Refused, ...]:
    """Cells measured under another protocol, or trained on other images, than the baseline.

    `metrics` are the final one and the curve's. Raises `IncomparableError` when the trials of the
    baseline differ among themselves, or when no cell is left to compare.
    """
    for metric in metrics:
        sweep.protocol(metric, [baseline])
    images = budget(sweep, metrics[0], baseline)
    if len(images) > 1:
        raise IncomparableError(
            f"the trials of the baseline `{baseline}` were trained on {_images(images)}:"
            f" {_same_budget(sweep, [baseline])}"
        )
    others = [cell for cell in sweep.cells if cell != baseline]
    found = tuple(r for cell in others if (r := _refusal(sweep, metrics, baseline, cell)))
    if len(found) == len(others):
        raise IncomparableError(" ".join(dict.fromkeys(r.reason for r in found)))
    return found


def _refusal(sweep: Sweep, metrics: Sequence[str], baseline: str, cell: str) -> Refused | None:
    for metric in metrics:
        try:
            sweep.protocol(metric, [baseline, cell])
        except IncomparableError as error:
            return Refused(cell, f"{metric} under another protocol", f"{error}")
    base, own = (budget(sweep, metrics[0], name) for name in (baseline, cell))
    if not base or not own or base == own:
        return None
    reason = (
        f"`{cell}` was trained on {_images(own)}, the baseline `{baseline}` on {_images(base)}:"
        f" {_same_budget(sweep, [baseline, cell])}"
    )
    return Refused(cell, f"{_images(own)}, not {base[0]:,}", reason)


def _images(counts: Sequence[int]) -> str:
    return f"{' and '.join(f'{count:,}' for count in counts)} images"


def _same_budget(sweep: Sweep, cells: Sequence[str]) -> str:
    """The way out: a budget that every batch size divides, by number where the specs are known."""
    trains = [sweep.specs.get(cell, {}).get("train", {}) for cell in cells]
    sizes = sorted({int(train["batch_size"]) for train in trains if "batch_size" in train})
    advice = "only equal images compare. Give every cell the same train.kimg"
    if not sizes:
        return f"{advice}, one that every train.batch_size divides."
    listed = " and ".join(str(size) for size in sizes)
    whole = f"a multiple of {math.lcm(*sizes) / 1000:g} kimg"
    return f"{advice}, {whole}, which train.batch_size {listed} divide{'s' * (len(sizes) == 1)}."


def one_sided(
    sweep: Sweep, values: Mapping[str, Mapping[int, float]], baseline: str, cell: str
) -> tuple[int, int]:
    """Seeds on which only the baseline diverged, and only the cell; the other has its value."""
    rows = sweep.trials[sweep.trials["status"] == "diverged"]
    lost = {(str(c), int(s)) for c, s in zip(rows["cell"], rows["seed"], strict=True)}
    return (
        sum((baseline, seed) in lost for seed in values[cell]),
        sum((cell, seed) in lost for seed in values[baseline]),
    )


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
    """CPU- or GPU-hours of one more seed of every cell, from the mean of the finished trials."""
    done = sweep.trials[sweep.trials["status"] == "finished"]
    means = done.groupby("cell")["seconds"].mean().dropna()
    if means.empty:
        return None
    return float(means.mean()) * len(sweep.cells) * sweep.devices / 3600

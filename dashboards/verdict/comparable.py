"""Which numbers may be compared? Known metrics, one protocol, equal budgets, seeds without a pair."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from dashboards.verdict.evidence import Evidence, Quantity
from dashboards.verdict.values import Dropped, Refused
from trainer.errors import UserError
from trainer.report import Status


class IncomparableError(UserError):
    """These numbers may not be compared or share an axis; the message says why and the way out."""


def quantity(evidence: Evidence, metric: str) -> Quantity:
    """Title and direction of an `eval/` or `rung/` metric; `IncomparableError` for all others."""
    if metric.startswith("train/"):
        raise IncomparableError(
            f"{metric} is never compared: cells with another weighting, prediction or timestep"
            f" sampler minimize different losses. Compare eval/fid."
        )
    if metric not in evidence.quantities:
        known = ", ".join(name for name in evidence.quantities if name.startswith("eval/"))
        raise IncomparableError(f"{metric} cannot be compared; these can: {known}")
    return evidence.quantities[metric]


def baseline_of(evidence: Evidence, baseline: str | None) -> str:
    """The baseline cell; `IncomparableError` when there is none or nothing to compare it with.

    One cell alone may be compared with itself, under further protocols.
    """
    base = evidence.baseline if baseline is None else baseline
    alone = len(evidence.cells) == 1 and bool(evidence.further.get(evidence.cells[0]))
    if base is None and alone:
        base = evidence.cells[0]
    if base is None or base not in evidence.cells:
        asked = "no baseline is given" if base is None else f"the baseline {base!r} is no cell"
        raise IncomparableError(f"{asked}; cells are: {', '.join(evidence.cells)}")
    if base in evidence.stopped:
        raise IncomparableError(
            f"the baseline `{base}` was {evidence.stopped[base]}: choose another, or another `policy`"
        )
    if len(evidence.cells) < 2 and not alone:
        raise IncomparableError(f"only the cell {base!r} is there: nothing to compare it with")
    return base


def finals(evidence: Evidence, metric: str) -> dict[str, dict[int, float]]:
    """Finite final values of the finished trials: cell, then seed."""
    values: dict[str, dict[int, float]] = {cell: {} for cell in evidence.cells}
    for trial in evidence.finished:
        value = trial.finals.get(metric, math.nan)
        if math.isfinite(value):
            values[trial.cell][trial.seed] = value
    return values


def protocol(evidence: Evidence, metric: str, cells: Iterable[str] | None = None) -> str | None:
    """The one protocol id behind a metric; None for metrics which have none (`train/loss`).

    Raises `IncomparableError` when the cells were measured under different ids.
    """
    wanted = set(evidence.cells if cells is None else cells)
    measured: dict[str, list[str]] = {}
    for trial in evidence.trials:
        for identifier in trial.protocols.get(metric, ()) if trial.cell in wanted else ():
            measured.setdefault(identifier, []).append(trial.cell)
    if len(measured) > 1:
        listed = "; ".join(
            f"{identifier} in {', '.join(f'`{name}`' for name in dict.fromkeys(owners))}"
            for identifier, owners in measured.items()
        )
        raise IncomparableError(
            f"{metric} was measured under {len(measured)} protocols ({listed}): such numbers cannot"
            f" be compared. Give all cells the same `evaluation`, or compare fewer cells."
        )
    return next(iter(measured), None)


def budget(evidence: Evidence, metric: str, cell: str) -> list[int]:
    """Images on which the cell's finished trials were trained: one number if all is well."""
    counts = {
        trial.images
        for trial in evidence.finished
        if trial.cell == cell and not math.isnan(trial.finals.get(metric, math.nan))
    }
    return sorted(count for count in counts if count is not None)


def refusals(evidence: Evidence, metrics: Sequence[str], baseline: str) -> tuple[Refused, ...]:
    """Cells measured under another protocol, or trained on other images, than the baseline.

    `metrics` are the final one and the curve's. Raises `IncomparableError` when the trials of the
    baseline differ among themselves, or when no cell is left to compare.
    """
    for metric in metrics:
        protocol(evidence, metric, [baseline])
    images = budget(evidence, metrics[0], baseline)
    if len(images) > 1:
        raise IncomparableError(
            f"the trials of the baseline `{baseline}` were trained on {_images(images)}:"
            f" {_same_budget(evidence, [baseline])}"
        )
    stopped = evidence.stopped
    others = [cell for cell in evidence.cells if cell != baseline and cell not in stopped]
    refused = tuple(r for cell in others if (r := _refusal(evidence, metrics, baseline, cell)))
    if refused and len(refused) == len(others):
        raise IncomparableError(" ".join(dict.fromkeys(r.reason for r in refused)))
    return (*refused, *(Refused(c, _by_whom(why), f"it was {why}") for c, why in stopped.items()))


def _by_whom(reason: str) -> str:
    """`stopped early by halving`, from `stopped by halving: rung/fid 21.3 at 14.4 of 57.6 kimg ...`."""
    who = reason.partition(":")[0].partition(" at ")[0]
    return who.replace("stopped", "stopped early", 1)


def _refusal(
    evidence: Evidence, metrics: Sequence[str], baseline: str, cell: str
) -> Refused | None:
    for metric in metrics:
        try:
            protocol(evidence, metric, [baseline, cell])
        except IncomparableError as error:
            return Refused(cell, f"{metric} under another protocol", f"{error}")
    base, own = (budget(evidence, metrics[0], name) for name in (baseline, cell))
    if not base or not own or base == own:
        return None
    reason = (
        f"`{cell}` was trained on {_images(own)}, the baseline `{baseline}` on {_images(base)}:"
        f" {_same_budget(evidence, [baseline, cell])}"
    )
    return Refused(cell, f"{_images(own)}, not {base[0]:,}", reason)


def _images(counts: Sequence[int]) -> str:
    return f"{' and '.join(f'{count:,}' for count in counts)} images"


def _same_budget(evidence: Evidence, cells: Sequence[str]) -> str:
    """The way out: a budget that every batch size divides, by number where they are known."""
    known = evidence.batch_sizes
    sizes = sorted({known[cell] for cell in cells if cell in known})
    advice = "only equal images compare. Give every cell the same train.kimg"
    if not sizes:
        return f"{advice}, one that every train.batch_size divides."
    listed = " and ".join(str(size) for size in sizes)
    whole = f"a multiple of {math.lcm(*sizes) / 1000:g} kimg"
    return f"{advice}, {whole}, which train.batch_size {listed} divide{'s' * (len(sizes) == 1)}."


def dropped_seeds(
    evidence: Evidence, baseline: str, cell: str, seeds: Sequence[int]
) -> tuple[Dropped, ...]:
    """Those of `seeds` without a pair of numbers, each with the cells at fault."""
    trials = {(t.cell, t.seed): t for t in evidence.trials if t.cell in (baseline, cell)}
    dropped = []
    for seed in seeds:
        for name in (baseline, cell):
            trial = trials.get((name, seed))
            if trial is None:
                dropped.append(Dropped(seed, name, Status.WAITING, None))
            elif trial.status is not Status.FINISHED:
                dropped.append(Dropped(seed, name, trial.status, trial.reason))
            elif not math.isfinite(trial.finals.get(evidence.metric, math.nan)):
                reason = f"it has no finite {evidence.metric}"
                dropped.append(Dropped(seed, name, Status.DIVERGED, reason))
    return tuple(dropped)


def hours_per_seed(evidence: Evidence) -> float | None:
    """CPU- or GPU-hours of one more seed of every cell, from the mean of the finished trials."""
    seconds: dict[str, list[float]] = {}
    for trial in evidence.finished:
        if trial.seconds is not None:
            seconds.setdefault(trial.cell, []).append(trial.seconds)
    if not seconds:
        return None
    means = [np.mean(own) * evidence.devices.get(cell, 1.0) for cell, own in seconds.items()]
    return float(np.mean(means)) * len(evidence.cells) / 3600

"""What does the MLflow run of a cell show? The mean of its seeds, and how sure it is: by images, and by seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from service.tracking.outbox import Outbox
from service.tracking.rows import Point, report_points

if TYPE_CHECKING:
    from trainer.report import Report

FINAL = "eval/"
"""Beginning of the metrics that a trial ends with."""
AVERAGED = (FINAL, "rung/")
"""Beginnings of the metrics that are worth a mean."""
SO_FAR = "so_far/"
"""Beginning of the means over the seeds that have ended, by their number."""
LOW, HIGH = "ci_low", "ci_high"


def cell_key(cell: str, trial_keys: Iterable[str]) -> str:
    """The identity of a cell's run: the cell and exactly the trials that it averages.

    MLflow cannot take a point back, so a cell with one more seed is another run.
    """
    text = "|".join([cell, *sorted(trial_keys)])
    return f"cell:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def average(
    outbox: Outbox,
    cell_key: str,
    run_keys: Sequence[str],
    at: Iterable[tuple[str, int]] | None = None,
) -> list[Point]:
    """Mean and 95 % interval, the report's own, at every step at which *all* runs have a finite value.

    A mean over the seeds that happened to survive would flatter the cell, so it ends with the first. What the cell's
    run has already is left out. `at` names the only metrics and steps that may be new: an interval takes milliseconds.
    """
    if at is None:
        known = {(name, step) for name, step, *_ in outbox.points(cell_key, AVERAGED)}
        first = outbox.points(run_keys[0], AVERAGED) if run_keys else []
        at = sorted({(name, step) for name, step, *_ in first} - known)
    points: list[Point] = []
    for name, step in at:
        found = outbox.values([*run_keys, cell_key], name, step)
        if cell_key not in found and len(found) == len(run_keys):
            last = max(time_ms for time_ms, _ in found.values())
            points += _mean(name, name, step, last, [found[key][1] for key in run_keys])
    return points


def averaged(report: Report) -> list[tuple[str, int]]:
    """The metrics of a report that are worth a mean, each with its step."""
    return [(name, step) for name, step, *_ in report_points(report) if name.startswith(AVERAGED)]


def so_far(
    outbox: Outbox, cell_key: str, ended: Sequence[tuple[int, Mapping[str, float]]]
) -> list[Point]:
    """Mean and 95 % interval over the first seed, the first two ... that ended (time in ms, last numbers), in order.

    The step is the number of seeds. It ends with the first seed that has no finite value.
    """
    known = {(name, step) for name, step, *_ in outbox.points(cell_key, (SO_FAR,))}
    points: list[Point] = []
    for name in sorted(ended[0][1]) if ended else ():
        numbers: list[float] = []
        for time_ms, metrics in ended if name.startswith(FINAL) else ():
            numbers.append(metrics.get(name, math.nan))
            if not math.isfinite(numbers[-1]):
                break
            shown = f"{SO_FAR}{name}"
            if (shown, len(numbers)) not in known:
                points += _mean(name, shown, len(numbers), time_ms, numbers)
    return points


def _mean(
    name: str, shown: str, step: int, time_ms: int, numbers: Sequence[float]
) -> Iterator[Point]:
    """The points of a mean of a metric, under the name by which it is shown."""
    from dashboards.metrics import quantity
    from dashboards.verdict.statistics import mean_interval, spread

    yield shown, step, time_ms, spread(numbers).mean
    known = quantity(name)
    ends = mean_interval(numbers, ratio=known is not None and known.ratio)
    if ends.low is not None and ends.high is not None:
        yield f"{shown}.{LOW}", step, time_ms, ends.low
        yield f"{shown}.{HIGH}", step, time_ms, ends.high

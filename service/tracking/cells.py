"""What does the MLflow run of a cell show? The mean of its seeds, and how sure it is."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from service.tracking.outbox import Outbox
from service.tracking.rows import Point

AVERAGED = ("eval/", "rung/")
"""Beginnings of the metrics that are worth a mean."""
LOW, HIGH = "ci_low", "ci_high"


def cell_key(cell: str, trial_keys: Iterable[str]) -> str:
    """The identity of a cell's run: the cell and exactly the trials that it averages.

    MLflow cannot take a point back, so a cell with one more seed is another run.
    """
    text = "|".join([cell, *sorted(trial_keys)])
    return f"cell:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def average(outbox: Outbox, run_keys: Sequence[str]) -> list[Point]:
    """Mean and 95 % interval, the report's own, at every step at which *all* runs have a finite value.

    A mean over the seeds that happened to survive would flatter the cell, so it ends with the first.
    """
    from dashboards.metrics import quantity
    from dashboards.verdict.statistics import mean_interval, spread

    values: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for key in run_keys:
        for name, step, time_ms, value in outbox.points(key, AVERAGED):
            if math.isfinite(value):
                values[name, step].append((time_ms, value))
    points: list[Point] = []
    for (name, step), measured in sorted(values.items()):
        if len(measured) < len(run_keys):
            continue
        last = max(time_ms for time_ms, _ in measured)
        numbers = [value for _, value in measured]
        points.append((name, step, last, spread(numbers).mean))
        known = quantity(name)
        ends = mean_interval(numbers, ratio=known is not None and known.ratio)
        if ends.low is not None and ends.high is not None:
            points += [(f"{name}.{LOW}", step, last, ends.low)]
            points += [(f"{name}.{HIGH}", step, last, ends.high)]
    return points

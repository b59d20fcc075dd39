"""Which columns do the tables of trials and of curves have? The one place that says it.

A trial's row has final numbers only: the last number of a training that has not finished is a point
of its curve. Directories, MLflow and `Job.results()` all become these tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trainer.report import MEASURED, SHOWN, Status

TRIAL_COLUMNS = (
    "cell",
    "seed",
    "trial_key",
    "run_id",
    "status",
    "reason",
    "protocol",
    "protocol_rung",
    "kimg",
    "seconds",
)
"""`run_id` is MLflow's. The protocols are those of the deciding metric and of its curve; `seconds`
are of training and evaluation. Then one column per final metric."""
FINAL = MEASURED
"""Beginnings of the metrics that a trial ends with."""
CLOCK_COLUMNS = ("cell", "seed", "trial_key", "images", "train_s", "eval_s")
"""What it took to come to an evaluation: seconds of training, and of evaluations with this one, without pauses."""
CURVE_COLUMNS = ("cell", "seed", "trial_key", "protocol", "metric", "images", "kimg", "value")
_NUMBERS = {"images": "int64", "kimg": "float64", "value": "float64"}


def trial_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """`TRIAL_COLUMNS` and final metrics from one mapping per trial; what a mapping lacks is empty.

    A mapping's `metrics` become columns: of finished trials, and only `eval/...` and `rung/...`.
    """
    table = pd.DataFrame([_with_finals(row) for row in rows])
    for column in TRIAL_COLUMNS:
        if column not in table.columns:
            table[column] = None
    metrics = final_metrics(table)
    for column in ("kimg", "seconds", *metrics):
        table[column] = pd.to_numeric(table[column])
    return table[[*TRIAL_COLUMNS, *metrics]]


def final_metrics(table: pd.DataFrame) -> list[str]:
    """The columns of a table of trials that are metrics."""
    return [str(column) for column in table.columns if column not in TRIAL_COLUMNS]


def curve_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """`CURVE_COLUMNS` from one mapping per number; of repeated numbers the last counts.

    Numbers of measuring and training, `eval/...`, `rung/...` and `train/...`; those of the machine
    are left out.
    """
    kept = [_emptied(row) for row in rows if row["metric"].startswith(SHOWN)]
    table = pd.DataFrame(kept, columns=list(CURVE_COLUMNS)).astype(_NUMBERS)
    return table.drop_duplicates(
        ["cell", "seed", "trial_key", "metric", "images"], keep="last", ignore_index=True
    )


class Points(NamedTuple):
    """The curve of one metric of one trial: images seen, each once, and for each its value and protocol id."""

    metric: str
    images: Sequence[float]
    values: Sequence[float]
    protocols: Sequence[str | None]


def joined(curves: Iterable[tuple[str, int, str, Points]]) -> pd.DataFrame:
    """`CURVE_COLUMNS` from whole curves, each with its cell, seed and trial key: nothing is made of a single number."""
    columns: dict[str, list[Any]] = {name: [] for name in CURVE_COLUMNS}
    for cell, seed, key, points in curves:
        long = len(points.images)
        same = {"cell": cell, "seed": seed, "trial_key": key, "metric": points.metric}
        for name, value in same.items():
            columns[name] += [value] * long
        columns["images"] += points.images
        columns["value"] += points.values
        columns["protocol"] += points.protocols
    if not columns["cell"]:
        return curve_table(())  # columns of text, though nobody sees that in no rows
    images, values = (np.array(columns[n], _NUMBERS[n]) for n in ("images", "value"))
    return pd.DataFrame({**columns, "images": images, "kimg": images / 1000, "value": values})


def clock_table(rows: Sequence[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """`CLOCK_COLUMNS` from one mapping per evaluation."""
    table = pd.DataFrame(list(rows), columns=list(CLOCK_COLUMNS))
    return table.astype({"images": "int64", "train_s": "float64", "eval_s": "float64"})


def _with_finals(row: Mapping[str, Any]) -> dict[str, Any]:
    finished = row.get("status") == Status.FINISHED
    metrics = row.get("metrics") or {}
    finals = {name: value for name, value in metrics.items() if finished and _is_final(name)}
    kept = {n: v for n, v in row.items() if n in TRIAL_COLUMNS or _is_final(n)}
    return _emptied(kept) | finals


def _emptied(row: Mapping[str, Any]) -> dict[str, Any]:
    """What MLflow has as empty text is nothing."""
    return {name: None if value == "" else value for name, value in row.items()}


def _is_final(name: str) -> bool:
    return name.startswith(FINAL)

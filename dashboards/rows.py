"""How does what a trial left behind become tidy rows? One per trial, one per reported number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from trainer.report import Report, Result, read_reports, read_result
from trainer.spec import Spec

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
CURVE_COLUMNS = ("cell", "seed", "trial_key", "protocol", "metric", "images", "kimg", "value")
STATUSES = ("finished", "diverged", "failed", "running", "missing")


class Planned(Protocol):
    """A trial of the plan: what `service.experiment.PlannedTrial` offers."""

    @property
    def cell(self) -> str:
        """Name of its cell."""

    @property
    def seed(self) -> int:
        """Its seed, shared with one trial of every other cell."""

    @property
    def spec(self) -> Spec:
        """The resolved trial."""

    @property
    def key(self) -> str:
        """Its trial key: the name of its directory."""


def trials_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A `Sweep.trials` frame from one mapping per trial; what a mapping lacks is empty.

    A mapping's `metrics` become columns: of finished trials, and only `eval/...` and `rung/...`,
    since the last number of an unfinished training is not a final one.
    """
    frame = pd.DataFrame([_with_finals(row) for row in rows])
    for column in TRIAL_COLUMNS:
        if column not in frame.columns:
            frame[column] = None
    metrics = [column for column in frame.columns if column not in TRIAL_COLUMNS]
    for column in ("kimg", "seconds", *metrics):
        frame[column] = pd.to_numeric(frame[column])
    return frame[[*TRIAL_COLUMNS, *metrics]]


def curves_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A `Sweep.curves` frame from one mapping per number; of repeated numbers the last counts."""
    frame = pd.DataFrame(list(rows), columns=list(CURVE_COLUMNS))
    frame = frame.astype({"images": "int64", "kimg": "float64", "value": "float64"})
    return frame.drop_duplicates(
        ["cell", "seed", "trial_key", "metric", "images"], keep="last", ignore_index=True
    )


def _with_finals(row: Mapping[str, Any]) -> dict[str, Any]:
    finals = {
        name: value
        for name, value in dict(row.get("metrics") or {}).items()
        if row.get("status") == "finished" and name.startswith(("eval/", "rung/"))
    }
    kept = {name: value for name, value in row.items() if name != "metrics"}
    known = {
        n: v for n, v in kept.items() if n in TRIAL_COLUMNS or n.startswith(("eval/", "rung/"))
    }
    return known | finals


def absent(trial: Planned) -> dict[str, Any]:
    """The row of a planned trial that left nothing."""
    return _identity(trial) | {"status": "missing"}


def _identity(trial: Planned) -> dict[str, Any]:
    return {"cell": trial.cell, "seed": trial.seed, "trial_key": trial.key}


@dataclass(frozen=True)
class TrialRows:
    """A trial's directory, read."""

    trial: dict[str, Any]
    curve: list[dict[str, Any]]
    sample: Path | None
    """The last sample grid that is there."""


def read_trial(trial: Planned, directory: Path, failure: str | None = None) -> TrialRows:
    """Rows of one trial directory; `failure` is why it failed, which the directory cannot know."""
    if not directory.is_dir():
        status = {} if failure is None else {"status": "failed", "reason": failure}
        return TrialRows(absent(trial) | status, [], None)
    reports, result = read_reports(directory), read_result(directory)
    protocol = result.protocol if result is not None else {}
    row = _identity(trial) | {
        "status": "running" if reports else "missing",
        "protocol": next((v for k, v in protocol.items() if k.startswith("eval/")), None),
        "protocol_rung": next((v for k, v in protocol.items() if k.startswith("rung/")), None),
        "kimg": reports[-1].kimg if reports else None,
    }
    if failure is not None:
        row |= {"status": "failed", "reason": failure}
    if result is not None:
        row |= _ended(result)
    points = [
        _identity(trial)
        | {"protocol": protocol.get(metric), "metric": metric}
        | {"images": images, "kimg": images / 1000, "value": value}
        for report in reports
        for images, metrics in [*report.series, (report.images, report.metrics)]
        for metric, value in metrics.items()
    ]
    return TrialRows(row, points, _last_sample(directory, reports))


def _ended(result: Result) -> dict[str, Any]:
    return {
        "status": result.status,
        "reason": result.reason,
        "kimg": result.images / 1000,
        "seconds": result.seconds + result.eval_seconds,
        "metrics": result.metrics,
    }


def _last_sample(directory: Path, reports: Sequence[Report]) -> Path | None:
    grids = [directory / r.sample_png for r in reports if r.sample_png is not None]
    return next((path for path in reversed(grids) if path.is_file()), None)

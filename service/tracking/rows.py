"""What lies in the outbox? Runs with their state, and the items that belong to them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from service.tracking.keys import (
    FORMER_TOTALS,
    PROTOCOL_OF,
    TUNED_BY,
    reported_name,
    tracked_name,
)
from trainer.report import Status

if TYPE_CHECKING:
    from trainer.report import Report

Kind = Literal["metric", "image", "file"]
Point = tuple[str, int, int, float]
"""Metric, step (training images seen; of a verdict pairs), Unix time in ms, value."""
DRAWS = "draws/"
"""Beginning of the metrics that are one generation noise's part of a reported number."""
_TEXTS = ("cell", "trial_key", "reason", "protocol", "protocol_rung", "spec_digest")
"""Tags of a trial's run that its row shows as they are."""
LEVELS = {"sweep": 0, "cell": 1, "trial": 2}
"""Depth in MLflow's tree of runs; what stands higher is delivered first."""


@dataclass(frozen=True)
class RunHeader:
    """What identifies and describes one MLflow run before it has any numbers."""

    key: str
    """Identity inside the experiment, looked up before a run is created."""
    kind: Literal["sweep", "cell", "trial"]
    name: str
    parent: str | None = None
    """Key of the run above this one."""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredRun:
    """A run as the outbox knows it: its header, its state and what of them has been delivered."""

    header: RunHeader
    started_ms: int
    status: Status
    ended_ms: int | None
    run_id: str | None
    header_sent: bool
    status_sent: Status | None


@dataclass(frozen=True)
class Item:
    """One thing to deliver: a metric point (`number`), an image or a file (`body`)."""

    id: int
    kind: str
    key: str
    step: int
    time_ms: int
    number: float | None
    body: bytes | None


def stored_run(row: tuple[Any, ...]) -> StoredRun:
    """A row of the table of runs."""
    key, level, parent, name, params, tags, started, status, ended, run_id, sent, status_sent = row
    kind: Any = next(kind for kind, number in LEVELS.items() if number == level)
    header = RunHeader(key, kind, name, parent, json.loads(params), json.loads(tags))
    delivered = Status(status_sent) if status_sent else None
    return StoredRun(header, started, Status(status), ended, run_id, bool(sent), delivered)


def report_points(report: Report) -> list[Point]:
    """The metric points of one report, each at the images seen."""
    time_ms = int(report.time_s * 1000)
    last = (report.images, {**report.metrics, **_drawn(report)})
    return [
        (tracked_name(name), step, time_ms, value)
        for step, values in [*report.series, last]
        for name, value in values.items()
    ]


def finite(value: float) -> float | None:
    """MLflow stores infinity as 1.8e308, which flattens every chart: NaN (None here) instead."""
    number = float(value)
    return number if math.isfinite(number) else None


def _drawn(report: Report) -> dict[str, float]:
    """`draws/fid.0`, `draws/fid.1`: names of their own, so that no mean, curve or table takes one for a result."""
    return {
        f"{DRAWS}{name.rpartition('/')[2]}.{k}": value
        for name, values in report.draws.items()
        for k, value in enumerate(values)
    }


def trial_row(
    run_id: str, started_ms: int, tags: Mapping[str, str], metrics: Mapping[str, float]
) -> dict[str, Any]:
    """A trial's run in MLflow as a plain row (see `readback.SweepRows`); `kimg` is not known here."""
    outcome, nan = tags.get("outcome", Status.RUNNING), float("nan")
    totals = [metrics.get(name, metrics.get(FORMER_TOTALS[name], nan)) for name in FORMER_TOTALS]
    gone = {"kimg", *FORMER_TOTALS, *FORMER_TOTALS.values()}
    row: dict[str, Any] = {name: tags.get(name, "") for name in (*_TEXTS, TUNED_BY)}
    return row | {
        "seed": int(tags.get("seed", -1)),
        "run_id": run_id,
        "started_ms": started_ms,
        "status": Status(outcome) if outcome in {*Status} else Status.WAITING,
        "kimg": 0.0,
        "seconds": sum(totals),
        "metrics": {reported_name(n): value for n, value in metrics.items() if n not in gone},
        "protocols": {
            name.removeprefix(PROTOCOL_OF): identifier
            for name, identifier in tags.items()
            if name.startswith(PROTOCOL_OF)
        },
    }

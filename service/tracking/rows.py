"""What lies in the outbox? Runs with their state, and the items that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainer.report import Status

Kind = Literal["metric", "image", "file"]
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

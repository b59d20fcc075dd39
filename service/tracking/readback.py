"""What does MLflow know of an experiment? Trials and curve points, as plain rows."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.errors import ServiceError
from service.tracking.outbox import Outbox
from service.tracking.server import check_reachable, one_line, ui_command, without_password

if TYPE_CHECKING:
    from service.settings import Settings


@dataclass(frozen=True)
class SweepRows:
    """An experiment as MLflow knows it, in plain rows.

    A trial has the `TRIAL_COLUMNS` of `dashboards.tables`, spec_digest, tuned_by, started_ms, `metrics` (metric -> last
    value) and `protocols` (metric -> id); a curve point has the `CURVE_COLUMNS`.
    """

    trials: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)


def newest(rows: SweepRows, tuned_by: Mapping[str, str]) -> SweepRows:
    """The trials whose settings these searches found (cell to id), of each cell and seed the last one."""
    mine: dict[tuple[str, int], dict[str, Any]] = {}
    for trial in sorted(rows.trials, key=lambda trial: trial["started_ms"]):
        if tuned_by.get(trial["cell"]) == trial["tuned_by"]:
            mine[trial["cell"], trial["seed"]] = trial
    keys = {trial["trial_key"] for trial in mine.values()}
    curves = [point for point in rows.curves if point["trial_key"] in keys]
    return SweepRows(list(mine.values()), curves)


def read_sweep(
    settings: Settings, name: str, trial_keys: Collection[str] | None = None
) -> SweepRows:
    """Read an experiment back, or only the given trials of it; raises `ServiceError`."""
    from service.tracking.store import Store

    check_reachable(settings)
    try:
        store = Store(settings, name, create=False, former=_delivered_to(settings, name))
        trials = [t for t in store.trials() if trial_keys is None or t["trial_key"] in trial_keys]
        curves = store.curves(trials)
        reached = {point["trial_key"]: 0.0 for point in curves}
        for point in curves:
            reached[point["trial_key"]] = max(reached[point["trial_key"]], point["kimg"])
        trials = [{**trial, "kimg": reached.get(trial["trial_key"], 0.0)} for trial in trials]
        return SweepRows(trials, curves)
    except Exception as error:
        raise ServiceError(
            f"MLflow at {without_password(settings.store_uri)}: {one_line(error)}",
            f"look at it with `{ui_command(settings)}`",
        ) from error


def _delivered_to(settings: Settings, name: str) -> str:
    """Where this home delivers the experiment, which may have another name there by now; empty where it does not."""
    path = settings.experiment(name) / "outbox.db"
    if not path.exists():
        return ""
    with contextlib.closing(Outbox(path)) as outbox:
        return outbox.destination

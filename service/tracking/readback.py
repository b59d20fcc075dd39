"""What does MLflow know of an experiment? Trials and curve points, as plain rows."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.errors import ServiceError
from service.tracking.outbox import Outbox
from service.tracking.server import check_reachable, one_line, ui_command, without_password

if TYPE_CHECKING:
    from service.experiment import Experiment
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


def run_ids(experiment: Experiment, settings: Settings) -> dict[tuple[str, int], str]:
    """Cell and seed of the trials that MLflow was told of, with what it calls their runs: as the outbox knows it."""
    from service.search.study import tuned
    from service.tracking.announce import trial_runs

    path = settings.experiment(experiment.name) / "outbox.db"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            known = dict(db.execute("SELECT key, run_id FROM run WHERE run_id IS NOT NULL"))
    except sqlite3.Error:  # nobody was told, or nobody can say
        return {}
    runs = trial_runs(tuned(experiment, settings))
    return {(trial.cell, trial.seed): known[run] for trial, run in runs if run in known}


def read_sweep(
    settings: Settings,
    name: str,
    trial_keys: Collection[str] | None = None,
    curves: bool = True,
) -> SweepRows:
    """Read an experiment back, or only the given trials of it; raises `ServiceError`.

    Without its `curves` it is one search; each of them is a request.
    """
    from service.tracking.store import Store

    check_reachable(settings)
    try:
        store = Store(settings, name, create=False, former=_delivered_to(settings, name))
        trials = [t for t in store.trials() if trial_keys is None or t["trial_key"] in trial_keys]
        return SweepRows(trials, store.curves(trials) if curves else [])
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

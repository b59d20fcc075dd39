"""Where does a person look at a run? Addresses in MLflow's pages, from what the outbox was told; nobody is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from dashboards.links import Links
from service.tracking.announce import cell_runs, trial_runs
from service.tracking.outbox import Outbox
from service.tracking.server import is_server

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings


def links(experiment: Experiment, settings: Settings) -> Links:
    """The pages of an experiment's runs that MLflow has, as far as an address of it is known.

    That is `mlflow_ui`, or the server's own to which they were sent. One that is away changes nothing.
    """
    file = settings.experiment(experiment.name) / "outbox.db"
    if not file.is_file():
        return Links()
    outbox = Outbox(file)
    try:
        ids = {run.header.key: run.run_id for run in outbox.runs() if run.run_id}
        store, _, number = outbox.destination.rpartition(" ")[0].rpartition(" ")
    finally:
        outbox.close()
    base = _page(settings.mlflow_ui or store)
    if not base or not number:
        return Links()
    place = f"{base}/#/experiments/{quote(number)}"
    cells = {cell: ids[key] for cell, key in cell_runs(experiment).items() if key in ids}
    trials = {(t.cell, t.seed): ids[key] for t, key in trial_runs(experiment) if key in ids}
    return Links(
        experiment=place,
        cells={cell: f"{place}/runs/{run}" for cell, run in cells.items()},
        trials={trial: f"{place}/runs/{run}" for trial, run in trials.items()},
    )


def _page(uri: str) -> str:
    """The address without a name and password, which a page that is passed on must not carry; empty of no server."""
    if not is_server(uri):
        return ""
    parts = urlsplit(uri)
    return urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")
    )

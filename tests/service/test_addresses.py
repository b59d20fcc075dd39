"""The report's links lead to the runs that MLflow has, carry no password, and ask nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboards.links import Links
from service.settings import Settings, load
from service.tracking.addresses import links
from service.tracking.announce import announce, cell_runs, trial_runs
from service.tracking.delivery import sync
from service.tracking.outbox import Outbox
from service.tracking.store import Store
from tests.service.sweeps import sweep
from trainer.errors import InputError


def told(home: Path, experiment: Any, destination: str) -> None:
    """An outbox whose runs were delivered there, under ids that say which they are."""
    box = Outbox(home / "experiments" / experiment.name / "outbox.db")
    announce(box, experiment, trial_runs(experiment), cell_runs(experiment))
    box.addressed_to(destination)
    for run in box.runs():
        box.identified(run.header.key, f"id-of-{run.header.key.replace(':', '-')}")
    box.close()


def test_links_lead_to_the_runs_that_mlflow_has(toy: dict[str, Any], tmp_path: Path) -> None:
    experiment = sweep(toy)
    settings = Settings(home=tmp_path, tracking_uri=None, mlflow_ui="http://ui.example:5000/")
    box = Outbox(settings.experiment("toy") / "outbox.db")
    announce(box, experiment, trial_runs(experiment), cell_runs(experiment))
    for header in box.runs():
        box.begin(header.header.key, 1)  # MLflow learns of runs that have begun
    box.close()
    assert links(experiment, settings) == Links(), "nothing was delivered"
    sync(settings, "toy")
    found = links(experiment, settings)
    store = Store(settings, "toy", create=False)
    assert len(found.trials) == 4
    for trial, key in trial_runs(experiment):
        run = store.find(key)
        assert run is not None
        assert found.trials[trial.cell, trial.seed] == f"{found.experiment}/runs/{run}"
    cells = {cell: store.find(key) for cell, key in cell_runs(experiment).items()}
    assert found.cells == {cell: f"{found.experiment}/runs/{run}" for cell, run in cells.items()}
    number = store.identity.split()[-2]
    assert found.experiment == f"http://ui.example:5000/#/experiments/{number}"


def test_a_server_that_is_away_changes_nothing_and_its_password_stays_out(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    experiment = sweep(toy)
    told(tmp_path, experiment, "http://me:secret@127.0.0.1:9/mlflow/ 7 1700000000000")
    found = links(experiment, Settings(home=tmp_path, tracking_uri="http://127.0.0.1:9"))
    assert found.experiment == "http://127.0.0.1:9/mlflow/#/experiments/7"
    assert found.cells.keys() == {"uniform", "under"}
    assert not any(
        "secret" in address for address in [*found.cells.values(), *found.trials.values()]
    )


def test_without_an_address_there_are_no_links(toy: dict[str, Any], tmp_path: Path) -> None:
    experiment = sweep(toy)
    settings = Settings(home=tmp_path, tracking_uri=None)
    assert links(experiment, settings) == Links()
    assert not (tmp_path / "experiments").exists(), "looking makes nothing"
    told(tmp_path, experiment, f"{settings.store_uri} 1 1700000000000")
    assert links(experiment, settings) == Links(), "sqlite has no pages"


def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFSWEEP_MLFLOW_UI", "localhost:5000")
    with pytest.raises(InputError, match=r"DIFFSWEEP_MLFLOW_UI.*write it as http://"):
        load()

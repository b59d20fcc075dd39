"""The database behind the MLflow server dies: nobody waits, each point arrives once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from service.tracking.client import client
from service.tracking.uploader import LONGEST_S, Uploader, pause_s
from tests.service.postgres import Postgres, postgres
from tests.service.sweeps import MlflowServer, mlflow_server, wait_for
from tests.service.test_tracking import TRIALS, filled, history, runs

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), database.uri) as running:
        yield running


def test_postgresql_killed_behind_mlflow_gets_each_point_once_and_nobody_waits(
    database: Postgres, server: MlflowServer, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, tracking_uri=server.uri, tracking_patience_s=30)
    box, notes, steps = filled(settings, "x"), list[str](), iter(range(10_000, 10**9, 1000))
    uploader = Uploader(box, settings, "x", notes.append, interval_s=0.05)
    uploader.start()
    assert uploader.drain(60) == 0
    made, slowest = 3, 0.0

    def tell(count: int) -> None:
        """Both trials report, as fast as a driver can."""
        nonlocal made, slowest
        for step in (next(steps) for _ in range(count)):
            begun = time.monotonic()
            for run in TRIALS:
                box.metrics(run, [(name, step, step, 0.5) for name in ("eval/fid", "rung/fid")])
            slowest, made = max(slowest, time.monotonic() - begun), made + 1

    tell(200)
    wait_for(lambda: uploader.left() < 800, "a delivery that has begun", 60)
    database.kill()  # while points are on their way
    tell(50)
    wait_for(lambda: notes, "the note about the outage", 60)
    assert slowest < 1.0, "storing a report waits for no database"
    assert uploader.left() > 0
    database.start()
    tell(50)
    assert uploader.drain(90) == 0
    uploader.close()
    told = [note.split(":")[0] for note in notes]
    assert told == ["MLflow does not answer", "MLflow answers again"]
    assert box.problems() == [], "nothing was taken for refused while the database was away"
    by_key = {run.data.tags["diffsweep.key"]: run for run in runs(settings, "x")}
    assert len(by_key) == len(runs(settings, "x")) == 4
    for key in TRIALS:
        points = history(settings, by_key[key].info.run_id, "eval/fid")
        assert max(Counter(step for step, _, _ in points).values()) == 1
        assert len(points) == made


def test_an_outage_of_minutes_is_asked_after_seldom_and_its_end_is_noticed_soon() -> None:
    """In two minutes a dozen attempts, and after hours the next one is never further than half a minute away."""
    at, failures, attempts = 0.0, 0, list[float]()
    while at < 120.0:
        attempts.append(at)
        failures += 1
        at += pause_s(1.0, failures)
    assert 5 <= len(attempts) <= 12
    assert pause_s(1.0, 10_000) == LONGEST_S <= 30.0
    assert pause_s(1.0, 0) == 1.0


def test_a_database_whose_creation_was_cut_short_is_made_again(tmp_path: Path) -> None:
    """MLflow makes its tables one after the other, and never accepts half of them."""
    settings = Settings(home=tmp_path / "home", tracking_uri=None)
    code = (
        "from pathlib import Path; from service.settings import Settings; from service.tracking.client import client; "
        f"client(Settings(home=Path({str(settings.home)!r}), tracking_uri=None))"
    )
    creator = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: any(one.stat().st_size > 100_000 for one in _made(settings)), "tables", 60)
    creator.kill()
    creator.wait(10)
    assert not settings.database.exists()
    client(settings).create_experiment("x")
    assert _made(settings) == [settings.database]


def _made(settings: Settings) -> list[Path]:
    return list(settings.home.glob("*mlflow.db*"))

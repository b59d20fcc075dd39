"""MLflow gets everything exactly once: sqlite here, a real server that is killed and comes back."""

from __future__ import annotations

import io
import json
import math
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import PIL.Image
import pytest

from service.command_line import program
from service.errors import ServiceError
from service.settings import Settings
from service.tracking import client, notes, view
from service.tracking.announce import flat_params
from service.tracking.cells import average
from service.tracking.client import refused
from service.tracking.delivery import Delivery, attach, sync
from service.tracking.keys import NOTE, sweep_key
from service.tracking.outbox import Outbox
from service.tracking.readback import read_sweep
from service.tracking.relocation import relocate
from service.tracking.rows import RunHeader
from service.tracking.server import check_reachable, ui_command
from service.tracking.uploader import Uploader, share
from service.tracking.verdict import Told
from tests.service.sweeps import MlflowServer, free_port, mlflow_server, wait_for
from trainer.files import FileLock
from trainer.report import Report

CELL, TRIALS = "cell:c", ("trial:1", "trial:2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One sqlite store for all tests, for making its tables takes seconds; each has its experiment."""
    home = tmp_path_factory.mktemp("home")
    return Settings(home=home, tracking_uri=None, tracking_patience_s=30)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The experiment of this test."""
    return str(request.node.name).replace("[", "-").strip("]")


def png() -> bytes:
    picture = io.BytesIO()
    PIL.Image.new("L", (64, 64), 128).save(picture, "PNG")
    return picture.getvalue()


def filled(settings: Settings, name: str) -> Outbox:
    """A sweep of one cell and two trials, each with three evaluations."""
    box = Outbox(settings.experiment(name) / "outbox.db")
    box.open_run(RunHeader(sweep_key(name), "sweep", name), 1000)
    box.open_run(
        RunHeader(CELL, "cell", "a", sweep_key(name), {"diffusion.timesteps.kind": "p2"}),
        1000,
    )
    for seed, run in enumerate(TRIALS):
        tags = {
            "cell": "a",
            "seed": str(seed),
            "trial_key": run[-1],
            "protocol": "P",
            "protocol_rung": "R",
            "protocol.eval/fid": "P",
            "protocol.rung/fid": "R",
        }
        params = flat_params({"model": {"channels": [24, 48], "kind": "unet"}, "seed": seed})
        box.open_run(RunHeader(run, "trial", f"a seed {seed}", CELL, params, tags), 1000)
        box.status(run, "running")
        for step in (1000, 2000, 3000):
            points = {"eval/fid": step / 1000 + seed, "rung/fid": 9.0}
            box.metrics(run, [(name, step, 5000 + step, v) for name, v in points.items()])
            box.image(run, "samples", step, 5000 + step, png())
        box.file(run, "spec/trial.json", b"{}", 1000)
    return box


def runs(settings: Settings, name: str) -> list[Any]:
    client = mlflow.MlflowClient(settings.store_uri)
    found = client.get_experiment_by_name(name)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def history(settings: Settings, run_id: str, metric: str) -> list[tuple[int, float, int]]:
    points = mlflow.MlflowClient(settings.store_uri).get_metric_history(run_id, metric)
    return sorted((point.step, point.value, point.timestamp) for point in points)


def deliver(settings: Settings, name: str) -> None:
    assert sync(settings, name) == Delivery(name, 0, [])


def test_three_levels_with_params_tags_status_images_and_files(
    settings: Settings, name: str
) -> None:
    box = filled(settings, name)
    box.status(TRIALS[0], "finished", 9000)
    box.tag(TRIALS[1], {"reason": "diverged: the loss is nan"})
    box.status(TRIALS[1], "diverged", 9500)
    deliver(settings, name)
    by_key = {run.data.tags["diffsweep.key"]: run for run in runs(settings, name)}
    sweep = sweep_key(name)
    assert set(by_key) == {sweep, CELL, *TRIALS}
    one, two = (by_key[key] for key in TRIALS)
    parent = "mlflow.parentRunId"
    assert one.data.tags[parent] == two.data.tags[parent] == by_key[CELL].info.run_id
    assert by_key[CELL].data.tags[parent] == by_key[sweep].info.run_id
    assert one.data.params == {"model.channels": "[24, 48]", "model.kind": "unet", "seed": "0"}
    assert (one.info.status, one.info.end_time, one.info.start_time) == ("FINISHED", 9000, 1000)
    assert (two.info.status, two.data.tags["outcome"]) == ("FAILED", "diverged")
    names = [
        file.path
        for file in mlflow.MlflowClient(settings.store_uri).list_artifacts(
            one.info.run_id, "images"
        )
    ]
    assert len(names) == 6, "a PNG and a thumbnail at each of three steps"
    assert sum(name.startswith("images/samples+step+2000+timestamp+7000+") for name in names) == 2
    assert one.data.tags["mlflow.loggedImages"] == "True"
    assert (
        settings.artifacts / name / one.info.run_id / "artifacts/spec/trial.json"
    ).read_bytes() == b"{}"


def test_delivering_to_the_same_place_from_scratch_adds_nothing(
    settings: Settings, name: str
) -> None:
    """The outbox forgets what it sent, as after a kill between sending and marking."""
    box = filled(settings, name)
    deliver(settings, name)
    before = {run.info.run_id: run.data.metrics for run in runs(settings, name)}
    box.addressed_to("nowhere")
    assert box.pending() > 20
    deliver(settings, name)
    assert {run.info.run_id: run.data.metrics for run in runs(settings, name)} == before
    for run_id in before:
        points = history(settings, run_id, "eval/fid")
        assert len(points) == len({step for step, _, _ in points})
        images = mlflow.MlflowClient(settings.store_uri).list_artifacts(run_id, "images")
        assert len(images) in (0, 6)


def test_what_mlflow_refuses_is_set_aside_and_the_rest_arrives(
    settings: Settings, name: str
) -> None:
    box = filled(settings, name)
    box.metrics(TRIALS[0], [("not a (valid) name!", 1, 1, 1.0)])
    delivery = sync(settings, name)
    assert delivery.left == 0
    (problem,) = delivery.problems
    assert "not a (valid) name!" in problem
    one = next(run for run in runs(settings, name) if run.data.tags["diffsweep.key"] == TRIALS[0])
    assert len(history(settings, one.info.run_id, "eval/fid")) == 3


def test_infinity_never_reaches_a_chart(settings: Settings, name: str) -> None:
    box = filled(settings, name)
    box.metrics(TRIALS[0], [("train/loss", 1, 1, math.inf), ("train/loss", 2, 1, math.nan)])
    deliver(settings, name)
    rows = [row for row in read_sweep(settings, name).curves if row["metric"] == "train/loss"]
    assert len(rows) == 2
    assert all(math.isnan(row["value"]) for row in rows)


def test_read_sweep_gives_back_what_was_stored(settings: Settings, name: str) -> None:
    box = filled(settings, name)
    box.status(TRIALS[0], "finished", 9000)
    deliver(settings, name)
    rows = read_sweep(settings, name)
    assert [trial["status"] for trial in sorted(rows.trials, key=lambda t: t["seed"])] == [
        "finished",
        "running",
    ]
    only = read_sweep(settings, name, {"2"})
    (trial,) = only.trials
    assert (trial["cell"], trial["seed"], trial["trial_key"], trial["kimg"]) == ("a", 1, "2", 3.0)
    assert trial["metrics"] == {"eval/fid": 4.0, "rung/fid": 9.0}
    full = [row for row in only.curves if row["metric"] == "eval/fid"]
    assert [(row["images"], row["kimg"], row["value"]) for row in full] == [
        (1000, 1, 2),
        (2000, 2, 3),
        (3000, 3, 4),
    ]
    assert {(row["metric"], row["protocol"]) for row in only.curves} == {
        ("eval/fid", "P"),
        ("rung/fid", "R"),
    }
    assert read_sweep(settings, "unknown").trials == []


@pytest.mark.parametrize("points", [25_000, 4, 2])
def test_a_server_is_asked_for_curves_of_many_runs_at_a_time_and_none_is_cut(
    settings: Settings,
    name: str,
    server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    points: int,
) -> None:
    """Where an answer has no room for all points, runs are halved; one run alone is read page by page."""
    there = settings.model_copy(update={"tracking_uri": server.uri})
    filled(there, name)
    deliver(there, name)
    with monkeypatch.context() as run_by_run:
        run_by_run.setattr("service.tracking.store.histories", lambda *_: None)
        expected = read_sweep(there, name).curves
    assert len(expected) == 12
    monkeypatch.setattr(client, "_POINTS", points)
    if points > 2:
        monkeypatch.delattr(mlflow.MlflowClient, "get_metric_history")
    assert read_sweep(there, name).curves == expected


def test_draws_are_beside_a_trial_and_in_no_mean_and_no_curve(
    settings: Settings, name: str
) -> None:
    box = filled(settings, name)
    for seed, run in enumerate(TRIALS):
        values = [float(seed), seed + 1.0, seed + 5.0]
        report = Report(4000, 9.0, {"eval/fid": seed + 2.0}, draws={"eval/fid": values})
        before = len(box.points(run))
        box.ingest(run, report)
        box.ingest(run, report)
        assert len(box.points(run)) == before + 4, "the number and three draws"
    box.metrics(CELL, average(box, CELL, TRIALS))
    deliver(settings, name)
    (trial,) = read_sweep(settings, name, {"2"}).trials
    drawn = {metric: value for metric, value in trial["metrics"].items() if "draws" in metric}
    assert drawn == {"draws/fid.0": 1.0, "draws/fid.1": 2.0, "draws/fid.2": 6.0}
    assert {r["metric"] for r in read_sweep(settings, name).curves} == {"eval/fid", "rung/fid"}
    (cell,) = (run for run in runs(settings, name) if run.data.tags["diffsweep.kind"] == "cell")
    assert not [metric for metric in cell.data.metrics if "draw" in metric]
    assert cell.data.metrics["eval/fid"] == 2.5


def test_an_attached_report_replaces_the_one_before(
    settings: Settings, name: str, tmp_path: Path
) -> None:
    filled(settings, name)
    page = tmp_path / "page.html"
    for text in ("first", "second"):
        page.write_text(text)
        assert attach(settings, name, {"report.html": page}, Told({CELL: {"verdict": text}})) == 0
    cell = next(run for run in runs(settings, name) if run.data.tags["diffsweep.kind"] == "cell")
    assert cell.data.tags["verdict"] == "second"
    sweep = next(run for run in runs(settings, name) if run.data.tags["diffsweep.kind"] == "sweep")
    assert (
        settings.artifacts / name / sweep.info.run_id / "artifacts/report.html"
    ).read_text() == "second"


def test_descriptions_carry_mlflows_ids_and_a_persons_own_stays(
    settings: Settings, name: str
) -> None:
    box = filled(settings, name)
    box.note(sweep_key(name), notes.LINKS)
    box.note(sweep_key(name), "too late")
    box.describe(NOTE, notes.LINKS)
    box.describe(view.TAG, view.saved_view("eval/fid"))
    deliver(settings, name)
    client = mlflow.MlflowClient(settings.store_uri)
    known = client.get_experiment_by_name(name)
    run = next(r for r in runs(settings, name) if r.data.tags["diffsweep.kind"] == "sweep")
    link = f"#/experiments/{known.experiment_id}/runs/{run.info.run_id}/artifacts/report.html"
    assert f"[Report]({link})" in run.data.tags[NOTE]
    assert known.tags[NOTE] == run.data.tags[NOTE]
    charts = json.loads(json.loads(known.tags[view.TAG])["state"])["compareRunCharts"]
    assert {chart["metricKey"] for chart in charts} >= {"verdict/difference", "rung/fid"}

    box.describe(NOTE, f"{notes.LINKS} and more")
    deliver(settings, name)
    assert client.get_experiment_by_name(name).tags[NOTE].endswith("and more")
    client.set_experiment_tag(known.experiment_id, NOTE, "mine")
    box.describe(NOTE, notes.LINKS)
    deliver(settings, name)
    assert client.get_experiment_by_name(name).tags[NOTE] == "mine"


def test_a_number_of_a_verdict_is_replaced_and_one_that_is_no_longer_said_is_nan(
    settings: Settings, name: str
) -> None:
    filled(settings, name)
    two = [("verdict/a/p", 6, 0.5), ("verdict/b/p", 6, 0.25)]
    for points in (two, [("verdict/a/p", 6, 0.125)], [("verdict/a/p", 4, 0.0625)]):
        assert attach(settings, name, {}, Told(points={sweep_key(name): points})) == 0
    run = next(r for r in runs(settings, name) if r.data.tags["diffsweep.kind"] == "sweep")
    assert run.data.metrics["verdict/a/p"] == 0.0625, "though it stands on fewer pairs"
    assert math.isnan(run.data.metrics["verdict/b/p"])


@pytest.mark.parametrize("moved", [True, False])
def test_a_home_that_was_moved_or_copied_keeps_its_artifacts(tmp_path: Path, moved: bool) -> None:
    first = Settings(home=tmp_path / "first home", tracking_uri=None, tracking_patience_s=30)
    box = filled(first, "x")
    deliver(first, "x")
    box.close()
    second = first.model_copy(update={"home": tmp_path / "second"})
    (shutil.move if moved else shutil.copytree)(first.home, second.home)
    kept = sorted(first.home.rglob("*"))

    box = Outbox(second.experiment("x") / "outbox.db")
    if moved:
        box.image(TRIALS[0], "samples", 4000, 9000, png())
    deliver(second, "x")

    one = next(r for r in runs(second, "x") if r.data.tags["diffsweep.key"] == TRIALS[0])
    place = second.artifacts / "x" / one.info.run_id / "artifacts"
    assert one.info.artifact_uri == place.as_uri()
    assert len(list((place / "images").iterdir())) == 6 + 2 * moved
    assert len(runs(second, "x")) == 4
    assert sorted(first.home.rglob("*")) == kept, "the former place is left alone"
    assert relocate(second.database, second.artifacts) == []

    link = tmp_path / "link"
    link.symlink_to(second.home)
    assert relocate(link / "mlflow.db", link / "mlartifacts") == [], "the same under another name"


def test_what_an_earlier_version_logged_is_read_and_continued(
    settings: Settings, name: str
) -> None:
    box = filled(settings, name)
    for key in ("kimg", "sys/seconds", "sys/eval_seconds"):
        box.metrics(TRIALS[0], [(key, 3000, 5000, 2.0)])
    deliver(settings, name)
    before = {run.info.run_id for run in runs(settings, name)}
    box.close()
    with sqlite3.connect(box.path) as db:
        db.execute("PRAGMA user_version=0")

    box = Outbox(box.path)
    assert box.pending() == 0, "nothing of it is told again"
    box.open_run(
        RunHeader(TRIALS[0], "trial", "seed 0: a", CELL, {"model.kind": "unet", "new": "1"})
    )
    box.metrics(TRIALS[0], [("eval/fid", 4000, 9000, 0.5)])
    deliver(settings, name)

    assert {run.info.run_id for run in runs(settings, name)} == before
    one = next(run for run in runs(settings, name) if run.data.tags["diffsweep.key"] == TRIALS[0])
    assert (one.info.run_name, one.data.params["new"]) == ("seed 0: a", "1")
    row = next(t for t in read_sweep(settings, name).trials if t["trial_key"] == "1")
    assert (row["kimg"], row["seconds"]) == (4.0, 4.0)
    assert set(row["metrics"]) == {"eval/fid", "rung/fid"}


def test_a_server_that_never_answered_is_refused_within_seconds(settings: Settings) -> None:
    away = settings.model_copy(update={"tracking_uri": f"http://127.0.0.1:{free_port()}"})
    begun = time.monotonic()
    with pytest.raises(ServiceError, match="nothing has been run") as refusal:
        check_reachable(away)
    assert time.monotonic() - begun < 4.0
    assert f"{program('mlflow')} server --port" in refusal.value.fix
    assert "unset MLFLOW_TRACKING_URI" in refusal.value.fix


def test_the_ui_command_names_the_store(settings: Settings) -> None:
    assert (
        ui_command(settings)
        == f"{program('mlflow')} ui --backend-store-uri sqlite:///{settings.home}/mlflow.db"
    )
    server = settings.model_copy(update={"tracking_uri": "http://mlflow:5000"})
    assert ui_command(server) == "open http://mlflow:5000"


def test_an_outbox_that_another_process_delivers_is_no_outage(
    settings: Settings, name: str
) -> None:
    box = filled(settings, name)
    notes: list[str] = []
    uploader = Uploader(box, settings, name, notes.append, interval_s=0.01)
    with FileLock(box.path.with_suffix(".lock")):
        uploader.start()
        assert uploader.drain(1.6) > 0
    assert uploader.last_problem is None
    assert uploader.drain(30) == 0
    uploader.close()
    assert notes == []


@pytest.mark.slow
def test_a_server_killed_in_the_middle_gets_each_point_once_and_nobody_waits(
    settings: Settings, name: str, server: MlflowServer
) -> None:
    away = settings.model_copy(update={"tracking_uri": server.uri})
    box = filled(away, name)
    notes: list[str] = []
    uploader = Uploader(box, away, name, notes.append, interval_s=0.05)
    uploader.start()
    assert uploader.drain(60) == 0
    server.kill()
    slowest = 0.0
    for step in range(10_000, 60_000, 1000):
        begun = time.monotonic()
        box.metrics(TRIALS[0], [("eval/fid", step, step, 0.5), ("train/loss", step, step, 0.1)])
        slowest = max(slowest, time.monotonic() - begun)
    wait_for(lambda: notes, "the note about the outage", 60)
    assert slowest < 1.0, "storing a report does not wait for the server"
    begun = time.monotonic()
    assert uploader.drain(1.0) > 0, "and the end of a run waits no longer than it is told to"
    assert time.monotonic() - begun < 4.0
    server.start()
    assert uploader.drain(60) == 0
    uploader.close()
    assert [note.split(":")[0] for note in notes] == [
        "MLflow does not answer",
        "MLflow answers again",
    ]
    one = next(run for run in runs(away, name) if run.data.tags["diffsweep.key"] == TRIALS[0])
    points = history(away, one.info.run_id, "eval/fid")
    assert max(Counter(step for step, _, _ in points).values()) == 1
    assert len(points) == 53
    assert len(runs(away, name)) == 4


@pytest.mark.slow
def test_images_and_files_go_through_the_server_without_a_word(
    settings: Settings, name: str, server: MlflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    away = settings.model_copy(update={"tracking_uri": server.uri})
    box = filled(away, name)
    box.status(TRIALS[0], "finished", 9000)
    deliver(away, name)
    assert capfd.readouterr().out == "", "MLflow has two lines for each run that ends"
    one = next(run for run in runs(away, name) if run.data.tags["diffsweep.key"] == TRIALS[0])
    client = mlflow.MlflowClient(server.uri)
    assert len(client.list_artifacts(one.info.run_id, "images")) == 6
    assert [file.path for file in client.list_artifacts(one.info.run_id, "spec")] == [
        "spec/trial.json"
    ]


def test_a_cell_shows_the_mean_only_where_every_seed_has_a_number(
    settings: Settings, name: str
) -> None:
    box = filled(settings, name)
    box.metrics(TRIALS[0], [("eval/fid", 4000, 1, 1.0), ("train/loss", 1000, 1, 1.0)])
    box.metrics(TRIALS[1], [("eval/fid", 4000, 1, math.nan)])
    points = {(name, step): (ms, value) for name, step, ms, value in average(box, CELL, TRIALS)}
    assert points["eval/fid", 2000] == (7000, 2.5)
    half = 12.7062 * math.log(3 / 2) / 2  # t(0.975, 1) times the standard error of log 2 and log 3
    for end, sign in (("low", -1), ("high", 1)):
        expected = math.sqrt(2 * 3) * math.exp(sign * half)
        assert points[f"eval/fid.ci_{end}", 2000][1] == pytest.approx(expected, rel=1e-5)
    assert not any(step == 4000 or name == "train/loss" for name, step in points)
    assert {name for name, _ in points if "." not in name} == {"eval/fid", "rung/fid"}


def test_a_cell_of_one_seed_has_a_mean_without_an_interval(settings: Settings, name: str) -> None:
    names = {metric for metric, *_ in average(filled(settings, name), CELL, TRIALS[:1])}
    assert names == {"eval/fid", "rung/fid"}


def test_params_are_flat_dotted_and_never_too_long() -> None:
    flat = flat_params(
        {"a": {"b": 1, "c": {"d": None}}, "e": [1, {"f": 2}], "g": "x" * 7000, "h": {}}
    )
    assert flat.pop("g") == "x" * 6000
    assert flat == {"a.b": "1", "a.c.d": "None", "e": "[1, {'f': 2}]", "h": "{}"}


def test_runs_are_looked_up_at_once_however_many_there_are(
    settings: Settings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[Any] = []
    search = mlflow.MlflowClient.search_runs

    def counted(*args: Any, **words: Any) -> Any:
        searches.append(args)
        return search(*args, **words)

    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", counted)
    box = filled(settings, name)
    for seed in range(3, 13):
        box.open_run(RunHeader(f"trial:{seed}", "trial", f"a seed {seed}", CELL), 1000)
    deliver(settings, name)
    assert len(searches) == 1
    assert len(runs(settings, name)) == 14
    box.addressed_to("nowhere")  # it forgets what it sent, ids as well
    deliver(settings, name)
    assert len(runs(settings, name)) == 14


def test_several_are_worked_on_at_a_time_and_an_error_ends_it() -> None:
    together, done = threading.Barrier(4, timeout=30), list[int]()

    def work(number: int) -> None:
        if number < 4:
            together.wait()  # four of them, or none
        if number == 5:
            raise ConnectionError("gone")
        done.append(number)

    with pytest.raises(ConnectionError, match="gone"):
        share(work, iter(range(1000)), 4)
    assert {0, 1, 2, 3} <= set(done)
    assert len(done) < 999, "nothing more is begun"
    share(done.append, iter([-1]), 1)
    assert done[-1] == -1


def test_a_database_that_was_restarted_is_no_refusal() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE
    from sqlalchemy import exc

    cut = exc.InterfaceError("INSERT", {}, Exception("connection already closed"))
    full = exc.TimeoutError("QueuePool limit of size 5 reached", code="3o7r")
    pending = exc.PendingRollbackError("Can't reconnect until it is rolled back", code="8s2b")
    for error in (cut, full, pending):
        assert not refused(MlflowException(str(error), BAD_REQUEST)), error
    large = exc.DataError("INSERT", {}, Exception("(psycopg2.DataError) bigint out of range"))
    assert refused(MlflowException(str(large), BAD_REQUEST))
    assert refused(MlflowException("Invalid metric name", INVALID_PARAMETER_VALUE))

"""What does it cost to open a comparison of 200 runs, and to log one value? Beside MLflow's own calls.

The runs have 20 FIDs and 3 x 200 points of their losses. A ledger is told of them as in a run; they are delivered to
a sqlite store of MLflow, whose server reads the same file. Opened are all final numbers and the FID curves: here from
the trials' records, there by the calls of MLflow's page (`runs/search`, then `get-history-bulk-interval` for 100 runs
at a time). The server's CPU seconds count, too. A value that is delivered has its share of what describes its run. The
report of 500 trials is in `page`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from service.experiment import Experiment
from service.experiment.saved import read_saved, save
from service.ledger import Ledger
from service.results import collect
from service.settings import Settings
from service.tracking.outbox import Outbox
from service.tracking.rows import report_points
from service.tracking.uploader import Uploader
from tests.benchmarks.side_by_side import Result as Beside
from tests.benchmarks.side_by_side import (
    Unit,
    Work,
    alternate,
    compared,
    cpu_s,
    gate,
    one_thread,
    results,
)
from tests.benchmarks.tiny import TINY
from tests.service.sweeps import MlflowServer, mlflow_server
from trainer.record import Record
from trainer.report import Report, Result, measured

ROW = 12
CELLS, SEEDS, EVALUATIONS, BETWEEN = 10, 20, 20, 9
OPENED, LOGGED = 20.0, 30.0
"""Goals: times less than MLflow's page, and than `log_metric`."""
FEW, VALUES, AT_ONCE = 5, 60, 100
SQLITE, HTTP = "log_metric on sqlite", "log_metric over HTTP"
PROTOCOL = {"rung/fid": "a" * 12, "eval/fid": "b" * 12}
Values = dict[tuple[str, int], tuple[float, list[tuple[int, float]]]]
"""By cell and seed: the final FID, and its curve by images seen."""


def experiment(name: str, cells: int, seeds: int, first: int = 0) -> Experiment:
    """Cells that differ in their learning rate, those from the `first` on."""
    arms = {f"lr{k}": {"optimizer.lr": 1e-5 * (1 + k)} for k in range(first, first + cells)}
    return Experiment.from_mapping({"name": name, "base": TINY, "arms": arms, "seeds": seeds})


def reports(cell: int, seed: int) -> Iterator[Report]:
    """What a trial tells: 20 evaluations, and the losses ten times between two of them."""
    began = time.time()
    for k in range(1, EVALUATIONS + 1):
        fid = (100.0 + cell) / k + seed / 7
        loss = {"train/loss": 1.0 / k, "train/grad_norm": 0.5 + seed / 3, "train/lr": 1e-3}
        series = [(1000 * k - 100 * j, loss) for j in range(BETWEEN, 0, -1)]
        metrics = {"rung/fid": fid, **loss, "sys/img_per_s": 900.0 + k, "sys/eval_s": 0.25}
        done = k == EVALUATIONS
        metrics |= {"eval/fid": fid / 2} if done else {}
        yield Report(1000 * k, began + k, metrics, series, done=done, protocol=PROTOCOL)


def told(sweep: Experiment, settings: Settings, outbox: Outbox) -> int:
    """Its trials write their records and tell a ledger, as they do it in a run; returns how many values."""
    ledger, values = Ledger(sweep, settings, outbox, lambda _event: None), 0
    for trial in ledger.open():
        record, cell = Record(settings.trial(trial.key)), int(trial.cell.removeprefix("lr"))
        ledger.started(trial.key)
        for report in reports(cell, trial.seed):
            record.add_report(report)
            ledger.take(trial.key, {"event": "reported", "report": report.to_json()})
            values += len(report_points(report))
        curves = measured(record.reports(), PROTOCOL)
        ended = Result(
            "finished", None, report.images, report.metrics, report.time_s - 20, 60.0, 9.0,
            PROTOCOL, 10, curves=curves,
        )  # fmt: skip
        record.write_result(ended)
        ledger.take(trial.key, {"event": "ended", "result": asdict(ended)})
    ledger.close()
    return values


def opened(name: str, settings: Settings) -> Values:
    """As `compare` and `Job.verdict` read it."""
    sweep = collect(read_saved(settings.experiment(name)), settings, whole=False)
    trials = sweep.trials
    found: Values = {
        (cell, int(seed)): (final, [])
        for cell, seed, final in zip(
            trials["cell"], trials["seed"], trials["eval/fid"], strict=True
        )
    }
    curves = sweep.curves[sweep.curves["metric"] == "rung/fid"]
    for cell, seed, images, value in zip(
        *(curves[column].tolist() for column in ("cell", "seed", "images", "value")), strict=True
    ):
        found[cell, seed][1].append((images, value))
    return found


class Page:
    """The calls that MLflow's own page makes."""

    def __init__(self, uri: str, name: str) -> None:
        self._uri = uri
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        by_name = self._call(f"experiments/get-by-name?experiment_name={name}")
        self._id = by_name["experiment"]["experiment_id"]

    def _call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._uri}/ajax-api/2.0/mlflow/{path}", data, kind)
        with self._open(request, timeout=120) as answer:
            return json.loads(answer.read())

    def opened(self) -> Values:
        """One search, and the history of one metric."""
        asked = {"experiment_ids": [self._id], "max_results": 1000}
        asked |= {"filter": "tags.`diffsweep.kind` = 'trial'"}
        found: Values = {}
        which: dict[str, tuple[str, int]] = {}
        for run in self._call("runs/search", asked)["runs"]:
            tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
            finals = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
            mine = which[run["info"]["run_id"]] = (tags["cell"], int(tags["seed"]))
            found[mine] = (finals["eval/fid"], [])
        ids = list(which)
        for first in range(0, len(ids), AT_ONCE):
            runs = "&".join(f"run_ids={one}" for one in ids[first : first + AT_ONCE])
            query = f"{runs}&metric_key=rung%2Ffid&max_results=320"
            for point in self._call(f"metrics/get-history-bulk-interval?{query}")["metrics"]:
                own = found[which[point["run_id"]]][1]
                own.append((int(point["step"]), float(point["value"])))
        return found


def also_of(server: MlflowServer) -> Callable[[], float]:
    """CPU seconds of this process and of a server's."""

    def spent() -> float:
        assert server.pid is not None
        first = psutil.Process(server.pid)
        times = [one.cpu_times() for one in (first, *first.children(recursive=True))]
        return cpu_s() + sum(one.user + one.system for one in times)

    return spent


def one_by_one(uri: str, name: str) -> Work:
    """`log_metric` for each value."""
    import mlflow

    client = mlflow.MlflowClient(uri, registry_uri=uri)
    run = client.create_run(client.create_experiment(name)).info.run_id
    steps = itertools.count()

    def log() -> float:
        for step in itertools.islice(steps, VALUES):
            client.log_metric(run, "train/loss", 1.0 / (1 + step), step=step)
        return VALUES

    return log


@contextlib.contextmanager
def outbox_of(settings: Settings, name: str) -> Iterator[Outbox]:
    """The outbox of an experiment of a home."""
    with contextlib.closing(Outbox(settings.experiment(name) / "outbox.db")) as outbox:
        yield outbox


def storing(folder: Path) -> Work:
    """All that is done with what the trials of a sweep tell, until it is stored: records, ledger and outbox."""
    names = (f"stored-{number}" for number in itertools.count())
    ready = ((experiment(name, 2, FEW), Settings(home=folder / name)) for name in names)

    def store() -> float:
        sweep, settings = next(ready)
        with outbox_of(settings, sweep.name) as outbox:
            return told(sweep, settings, outbox)

    return store


def delivering(place: str, settings: Settings, often: int) -> Work:
    """Full outboxes, one after another: runs with all that describes them, and every value."""
    full: list[tuple[str, int]] = []
    for number in range(often):
        sweep = experiment(f"{place}-{number}", 2, FEW, first=100 + 2 * number)
        with outbox_of(settings, sweep.name) as outbox:
            full.append((sweep.name, told(sweep, settings, outbox)))

    def deliver() -> float:
        name, values = full.pop()
        with outbox_of(settings, name) as outbox:
            Uploader(outbox, settings, name).deliver()
            assert outbox.pending() == 0
        return values

    return deliver


def same(report: Callable[[str], None], ours: Values, theirs: Values) -> None:
    """Every run, its final number and every point of its curve."""
    assert ours.keys() == theirs.keys(), "not the same runs"
    finals = [abs(ours[run][0] - theirs[run][0]) for run in ours]
    points = [
        abs(mine - other) if images == step else math.inf
        for run in ours
        for (images, mine), (step, other) in zip(ours[run][1], theirs[run][1], strict=True)
    ]
    report(f"  {len(ours)} runs, {len(points):,} points of their curves")
    gate(report, "difference to what MLflow shows", max(finals + points), 0.0)


@contextlib.contextmanager
def filled(
    settings: Settings, cells: int = CELLS, seeds: int = SEEDS
) -> Iterator[tuple[MlflowServer, str, int]]:
    """A server over the store that was filled, the experiment in it, and how many values its trials have."""
    sweep = experiment("all", cells, seeds)
    save(sweep, settings.experiment(sweep.name))
    with outbox_of(settings, sweep.name) as outbox:
        values = told(sweep, settings, outbox)
        Uploader(outbox, settings, sweep.name).deliver()
        assert outbox.pending() == 0
    with mlflow_server(settings.home / "server", settings.store_uri) as server:
        yield server, sweep.name, values


def main(report: Callable[[str], None] = print, rounds: int = 7) -> list[Beside]:
    """Fill, compare what both show, then time it."""
    one_thread()
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    with tempfile.TemporaryDirectory(prefix="diffsweep-bench-") as folder:
        settings = Settings(home=Path(folder), tracking_uri=None)
        with filled(settings) as (server, name, values):
            report(f"  {values:,} values are in MLflow's sqlite store")
            page, clock = Page(server.uri, name), also_of(server)
            same(report, opened(name, settings), page.opened())
            found = compared(
                ROW, f"opening {CELLS * SEEDS} runs", lambda: bool(opened(name, settings)),
                {"MLflow's page": (lambda: bool(page.opened()), OPENED)}, Unit("ms", 1e3), rounds, clock=clock,
            )  # fmt: skip
            found += logged(settings, server.uri, rounds, clock)
    for one in found:
        report(str(one))
    return found


def logged(
    settings: Settings, server: str, rounds: int, clock: Callable[[], float]
) -> list[Beside]:
    """One value: until it is stored, and until MLflow has it, which a driver does when there is time for it."""
    remote = Settings(home=settings.home / "remote", tracking_uri=server)
    spent = alternate(
        {
            "stored": storing(settings.home),
            "delivered": delivering("here", settings, rounds + 1),
            "delivered over HTTP": delivering("there", remote, rounds + 1),
            SQLITE: one_by_one(settings.store_uri, "single"),
            HTTP: one_by_one(server, "single, over HTTP"),
        },
        rounds, clock=clock,
    )  # fmt: skip
    peers = {"stored": (SQLITE, HTTP), "delivered": (SQLITE,), "delivered over HTTP": (HTTP,)}
    return [
        one
        for ours, theirs in peers.items()
        for one in results(
            ROW, f"one value {ours}", ours, spent, dict.fromkeys(theirs, LOGGED), Unit("us", 1e6)
        )
    ]

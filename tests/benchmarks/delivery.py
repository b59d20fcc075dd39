"""Does MLflow keep up with 1,000 trials? Reports through ledger, outbox and uploader to a server on PostgreSQL.

Fifty trials train at a time. Each tells of ten evaluations: 20 points, the loss by noise level, and three pictures in
all; as fast as `RATE` says. Beside it what a plain loop of MLflow's client takes for the same, on the same server, in
the same run.
"""

import contextlib
import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import psutil

from service.experiment import Experiment, PlannedTrial
from service.ledger import Ledger
from service.settings import Settings
from service.tracking.outbox import Outbox
from service.tracking.rows import report_points
from service.tracking.uploader import Uploader
from tests.benchmarks.tiny import TINY
from tests.service.postgres import postgres
from tests.service.sweeps import mlflow_server
from trainer.record import Record
from trainer.report import Report, Result

TRIALS, SEEDS, AT_ONCE, REPORTS, POINTS = 1000, 20, 50, 10, 20
RATE = 10.0
"""Reports per second of all trials together."""
PLAIN = 40
"""Trials that the plain loop logs, and that are delivered from a full outbox, for the ratio."""
WORKERS = 2


def experiment(name: str, trials: int) -> Experiment:
    """Cells that differ in their learning rate, twenty seeds each."""
    arms = {f"lr{k}": {"optimizer.lr": 1e-3 * (1 + k)} for k in range(max(2, trials // SEEDS))}
    seeds = max(2, trials // len(arms))
    return Experiment.from_mapping({"name": name, "base": TINY, "arms": arms, "seeds": seeds})


def picture(seed: int) -> bytes:
    """A grid of samples, 30 kB as PNG."""
    body, pixels = io.BytesIO(), np.random.default_rng(seed).integers(0, 256, (100, 100, 3), "u1")
    PIL.Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()


def reports(seed: int) -> Iterator[tuple[Report, bytes | None]]:
    """What a trial tells: 200 points and three pictures."""
    levels = [(0.3 * k - 9.0, 40, 0.1 * k, 0.2 * k, None) for k in range(64)]
    for k in range(1, REPORTS + 1):
        final = {"rung/fid" if k < REPORTS else "eval/fid": 100.0 / k + seed}
        metrics = {**final, "train/loss": 1.0 / k, "sys/img_per_s": 900.0 + k, "sys/eval_s": 2.5}
        loss = {
            "train/loss": 1.0 / k,
            "train/grad_norm": 0.5,
            "train/lr": 1e-3,
            "train/clipped": 0.0,
        }
        series = [(1000 * k - 200 * j, loss) for j in range(4, 0, -1)]
        report = Report(1000 * k, time.time(), metrics, series, done=k == REPORTS, levels=levels)
        yield report, picture(seed) if k in (1, REPORTS // 2, REPORTS) else None


@dataclass
class Producer:
    """Trials that report to a ledger, at a rate in all."""

    ledger: Ledger
    settings: Settings
    waiting: list[PlannedTrial]
    rate: float | None = None
    spent_s: list[float] = field(default_factory=list)
    """Seconds that each report took the driver."""

    def run(self) -> None:
        """All trials, `AT_ONCE` at a time."""
        begun, told, trials = time.monotonic(), 0, list(self.waiting)
        working: list[tuple[PlannedTrial, Iterator[tuple[Report, bytes | None]]]] = []
        while trials or working:
            while trials and len(working) < AT_ONCE:
                trial = trials.pop(0)
                self.ledger.started(trial.key)
                working.append((trial, reports(trial.seed)))
            for pair in list(working):
                if self.rate is not None:
                    time.sleep(max(0.0, begun + told / self.rate - time.monotonic()))
                self._tell(*pair) or working.remove(pair)
                told += 1

    def _tell(self, trial: PlannedTrial, rest: Iterator[tuple[Report, bytes | None]]) -> bool:
        report, png = next(rest)
        Record(self.settings.trial(trial.key)).add_report(report)  # as its worker does
        begun = time.perf_counter()
        self.ledger._report(trial.key, report, png)
        self.spent_s.append(time.perf_counter() - begun)
        if report.done:
            result = Result(
                "finished", None, report.images, report.metrics, report.time_s, 60.0, 9.0, {}, 10
            )
            Record(self.settings.trial(trial.key)).accept_result(result)
            self.ledger.take(trial.key, {"event": "ended", "result": asdict(result)})
        return not report.done


@dataclass
class Watch(threading.Thread):
    """Looks once a second at how much waits, how long the driver takes and how large it is."""

    outbox: Outbox
    producer: Producer
    rows: list[tuple[float, int, int, float]] = field(default_factory=list)
    """Seconds, reports made, records that wait, MB of the process."""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()

    def run(self) -> None:
        """Until `done`."""
        begun, me = time.monotonic(), psutil.Process()
        while not self.done.wait(1.0):
            size = me.memory_info().rss / 1e6
            now = time.monotonic() - begun
            self.rows.append((now, len(self.producer.spent_s), self.outbox.pending(), size))

    __hash__ = threading.Thread.__hash__


class Requests:
    """Counts what goes to the server while it is open."""

    def __enter__(self) -> "Requests":
        import requests

        self.count, self._send = 0, requests.Session.send
        send = self._send

        def counted(session: Any, *args: Any, **words: Any) -> Any:
            self.count += 1
            return send(session, *args, **words)

        requests.Session.send = counted  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        import requests

        requests.Session.send = self._send  # type: ignore[method-assign]


def plain(uri: str, name: str, trials: int, by_report: bool) -> float:
    """Seconds of a loop over MlflowClient: a `log_batch` for each report, or one for all points of a trial."""
    import mlflow
    from mlflow.entities import Metric, Param

    client = mlflow.MlflowClient(uri)
    number = client.create_experiment(name)
    begun = time.monotonic()
    for seed in range(trials):
        tags = {"cell": "a", "seed": str(seed), "spec_digest": "0" * 16}
        run = client.create_run(number, tags=tags, run_name=f"seed {seed}").info.run_id
        client.log_batch(run, params=[Param("lr", "0.1"), Param("seed", str(seed))])
        points: list[Metric] = []
        for report, png in reports(seed):
            points += [Metric(k, value, ms, step) for k, step, ms, value in report_points(report)]
            if by_report or report.done:
                client.log_batch(run, metrics=points)
                points = []
            client.log_text(
                run, report.levels_csv(), f"loss_by_noise_level/{report.images:012d}.csv"
            )
            if png is not None:
                client.log_image(
                    run, PIL.Image.open(io.BytesIO(png)), key="samples", step=report.images
                )
        client.set_terminated(run)
    return time.monotonic() - begun


def drained(uri: str, name: str, trials: int, home: Path) -> tuple[float, int]:
    """Seconds in which a full outbox of as many trials is delivered, and requests for it."""
    settings = Settings(home=home, tracking_uri=uri)
    with contextlib.closing(Outbox(home / "outbox.db")) as outbox:
        ledger = Ledger(experiment(name, trials), settings, outbox, lambda _event: None)
        Producer(ledger, settings, ledger.open()).run()
        ledger.close()
        with Requests() as sent:
            begun = time.monotonic()
            Uploader(outbox, settings, name).deliver()
            assert outbox.pending() == 0
            return time.monotonic() - begun, sent.count


def paced(uri: str, trials: int, home: Path, report: Callable[[str], None]) -> None:
    """All trials at `RATE`: prints how far delivery is behind, and what a report costs, as it goes on."""
    settings = Settings(home=home, tracking_uri=uri)
    with contextlib.closing(Outbox(home / "outbox.db")) as outbox, Requests() as sent:
        ledger = Ledger(experiment("delivery", trials), settings, outbox, lambda _event: None)
        producer = Producer(ledger, settings, ledger.open(), RATE)
        uploader, watch = Uploader(outbox, settings, "delivery", report), Watch(outbox, producer)
        uploader.start()
        watch.start()
        begun = time.monotonic()
        producer.run()
        made = time.monotonic() - begun
        left = outbox.pending()
        ledger.close()
        uploader.drain(600)
        took = time.monotonic() - begun
        watch.done.set()
        watch.join()
        uploader.close()
    total = trials * REPORTS
    report(
        f"delivery: {trials} trials, {total * POINTS:,} points and {3 * trials:,} pictures at {RATE:g} reports/s:"
        f" made in {made:.0f} s, {left} records behind at their end, all there after {took:.0f} s;"
        f" {sent.count / trials:.1f} requests a trial"
    )
    for tenth in range(10):
        rows = [r for r in watch.rows if tenth <= 10 * r[1] / total - 1e-9 < tenth + 1]
        spent = producer.spent_s[tenth * total // 10 : (tenth + 1) * total // 10]
        if rows:
            report(
                f"  {10 * (tenth + 1):3d} %: at most {max(r[2] for r in rows):6,} records wait;"
                f" {1000 * float(np.median(spent)):5.2f} ms of the driver a report; {rows[-1][3]:4.0f} MB"
            )


def main(report: Callable[[str], None] = print, trials: int = TRIALS) -> None:
    """Print the ratio to plain loops, then the course of all trials."""
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    with tempfile.TemporaryDirectory(prefix="diffsweep-bench-") as folder, postgres() as database:
        place = Path(folder)
        with mlflow_server(place / "server", database.uri, WORKERS) as server:
            few = min(PLAIN, trials)
            mine, count = drained(server.uri, "drained", few, place / "drained")
            each = plain(server.uri, "plain", few, by_report=True)
            whole = plain(server.uri, "whole", few, by_report=False)
            report(
                f"delivery: a full outbox of {few} trials in {mine:.1f} s"
                f" ({few * REPORTS * POINTS / mine:.0f} points/s,"
                f" {count / few:.1f} requests a trial); a plain loop of MlflowClient, a log_batch for each report:"
                f" {each:.1f} s ({mine / each:.2f}x); one for all 200 points of a trial: {whole:.1f} s"
                f" ({mine / whole:.2f}x)"
            )
            if trials > few:
                paced(server.uri, trials, place / "paced", report)

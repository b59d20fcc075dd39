"""How does the tracking server learn what happened, exactly once, without anybody waiting for it?

Workers never talk to a server: their reports land in the outbox, and one `Uploader` thread per
driver delivers them. An outage only queues; `diffsweep sync` delivers what a run left behind.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.command_line import diffsweep, program
from service.errors import ServiceError
from service.lock import FileLock, HeldError
from service.tracking.outbox import Kind, Outbox, StoredRun

if TYPE_CHECKING:
    from service.settings import Settings
    from service.tracking.store import Store

FIRST_S = 10.0
"""A run's first delivery waits until Ray has started: importing mlflow would slow that down."""
HELD_S = 0.5
"""How long to leave an outbox alone that another process delivers."""
BATCH = 1000
"""Metric points per request: MLflow's limit; 0.2 s on a local server."""


def is_server(uri: str) -> bool:
    """Whether the store is reached over HTTP."""
    return uri.startswith(("http://", "https://"))


def check_reachable(settings: Settings, timeout_s: float = 3.0) -> None:
    """Refuse to begin when the named tracking server does not answer; raises `ServiceError`."""
    uri = settings.store_uri
    if not is_server(uri):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout_s):
            return
    except urllib.error.HTTPError as error:
        problem = f"answers HTTP {error.code} to /health"
    except (OSError, ValueError) as error:
        problem = f"does not answer ({getattr(error, 'reason', error)})"
    port = uri.rstrip("/").rpartition(":")[2]
    start = f"{program('mlflow')} server" + (f" --port {port}" if port.isdigit() else "")
    raise ServiceError(
        f"the tracking server {uri} {problem}; nothing has been run",
        f"start it with `{start}`, or unset MLFLOW_TRACKING_URI to track in {settings.home}",
    )


def ui_command(settings: Settings) -> str:
    """What a person types, or opens, to look at the results in MLflow."""
    uri = settings.store_uri
    if is_server(uri):
        return f"open {uri}"
    return f"{program('mlflow')} ui --backend-store-uri {shlex.quote(uri)}"


def waiting_note(settings: Settings, name: str, left: int) -> str:
    """What to do about records that could not be delivered."""
    command = diffsweep("sync", name, settings=settings)
    return f"{left} records wait for MLflow: `{command}` delivers them"


def sweep_key(name: str) -> str:
    """The identity of an experiment's sweep run."""
    return f"sweep:{name}"


def trial_run_key(trial_key: str) -> str:
    """The identity of a trial's run inside its experiment."""
    return f"trial:{trial_key}"


class Uploader(threading.Thread):
    """Delivers one outbox until closed. An outage makes it try again later, less often."""

    def __init__(
        self,
        outbox: Outbox,
        settings: Settings,
        experiment: str,
        on_note: Callable[[str], None] = lambda _note: None,
        interval_s: float = 1.0,
        first_s: float = 0.0,
    ) -> None:
        super().__init__(name="diffsweep-uploader", daemon=True)
        self.last_problem: str | None = None
        self._outbox, self._settings, self._experiment = outbox, settings, experiment
        self._note, self._interval_s, self._first_s = on_note, interval_s, first_s
        self._store: Store | None = None
        self._failures = 0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._round = threading.Condition()

    def run(self) -> None:
        """Deliver whenever there is something, until closed."""
        self._wake.wait(self._first_s)
        while not self._closing.is_set():
            self._wake.wait(min(30.0, self._interval_s * 2 ** min(self._failures, 6)))
            self._wake.clear()
            if self._closing.is_set():
                return
            self._attempt()
            with self._round:
                self._round.notify_all()

    def drain(self, timeout_s: float) -> int:
        """Wait at most `timeout_s` for all that is stored to be delivered; returns what is left."""
        deadline = time.monotonic() + timeout_s
        with self._round:
            while (left := self._outbox.pending()) and self.is_alive():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return left
                self._wake.set()
                self._round.wait(min(remaining, 5.0))
                if self._failures:
                    self._closing.wait(min(0.5, max(0.0, deadline - time.monotonic())))
        return self._outbox.pending()

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop delivering. What is left stays in the outbox for `diffsweep sync` or a later run."""
        self._closing.set()
        self._wake.set()
        if self.is_alive():
            self.join(timeout_s)

    def _attempt(self) -> None:
        try:
            if self._outbox.pending():
                self.deliver()
        except HeldError:  # `diffsweep sync` delivers it: MLflow is well
            self._closing.wait(HELD_S)
            return
        except Exception as error:
            self._failures += 1
            self.last_problem = one_line(error)
            if self._failures == 2:  # once is a hiccup
                waiting = self._outbox.pending()
                self._note(f"MLflow does not answer: training goes on, {waiting} records wait")
            return
        if self._failures >= 2:
            self._note("MLflow answers again: what waited has been delivered")
        self._failures, self.last_problem = 0, None

    def deliver(self) -> None:
        """One round: all that waits now, parents first. Raises when the server is out of reach."""
        with FileLock(self._outbox.path.with_suffix(".lock")):
            if self._store is None:
                from service.tracking.store import Store

                store = Store(self._settings, self._experiment)
                self._outbox.addressed_to(store.identity)
                self._store = store
            for run in self._outbox.runs(waiting=True):
                self._deliver_run(self._store, run)

    def _deliver_run(self, store: Store, run: StoredRun) -> None:
        header, run_id = run.header, run.run_id
        if run_id is None or not run.header_sent:
            parent_id = self._outbox.run_id(header.parent) if header.parent else None
            run_id = run_id or store.find(header.key)
            if run_id is None:
                run_id = store.create(header, parent_id, run.started_ms)
            else:
                store.describe(run_id, header, parent_id)
            store.params(run_id, header)
            self._outbox.header_delivered(run, run_id)
        self._deliver_items(store, header.key, run_id)
        if run.status != run.status_sent:
            store.status(run_id, run.status, run.ended_ms)
            self._outbox.status_delivered(header.key, run.status)

    def _deliver_items(self, store: Store, key: str, run_id: str) -> None:
        from service.tracking.store import refused

        for kind, most in _BATCHES:
            size = most
            while items := self._outbox.waiting(key, kind, size):
                try:
                    if kind == "metric":
                        store.points(run_id, items)
                    elif kind == "image":
                        store.image(run_id, items[0])
                    else:
                        store.file(run_id, items[0])
                except Exception as error:
                    if not refused(error):
                        raise
                    if len(items) > 1:  # close in on the one it does not accept
                        size = max(1, len(items) // 8)
                        continue
                    self._outbox.delivered(items, problem=one_line(error))
                else:
                    self._outbox.delivered(items)


_BATCHES: tuple[tuple[Kind, int], ...] = (("metric", BATCH), ("image", 1), ("file", 1))


@contextlib.contextmanager
def uploading(
    outbox: Outbox, settings: Settings, experiment: str, on_note: Callable[[str], None]
) -> Iterator[Uploader]:
    """An uploader for the length of the block; at the end it drains within the user's patience."""
    uploader = Uploader(outbox, settings, experiment, on_note, first_s=FIRST_S)
    uploader.start()
    try:
        yield uploader
    finally:
        left = uploader.drain(settings.tracking_patience_s)
        if left:
            on_note(waiting_note(settings, experiment, left))
        uploader.close()


@dataclass(frozen=True)
class Delivery:
    """What became of one experiment's outbox."""

    experiment: str
    left: int
    """Records that still wait."""
    problems: list[str]
    """What the server refused for good, one line each."""


def sync(settings: Settings, name: str, timeout_s: float = 600.0) -> Delivery:
    """Deliver what an experiment's outbox still holds; raises `ServiceError` when it cannot."""
    path = settings.experiment(name) / "outbox.db"
    if not path.exists():
        raise ServiceError(
            f"{settings.home} holds no experiment {name}", "set DIFFSWEEP_HOME to where it was run"
        )
    check_reachable(settings)
    outbox = Outbox(path)
    uploader = Uploader(outbox, settings, name)
    deadline = time.monotonic() + timeout_s
    try:
        while outbox.pending() and time.monotonic() < deadline:
            uploader.deliver()
        return Delivery(name, outbox.pending(), outbox.problems())
    except HeldError as held:
        raise ServiceError(f"{name} is being delivered by {held.holder}", "let it end") from None
    except Exception as error:
        raise ServiceError(
            f"MLflow at {settings.store_uri}: {one_line(error)}",
            f"run `{diffsweep('sync', name, settings=settings)}` again when it answers; nothing is lost",
        ) from error
    finally:
        outbox.close()


def attach(settings: Settings, name: str, files: Mapping[str, Path]) -> int:
    """Put files (artifact path -> file) on the sweep's run; returns the records left over."""
    outbox = Outbox(settings.experiment(name) / "outbox.db")
    now = int(time.time() * 1000)
    for path, file in files.items():
        outbox.file(sweep_key(name), path, file.read_bytes(), now)
    uploader = Uploader(outbox, settings, name)
    uploader.start()
    left = uploader.drain(settings.tracking_patience_s)
    uploader.close()
    return left


@dataclass(frozen=True)
class SweepRows:
    """An experiment as MLflow knows it, in plain rows.

    A trial has cell, seed, trial_key, run_id, status, reason, protocol, protocol_rung, spec_digest,
    kimg, seconds and `metrics` (metric -> last value); a curve point has cell, seed, trial_key,
    protocol, metric, images, kimg and value.
    """

    trials: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)


def read_sweep(
    settings: Settings, name: str, trial_keys: Collection[str] | None = None
) -> SweepRows:
    """Read an experiment back, or only the given trials of it; raises `ServiceError`."""
    from service.tracking.store import Store

    check_reachable(settings)
    try:
        store = Store(settings, name, create=False)
        trials = [t for t in store.trials() if trial_keys is None or t["trial_key"] in trial_keys]
        return SweepRows(trials, store.curves(trials))
    except Exception as error:
        raise ServiceError(
            f"MLflow at {settings.store_uri}: {one_line(error)}",
            f"look at it with `{ui_command(settings)}`",
        ) from error


def flat_params(value: Any, prefix: str = "") -> dict[str, str]:
    """A nested spec as MLflow params: dotted names, plain text, cut where MLflow would refuse."""
    if isinstance(value, Mapping) and value:
        pairs = [flat_params(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items()]
        return {name: text for pair in pairs for name, text in pair.items()}
    return {prefix: str(value)[:6000]}


def one_line(error: BaseException) -> str:
    """The first line of an error, with its class."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]

"""How does the tracking server learn what happened, exactly once, without anybody waiting for it?

Workers never talk to a server: their reports land in the outbox, and one `Uploader` thread per
driver delivers them. An outage only queues; `diffsweep sync` delivers what a run left behind.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from service.command_line import diffsweep
from service.tracking.outbox import Outbox
from service.tracking.rows import Kind, StoredRun
from service.tracking.server import one_line
from trainer.files import FileLock, HeldError

if TYPE_CHECKING:
    from service.settings import Settings
    from service.tracking.store import Store

FIRST_S = 10.0
"""A run's first delivery waits until Ray has started: importing mlflow would slow that down."""
HELD_S = 0.5
"""How long to leave an outbox alone that another process delivers."""
BATCH = 1000
"""Metric points per request: MLflow's limit; 0.2 s on a local server."""


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
            store.describe(run_id, header, parent_id)
            store.params(run_id, header)
            if header.kind == "sweep":
                store.introduce(run_id, self._outbox.description())
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


def waiting_note(settings: Settings, name: str, left: int) -> str:
    """What to do about records that could not be delivered."""
    command = diffsweep("sync", name, settings=settings)
    return f"{left} records wait for MLflow: `{command}` delivers them"

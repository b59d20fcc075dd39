"""How does the tracking server learn what happened, exactly once, without anybody waiting for it?

Workers never talk to a server: their reports land in the outbox, and one `Uploader` thread per
driver delivers them. An outage only queues; `diffsweep sync` delivers what a run left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from service.command_line import diffsweep
from service.tracking.outbox import Outbox
from service.tracking.rows import Kind, StoredRun
from service.tracking.server import is_server, one_line
from trainer.files import FileLock, HeldError

if TYPE_CHECKING:
    from service.settings import Settings
    from service.tracking.store import Store

HELD_S = 0.5
"""How long to leave an outbox alone that another process delivers."""
LONGEST_S = 30.0
"""Between two attempts at a server that does not answer."""
AT_ONCE = 4
"""Runs that are told to a server at a time: of a request most is waiting for it."""
BATCH = 1000
"""Metric points per request: MLflow's limit; 0.2 s on a local server."""


T = TypeVar("T")


class RunDeletedError(Exception):
    """A run was deleted in MLflow by a person."""


class Uploader(threading.Thread):
    """Delivers one outbox until closed. An outage makes it try again later, less often.

    A run that a person deleted in MLflow is left alone; once it is restored there, `sync` goes on with it.
    """

    def __init__(
        self,
        outbox: Outbox,
        settings: Settings,
        experiment: str,
        on_note: Callable[[str], None] = lambda _note: None,
        interval_s: float = 1.0,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:
        """The first delivery waits until it `may_begin`, or is asked for: importing mlflow takes two CPU-seconds."""
        super().__init__(name="diffsweep-uploader", daemon=True)
        self.last_problem: str | None = None
        self._outbox, self._settings, self._experiment = outbox, settings, experiment
        self._note, self._interval_s, self._may_begin = on_note, interval_s, may_begin
        self._store: Store | None = None
        self._failures, self._told = 0, ""
        self._gone: dict[str, str] = {}
        self._wake, self._closing = threading.Event(), threading.Event()
        self._round = threading.Condition()

    def run(self) -> None:
        """Deliver whenever there is something, until closed."""
        while not self._may_begin() and not self._wake.wait(self._interval_s):
            pass
        while not self._closing.is_set():
            self._wake.wait(pause_s(self._interval_s, self._failures))
            self._wake.clear()
            if self._closing.is_set():
                return
            self._attempt()
            self._watch()
            with self._round:
                self._round.notify_all()

    def wake(self) -> None:
        """Deliver now what is stored."""
        self._wake.set()

    def drain(self, timeout_s: float) -> int:
        """Wait at most `timeout_s` for all that is stored to be delivered; returns what is left."""
        deadline = time.monotonic() + timeout_s
        with self._round:
            while (left := self.left()) and self.is_alive():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return left
                self._wake.set()
                self._round.wait(min(remaining, 5.0))
                if self._failures:
                    self._closing.wait(min(0.5, max(0.0, deadline - time.monotonic())))
        return self.left()

    def left(self) -> int:
        """How many records wait, those of deleted runs left out."""
        return self._outbox.pending(list(self._gone))

    @property
    def deleted(self) -> list[str]:
        """Names of the runs that were found deleted."""
        return list(self._gone.values())

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop delivering. What is left stays in the outbox for `diffsweep sync` or a later run."""
        self._closing.set()
        self._wake.set()
        if self.is_alive():
            self.join(timeout_s)

    def _attempt(self) -> None:
        try:
            if self.left():
                self.deliver()
        except HeldError:  # `diffsweep sync` delivers it: MLflow is well
            self._closing.wait(HELD_S)
            return
        except Exception as error:
            self._failures += 1
            self.last_problem = one_line(error)
            self._store = None  # it may be another one when it answers again
            if self._failures == 2:  # once is a hiccup
                is_told = "deleted" in self.last_problem or not is_server(self._settings.store_uri)
                why = f" ({self.last_problem})" if is_told else ""
                waiting = self.left()
                self._note(f"MLflow does not answer{why}: training goes on, {waiting} records wait")
            return
        if self._failures >= 2:
            self._note("MLflow answers again: what waited has been delivered")
        self._failures, self.last_problem = 0, None

    def _watch(self) -> None:
        """What was put off is written when that is possible; the person is told once why it waits."""
        self._outbox.storage.flush()
        problem = self._outbox.storage.problem
        if problem and problem != self._told:
            self._note(f"{problem}: training goes on, MLflow gets it later")
        elif self._told and not problem:
            self._note(f"{self._outbox.path.name} can be written again: nothing is missing")
        self._told = problem

    def deliver(self) -> None:
        """One round: all that waits now, parents first. Raises when the server is out of reach."""
        with FileLock(self._outbox.path.with_suffix(".lock")):
            if self._store is None:
                from service.tracking.store import Store

                store = Store(self._settings, self._experiment, former=self._outbox.destination)
                self._outbox.addressed_to(store.identity)
                self._store = store
            store, at_once = self._store, AT_ONCE if is_server(self._settings.store_uri) else 1
            waiting = self._outbox.runs(waiting=True)
            for _, level in itertools.groupby(waiting, lambda run: run.header.kind):
                mine = (run for run in level if run.header.key not in self._gone)
                share(lambda run: self._deliver_unless_deleted(store, run), mine, at_once)

    def _deliver_unless_deleted(self, store: Store, run: StoredRun) -> None:
        try:
            self._deliver_run(store, run)
        except RunDeletedError:
            pass
        except Exception:
            if run.run_id is None:
                raise
            store.check_active()
            if not store.is_deleted(run.run_id):
                raise
        else:
            return
        self._gone[run.header.key] = run.header.name
        self._note(f"the run {run.header.name} was deleted in MLflow: it is left alone")

    def _deliver_run(self, store: Store, run: StoredRun) -> None:
        header, run_id = run.header, run.run_id
        parent_id = self._outbox.run_id(header.parent) if header.parent else None
        if run_id is None:
            run_id = store.find(header.key) or store.create(header, parent_id, run.started_ms)
            self._outbox.identified(header.key, run_id)
        self._deliver_items(store, header.key, run_id)
        if run.header_sent and run.status == run.status_sent:
            return
        store.describe(run_id, header, parent_id, run.status)
        if header.kind == "sweep" and not run.header_sent:
            store.introduce(run_id, self._outbox.description())
        self._outbox.header_delivered(run)
        if run.status != run.status_sent:
            store.status(run_id, run.status, run.ended_ms)
            self._outbox.status_delivered(header.key, run.status)

    def _deliver_items(self, store: Store, key: str, run_id: str) -> None:
        from service.tracking.client import refused

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
                    store.check_active()
                    if store.is_deleted(run_id):
                        raise RunDeletedError from None
                    if len(items) > 1:  # close in on the one it does not accept
                        size = max(1, len(items) // 8)
                        continue
                    self._outbox.delivered(items, problem=one_line(error))
                else:
                    self._outbox.delivered(items)
                if self._outbox.storage.put_off:  # else the same would be sent on and on
                    raise BlockingIOError(self._outbox.storage.problem)


_BATCHES: tuple[tuple[Kind, int], ...] = (("metric", BATCH), ("image", 1), ("file", 1))


def pause_s(interval_s: float, failures: int) -> float:
    """How long to wait before the next round, after so many that failed."""
    return min(LONGEST_S, interval_s * 2 ** min(failures, 6))


def share(work: Callable[[T], None], items: Iterable[T], at_once: int) -> None:
    """Do the work of all items, so many at a time. After an error nothing more is begun, and it is raised.

    The threads end with the process: nobody waits for a server at its end.
    """
    rest, lock, errors = iter(items), threading.Lock(), list[BaseException]()

    def take() -> None:
        while not errors:
            with lock:
                found = list(itertools.islice(rest, 1))
            if not found:
                return
            try:
                work(found[0])
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=take, daemon=True) for _ in range(at_once - 1)]
    for thread in threads:
        thread.start()
    take()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def uploading(
    outbox: Outbox,
    settings: Settings,
    experiment: str,
    on_note: Callable[[str], None],
    may_begin: Callable[[], bool] = lambda: True,
) -> Iterator[Uploader]:
    """An uploader for the length of the block; at the end it drains within the user's patience."""
    uploader = Uploader(outbox, settings, experiment, on_note, may_begin=may_begin)
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

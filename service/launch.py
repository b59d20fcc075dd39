"""How is an experiment run? The policy says what, Tune places it, Train trains it, the ledger writes it down.

The trials' directories are the truth. Each run is a fresh Tuner over what is wanted and not done yet, so
the same command submits, resumes and extends; Tune's own state is never restored.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from service.dispatch import Dispatch
from service.errors import ServiceError
from service.ledger import Ledger
from service.outcome import Outcome
from service.settings import Settings
from service.settings import load as load_settings
from service.tracking.outbox import Outbox
from service.tracking.server import check_reachable
from service.tracking.uploader import uploading
from trainer.files import FileLock, HeldError

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.progress import Event


def run(
    experiment: Experiment,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run what is left of an experiment and return how it ended; the same call continues it.

    Raises `ServiceError` before any work when the tracking server does not answer, another driver is
    at work on it, or a trial cannot be placed. Ctrl-C, SIGTERM and `stop` end it with `interrupted`.
    """
    settings, stop = settings or load_settings(), stop or threading.Event()
    check_reachable(settings)
    home = settings.experiment(experiment.name)
    with _sole_driver(home, experiment.name):
        from service.experiment.saved import save

        save(experiment, home)
        outbox = Outbox(home / "outbox.db")
        ledger = Ledger(experiment, settings, outbox, on_event)
        with (
            contextlib.closing(outbox),
            uploading(outbox, settings, experiment.name, ledger.note),
            _terminable(),
        ):
            interrupted = False
            try:
                _train(experiment, settings, ledger, stop)
                interrupted = stop.is_set()
            except KeyboardInterrupt:
                interrupted = True
            except BaseException:
                if ledger.is_open:
                    ledger.close(interrupted=True)
                raise
            return ledger.close(interrupted)


def _train(
    experiment: Experiment, settings: Settings, ledger: Ledger, stop: threading.Event
) -> None:
    dispatch = Dispatch(experiment, settings, ledger, stop)
    if dispatch.is_over:
        ledger.open(trains=False)
        return
    from service.cluster.connect import connected

    home, resources = settings.experiment(experiment.name), experiment.spec.resources
    with connected(settings, resources) as cluster:  # refuses before anything is announced
        from service.cluster import tuning

        ledger.open()
        try:
            tuning.run(dispatch, experiment.spec, settings, cluster, stop)
        finally:
            if ledger.outcome.failed and cluster.logs is not None:
                _keep_logs(cluster.logs, home / "ray-logs")


def _keep_logs(logs: Path, kept: Path) -> None:
    """Ray's logs of a run with failures outlive its private directory."""
    shutil.rmtree(kept, ignore_errors=True)
    with contextlib.suppress(OSError, shutil.Error):
        shutil.copytree(logs, kept, symlinks=True)


@contextlib.contextmanager
def _sole_driver(home: Path, name: str) -> Iterator[None]:
    """A driver that was just killed frees the lock at once; a living one keeps it."""
    try:
        with FileLock(home / "driver.lock"):
            yield
    except HeldError as held:
        raise ServiceError(
            f"{name} is being run by {held.holder}",
            "wait until it ends, or stop it with Ctrl-C; then the same command continues",
        ) from None


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, as `ray job stop` sends it, ends a run like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Who may run an experiment? One driver at a time, on whatever machine; another one is told who, and since when."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from service.command_line import diffsweep
from service.errors import ServiceError
from service.progress import SweepNote
from service.remote import driver as remote
from service.settings import Settings, inside_ray_job, own_job
from trainer.files import HeldError, this_process
from trainer.lease import Lease, holder

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.progress import Event


def driver(settings: Settings, name: str) -> str | None:
    """Who runs an experiment in this home now; None if nobody does."""
    return holder(_lock(settings, name)) or remote.holder(settings, name)


def refuse_second(settings: Settings, name: str) -> None:
    """ServiceError where an experiment is at work in this home already: said before anything is prepared."""
    if (who := driver(settings, name)) is not None:
        raise _at_work(name, who)


def _lock(settings: Settings, name: str) -> Path:
    return settings.experiment(name) / "driver.lock"


def _job() -> str:
    """What this process is called on its cluster, if it is a job."""
    job = own_job()
    return f"job {job}" if job else ""


def _at_work(name: str, who: str) -> ServiceError:
    job = re.match(r"job (\S+),", who)
    end = "end that process" if inside_ray_job() else "stop it with Ctrl-C where it runs"
    if job:
        end = f"end it with `{diffsweep('stop', job[1])}`"
    fix = f"wait until it ends, or {end}; then the same command continues"
    return ServiceError(f"{name} is being run by {who}", fix)


def mirrored(
    experiment: Experiment,
    settings: Settings,
    on_event: Callable[[Event], None],
    stop: threading.Event,
) -> contextlib.AbstractContextManager[None]:
    """Where the home lies in a store: the right to run there, on any machine, and all that is known there."""
    name = experiment.name
    return remote.driving(
        experiment,
        settings,
        this_process(_job()),
        lambda line: on_event(SweepNote(line)),
        stop,
        lambda other: _at_work(name, other),
    )


@contextlib.contextmanager
def sole_driver(
    settings: Settings, name: str, stop: threading.Event | None = None
) -> Iterator[None]:
    """A driver that was just killed frees the lock at once, on another machine soon; a living one keeps it.

    `stop` is set if another machine took over, because this one was not heard for long.
    """
    lost = threading.Event() if stop is None else stop
    try:
        with Lease(_lock(settings, name), who=_job(), on_lost=lost.set):
            yield
    except HeldError as held:
        raise _at_work(name, held.holder) from None

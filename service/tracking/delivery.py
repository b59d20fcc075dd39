"""How does what a run left in its outbox, or a file made later, still reach the tracking server?"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from service.command_line import diffsweep
from service.errors import ServiceError
from service.tracking.keys import NOTE, VERDICT, sweep_key
from service.tracking.outbox import Outbox
from service.tracking.relocation import relocate
from service.tracking.rows import Point
from service.tracking.server import check_reachable, one_line, without_password
from service.tracking.uploader import Uploader
from trainer.files import HeldError

if TYPE_CHECKING:
    from service.settings import Settings
    from service.tracking.verdict import Told


@dataclass(frozen=True)
class Delivery:
    """What became of one experiment's outbox."""

    experiment: str
    left: int
    """Records that still wait."""
    problems: list[str]
    """What the server refused for good, one line each."""
    deleted: list[str] = field(default_factory=list)
    """Names of runs that a person deleted there: they are left alone."""


def sync(settings: Settings, name: str, timeout_s: float = 600.0) -> Delivery:
    """Deliver what an experiment's outbox still holds; raises `ServiceError` when it cannot."""
    from service.catching_up import catch_up

    path = settings.experiment(name) / "outbox.db"
    if not path.parent.is_dir():
        raise ServiceError(
            f"{settings.place} holds no experiment {name}", "set DIFFSWEEP_HOME to where it was run"
        )
    check_reachable(settings)
    if not settings.tracking_uri:  # also where nothing waits: the home may have been moved
        relocate(settings.database, settings.artifacts)
    outbox = Outbox(path)
    uploader = Uploader(outbox, settings, name)
    deadline = time.monotonic() + timeout_s
    try:
        catch_up(settings, name, outbox)
        uploader.deliver()  # also where nothing waits: the server may be another one than before
        while uploader.left() and time.monotonic() < deadline:
            uploader.deliver()
        return Delivery(name, uploader.left(), outbox.problems(), uploader.deleted)
    except HeldError as held:
        raise ServiceError(f"{name} is being delivered by {held.holder}", "let it end") from None
    except Exception as error:
        raise ServiceError(
            f"MLflow at {without_password(settings.store_uri)}: {one_line(error)}",
            f"run `{diffsweep('sync', name, settings=settings)}` again when it answers; nothing is lost",
        ) from error
    finally:
        outbox.close()


def attach(settings: Settings, name: str, files: Mapping[str, Path], told: Told) -> int:
    """Put files (artifact path -> file) on the sweep's run, and what is told of a verdict on every run.

    A number of an earlier verdict that is not told now becomes NaN. Returns the records left over.
    """
    from service.catching_up import catch_up

    outbox = Outbox(settings.experiment(name) / "outbox.db")
    if not outbox.has_ended(sweep_key(name)):  # somebody deleted the one that was there
        with contextlib.suppress(ServiceError):  # another driver has begun, and tells it
            catch_up(settings, name, outbox)
    now = int(time.time() * 1000)
    for path, file in files.items():
        outbox.file(sweep_key(name), path, file.read_bytes(), now)
    for key, own in told.tags.items():
        outbox.tag(key, own)
    for key, numbers in told.points.items():
        outbox.metrics(key, _renewed(outbox, key, numbers, now), newest=True)
    if told.experiment:
        outbox.describe(NOTE, told.experiment)
    uploader = Uploader(outbox, settings, name)
    uploader.start()
    left = uploader.drain(settings.tracking_patience_s)
    uploader.close()
    return left


def log_model(
    settings: Settings, name: str, trial_key: str, folder: Path, metrics: Mapping[str, float]
) -> str:
    """Log a folder as an MLflow model of the sweep's run, unless it is there: its id. ServiceError names the way on."""
    from service.tracking.store import Store

    try:
        return Store(settings, name).model(sweep_key(name), name, trial_key, folder, metrics)
    except Exception as error:
        raise ServiceError(
            f"MLflow at {without_password(settings.store_uri)} did not take the model: {one_line(error)}",
            f"it lies in {folder}; the same run logs it once the server answers",
        ) from error


def _renewed(
    outbox: Outbox, key: str, numbers: Sequence[tuple[str, int, float]], now: int
) -> list[Point]:
    """With their time, and never before a step that is known: MLflow takes the highest step for the newest."""
    highest = {name: step for name, step, _, _ in outbox.points(key, (VERDICT,))}
    said = [(name, max(step, highest.get(name, 0)), now, value) for name, step, value in numbers]
    gone = highest.keys() - {name for name, *_ in said}
    return said + [(name, highest[name], now, math.nan) for name in sorted(gone)]

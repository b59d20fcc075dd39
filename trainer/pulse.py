"""How far is a trial that trains right now? A tiny file beside its record, for whoever looks on.

No part of the record: no number, key or resumption knows it. It is written where losses are read anyway, at most once a
second, and never waits for the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from trainer.machine import is_alive, processes

FILE = "pulse.json"
SILENT_S, MEASURING_S = 120.0, 3600.0
"""Age of a pulse from which on nobody trains there any more; measuring takes longer than a point of the loss."""

Curve = Sequence[tuple[int, Mapping[str, float]]]
"""(images, metrics) since the last evaluation, `train/loss` among them."""


@dataclass(frozen=True)
class Pulse:
    """One trial at one moment."""

    images: int
    """Training images seen."""
    total: int
    """Images of the whole budget."""
    img_per_s: float
    """Since the last evaluation, of training alone; 0 where it is not known yet."""
    loss: float | None = None
    """The training loss of the last point."""
    measures: bool = False
    """It evaluates at the moment."""
    time_s: float = 0.0
    """Unix time."""
    pid: int = 0
    """The process whose heart beats, among `processes`; 0 where that is not known."""
    processes: str = ""
    """Which machine or container it is a process of."""

    @property
    def is_here(self) -> bool:
        """Whether its process is one of those that are seen from here."""
        return bool(self.pid) and self.processes == processes()

    def is_fresh(self, now: float) -> bool:
        """Whether somebody is likely to be at work at `now`, in Unix time; a process that was killed is not."""
        if self.is_here and not is_alive(self.pid):
            return False
        return now - self.time_s < (MEASURING_S if self.measures else SILENT_S)


def pulse(directory: Path) -> Pulse | None:
    """The newest of a trial's directory; None where there is none."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Pulse(**json.loads((directory / FILE).read_bytes()))
    return None


class Heart:
    """Beats for one training. Only the worker that writes its files is heard; the others have a `silent` one."""

    def __init__(
        self, directory: Path, total: int, every_s: float = 1.0, silent: bool = False
    ) -> None:
        self._file, self._total, self._every_s = directory / FILE, total, every_s
        self._silent = silent
        self._began, self._from, self._last = time.perf_counter(), 0, -every_s
        self._rate = 0.0

    def go_on(self, images: int) -> None:
        """Training begins, or goes on after an evaluation."""
        self._began, self._from = time.perf_counter(), images

    def beat(self, images: int, curve: Curve, measures: bool = False) -> None:
        """Tell where it is, unless that was told less than a second ago; `measures`: an evaluation begins now."""
        now = time.perf_counter()
        if images > self._from and not measures:
            self._rate = (images - self._from) / (now - self._began)
        if self._silent or (now - self._last < self._every_s and not measures):
            return
        self._last = now
        loss = curve[-1][1].get("train/loss") if curve else None
        told = Pulse(
            images, self._total, self._rate, loss, measures, time.time(), os.getpid(), processes()
        )
        partial = self._file.with_name(f".{FILE}.{os.getpid()}")
        with contextlib.suppress(OSError):  # nobody trains less for that
            partial.write_text(json.dumps(asdict(told)))
            partial.replace(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """It is over, or nobody trains on."""
        if self._silent:
            return
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)

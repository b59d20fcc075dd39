"""How far is a job, as anybody can see who sees its log? The driver says it there, in a line that reads back.

A submitter may see neither the home's storage nor the tracking server; the log of a job it gets from Ray alone.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from dashboards.text import duration
from service.settings import inside_ray_job

if TYPE_CHECKING:
    from service.board import Board
    from service.progress import Event
    from service.standing import Standing

_EVERY_S = 60.0
"""How often what is left is said again while no trial starts or ends."""
_LINE = re.compile(
    r"^(?P<experiment>.+): (?P<done>\d+) of (?P<total>\d+) trials done"
    r"(?:, (?P<running>\d+) running)?(?:, (?P<failed>\d+) failed)?(?:, about (?P<left>[\w ]+) left)?$"
)
_UNITS = {"h": 3600.0, "min": 60.0, "s": 1.0}


@dataclass(frozen=True)
class JobProgress:
    """How many trials of an experiment are where."""

    experiment: str
    done: int
    """With a result."""
    running: int
    failed: int
    """Without a number: diverged or broken."""
    total: int
    """As many as are wanted now: seeds until cells are decided, and candidates of a search, come on top."""
    left_s: float | None = None
    """Seconds until all are done, by the speed so far; None while that is not known, and while nothing runs."""

    @classmethod
    def of(cls, experiment: str, found: Standing) -> JobProgress:
        """What a submitter is told of where the trials are."""
        left = found.eta_s if found.running else None
        return cls(experiment, found.done, found.running, found.failed, found.total, left)

    def counts(self) -> str:
        """`3 of 12 done, 2 running, 1 failed`."""
        return self._text("done")

    def line(self) -> str:
        """Inverse of `read`: `toy: 3 of 12 trials done, 2 running, about 4 min 05 s left`."""
        left = "" if self.left_s is None else f", about {duration(self.left_s)} left"
        return f"{self.experiment}: {self._text('trials done')}{left}"

    def _text(self, done: str) -> str:
        running = f", {self.running} running" if self.running else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} {done}{running}{failed}"

    @classmethod
    def read(cls, log: str) -> JobProgress | None:
        """The last such line of a job's log; None where there is none yet."""
        for line in reversed(log.splitlines()):
            if found := _LINE.match(line.strip()):
                counts = {name: int(found[name] or 0) for name in _COUNTS}
                return cls(found["experiment"], **counts, left_s=_seconds(found["left"]))
        return None


_COUNTS = ("done", "running", "failed", "total")


def _seconds(text: str | None) -> float | None:
    """Inverse of `duration`."""
    if text is None:
        return None
    return sum(_UNITS[unit] * int(n) for n, unit in re.findall(r"(\d+) (h|min|s)\b", text))


def published(
    name: str,
    board: Callable[[], Board],
    on_event: Callable[[Event], None],
    out: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[Event], None]:
    """`on_event`, which inside a Ray job also says in the job's log how far the experiment is."""
    if not inside_ray_job():
        return on_event
    counting, said, at = board(), "", clock()

    def take(event: Event) -> None:
        nonlocal said, at
        on_event(event)
        counting.take(event)
        now = JobProgress.of(name, counting.standing(counting.look()))
        if now.counts() != said or clock() - at >= _EVERY_S:
            said, at = now.counts(), clock()
            print(now.line(), file=out or sys.stderr, flush=True)

    return take

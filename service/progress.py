"""What happens while a sweep runs, and how is it told? Frozen events, and a line for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO

from dashboards.text import duration


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial got its resources. `start_kimg` above 0 means that it continues from a checkpoint."""

    cell: str
    seed: int
    key: str
    total_kimg: float
    start_kimg: float = 0.0


@dataclass(frozen=True, slots=True)
class TrialReported:
    """A running trial reached an evaluation."""

    cell: str
    seed: int
    key: str
    kimg: float
    total_kimg: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialStopped:
    """A trial went as far as was wanted. It keeps its checkpoint and may start again, unless there is a reason."""

    cell: str
    seed: int
    key: str
    kimg: float
    total_kimg: float
    reason: str = ""
    """Why it was stopped for good."""


@dataclass(frozen=True, slots=True)
class TrialFinished:
    """A trial is complete. `reused` means that an earlier run had already finished it."""

    cell: str
    seed: int
    key: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    reused: bool = False


@dataclass(frozen=True, slots=True)
class TrialFailed:
    """A trial diverged or broke; the sweep goes on without it."""

    cell: str
    seed: int
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class SweepEvidence:
    """How far the evidence on each compared cell is: `4 of 6 pairs`, `BETTER at 9 seeds`."""

    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CellStopped:
    """A cell was ended for good: its trials stop at their next report, and no other one begins."""

    cell: str
    reason: str


@dataclass(frozen=True, slots=True)
class SweepNote:
    """One line for the person: an outage, a recovery, a retry."""

    text: str


TrialEvent = TrialStarted | TrialReported | TrialStopped | TrialFinished | TrialFailed
Event = TrialEvent | CellStopped | SweepEvidence | SweepNote


Occasion = Literal["verdict", "failure", "end"]
OCCASIONS: tuple[Occasion, ...] = ("verdict", "failure", "end")
"""Of which somebody may want to be told who does not look."""


class Renderer(Protocol):
    """Shows events. Enter it before the sweep, leave it after; calls may come from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def __call__(self, event: Event) -> None:
        """Take one event."""


class PlainLines:
    """One timestamped line per event, for logs and pipes."""

    def __init__(
        self, metrics: Sequence[str], out: TextIO, clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics, self._out, self._clock = metrics, out, clock
        self._lock = threading.Lock()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.flush()

    def __call__(self, event: Event) -> None:
        """Write the event's line."""
        self.write(describe(event, self._metrics))

    def write(self, text: str) -> None:
        """Write a line of its own, unless it is the last one again."""
        with self._lock:
            if not text or text == self._last:
                return
            self._last = text
            stamp = time.strftime("%H:%M:%S", time.localtime(self._clock()))
            self._out.write(f"{stamp}  {text}\n")
            self._out.flush()


def describe(event: Event, metrics: Sequence[str]) -> str:
    """One line for one event."""
    if isinstance(event, SweepNote):
        return event.text
    if isinstance(event, CellStopped):
        return f"{event.cell}: {event.reason}"
    if isinstance(event, SweepEvidence):
        return "; ".join(f"{cell}: {text}" for cell, text in event.cells.items())
    who = f"{event.cell} seed {event.seed}"
    if isinstance(event, TrialStarted):
        if event.start_kimg:
            return f"{who}: continues at {event.start_kimg:g} of {event.total_kimg:g} kimg"
        return f"{who}: starts ({event.total_kimg:g} kimg)"
    if isinstance(event, TrialReported):
        shown = headline(event.metrics, metrics)
        return f"{who}: {event.kimg:g} of {event.total_kimg:g} kimg  {shown}".rstrip()
    if isinstance(event, TrialStopped):
        if event.reason:
            return f"{who}: {event.reason}"
        return f"{who}: stops at {event.kimg:g} of {event.total_kimg:g} kimg"
    if isinstance(event, TrialFinished):
        how = "already finished" if event.reused else f"finished in {duration(event.seconds)}"
        return f"{who}: {how}  {headline(event.metrics, metrics)}".rstrip()
    return f"{who}: FAILED: {event.reason}"


def headline(values: Mapping[str, float], metrics: Sequence[str]) -> str:
    """The first of `metrics` that has a value, as `eval/fid 4.17`; empty when none has."""
    return next((f"{name} {values[name]:.4g}" for name in metrics if name in values), "")

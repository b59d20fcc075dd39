"""What happens while a sweep runs, and how is it shown? Frozen events, and two renderers of them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

WAITING, RUNNING, FINISHED, FAILED = "waiting", "running", "finished", "failed"
_ORDER = {RUNNING: 0, FAILED: 1, WAITING: 2, FINISHED: 3}


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
class SweepProgress:
    """How far the whole sweep is. `note` is one line for the person (an outage, a recovery)."""

    total: int
    finished: int
    failed: int
    running: int
    note: str = ""


Event = TrialStarted | TrialReported | TrialFinished | TrialFailed | SweepProgress
EventSink = Callable[[Event], None]


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


def renderer(
    trials: Sequence[tuple[str, int, str]],
    metrics: Sequence[str],
    stream: TextIO | None = None,
) -> Renderer:
    """A live table when `stream` is a terminal, plain timestamped lines elsewhere.

    `trials` are (cell, seed, key) in the order to show; `metrics` are the names worth showing, best first.
    """
    out = stream or sys.stdout
    if out.isatty():
        from rich.console import Console

        return LiveTable(trials, metrics, Console(file=out))
    return PlainLines(metrics, out)


class Quiet:
    """Shows nothing (notebooks, `--json`)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Ignore the event."""


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
        text = describe(event, self._metrics)
        with self._lock:
            if not text or text == self._last:
                return
            self._last = text
            stamp = time.strftime("%H:%M:%S", time.localtime(self._clock()))
            self._out.write(f"{stamp}  {text}\n")
            self._out.flush()


def describe(event: Event, metrics: Sequence[str]) -> str:
    """One line for one event."""
    if isinstance(event, SweepProgress):
        waiting = event.total - event.finished - event.failed - event.running
        counts = f"{event.finished} of {event.total} trials finished, {event.running} running"
        counts += f", {waiting} waiting" if waiting else ""
        counts += f", {event.failed} FAILED" if event.failed else ""
        return f"{counts}: {event.note}" if event.note else counts
    who = f"{event.cell} seed {event.seed}"
    if isinstance(event, TrialStarted):
        if event.start_kimg:
            return f"{who}: continues at {event.start_kimg:g} of {event.total_kimg:g} kimg"
        return f"{who}: starts ({event.total_kimg:g} kimg)"
    if isinstance(event, TrialReported):
        shown = headline(event.metrics, metrics)
        return f"{who}: {event.kimg:g} of {event.total_kimg:g} kimg  {shown}".rstrip()
    if isinstance(event, TrialFinished):
        how = "already finished" if event.reused else f"finished in {event.seconds:.0f} s"
        return f"{who}: {how}  {headline(event.metrics, metrics)}".rstrip()
    return f"{who}: FAILED: {event.reason}"


def headline(values: Mapping[str, float], metrics: Sequence[str]) -> str:
    """The first of `metrics` that has a value, as `eval/fid 4.17`; empty when none has."""
    return next((f"{name} {values[name]:.4g}" for name in metrics if name in values), "")


@dataclass
class _Row:
    cell: str
    seed: int
    state: str = WAITING
    kimg: float = 0.0
    total_kimg: float = 0.0
    text: str = ""


class LiveTable:
    """A table that is redrawn in place: one row per trial, running ones first, and a line of totals."""

    def __init__(
        self,
        trials: Sequence[tuple[str, int, str]],
        metrics: Sequence[str],
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = {key: _Row(cell, seed) for cell, seed, key in trials}
        self._metrics, self._console, self._clock = metrics, console, clock
        self._lock = threading.Lock()
        self._begun, self._note = clock(), ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._begun = self._clock()
        self._live = Live(
            get_renderable=self.table, console=self._console, refresh_per_second=4, transient=True
        )
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None
            self._console.print(self.table(everything=True))

    def __call__(self, event: Event) -> None:
        """Update the trial's row."""
        with self._lock:
            if isinstance(event, SweepProgress):
                self._note = event.note or self._note
                return
            row = self._rows.setdefault(event.key, _Row(event.cell, event.seed))
            _update(row, event, self._metrics)

    def table(self, everything: bool = False) -> RenderableType:
        """The picture as it is now; unless `everything`, cut to what fits the terminal."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            rows = list(self._rows.values())
            lines = [self._totals(rows)] + ([self._note] if self._note else [])
            room = len(rows) if everything else max(3, self._console.height - 6 - len(lines))
            if len(rows) > room:
                lines.insert(0, f"... and {len(rows) - room} more trials")
                rows = sorted(rows, key=lambda row: _ORDER[row.state])[:room]
            table = Table(box=None, pad_edge=False, header_style="bold")
            for heading in ("cell", "seed", "state", "kimg", "", "last result"):
                table.add_column(
                    heading, justify="right" if heading in ("seed", "kimg") else "left"
                )
            for row in rows:
                share = (
                    row.kimg / row.total_kimg if row.total_kimg else float(row.state == FINISHED)
                )
                bar = ProgressBar(total=1.0, completed=share, width=20)
                done = f"{row.kimg:.4g}/{row.total_kimg:.4g}" if row.total_kimg else ""
                state = Text(row.state, style=_STYLE[row.state])
                table.add_row(Text(row.cell), str(row.seed), state, done, bar, Text(row.text))
            return Group(table, *(Text(line, style="dim") for line in lines))

    def _totals(self, rows: Sequence[_Row]) -> str:
        seconds = self._clock() - self._begun
        count = {state: sum(row.state == state for row in rows) for state in _ORDER}
        text = f"{count[FINISHED]} of {len(rows)} trials finished, {count[RUNNING]} running"
        text += f", {count[FAILED]} FAILED" if count[FAILED] else ""
        return f"{text}; {int(seconds) // 60}:{int(seconds) % 60:02d} elapsed"


_STYLE = {WAITING: "dim", RUNNING: "cyan", FINISHED: "green", FAILED: "bold red"}


def _update(
    row: _Row,
    event: TrialStarted | TrialReported | TrialFinished | TrialFailed,
    metrics: Sequence[str],
) -> None:
    if isinstance(event, TrialStarted):
        row.state, row.kimg, row.total_kimg = RUNNING, event.start_kimg, event.total_kimg
        row.text = f"continued from {event.start_kimg:g} kimg" if event.start_kimg else ""
    elif isinstance(event, TrialReported):
        row.state, row.kimg, row.total_kimg = RUNNING, event.kimg, event.total_kimg
        row.text = headline(event.metrics, metrics) or row.text
    elif isinstance(event, TrialFinished):
        row.state = FINISHED
        row.kimg = row.total_kimg
        row.text = headline(event.metrics, metrics) or row.text
        row.text += "  (already done)" if event.reused else ""
    else:
        row.state, row.text = FAILED, event.reason

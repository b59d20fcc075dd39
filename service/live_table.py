"""How does a running sweep look in a terminal? A table that is redrawn in place."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from dashboards.text import duration
from service.progress import (
    Event,
    PlainLines,
    Renderer,
    SweepEvidence,
    SweepProgress,
    TrialEvent,
    TrialFinished,
    TrialReported,
    TrialStarted,
    TrialStopped,
    describe,
    headline,
)
from trainer.report import Status

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live


@dataclass
class _Row:
    cell: str
    seed: int
    status: Status = Status.WAITING
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
        self._begun, self._note, self._evidence = clock(), "", ""
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
            if isinstance(event, SweepEvidence):
                self._evidence = describe(event, self._metrics)
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
            lines = [self._totals(rows), *filter(None, [self._evidence, self._note])]
            room = len(rows) if everything else max(3, self._console.height - 6 - len(lines))
            if len(rows) > room:
                lines.insert(0, f"... and {len(rows) - room} more trials")
                rows = sorted(rows, key=lambda row: list(_STYLE).index(row.status))[:room]
            table = Table(box=None, pad_edge=False, header_style="bold")
            for heading in ("cell", "seed", "state", "kimg", "", "last result"):
                table.add_column(
                    heading, justify="right" if heading in ("seed", "kimg") else "left"
                )
            for row in rows:
                done = row.status is Status.FINISHED
                share = row.kimg / row.total_kimg if row.total_kimg else float(done)
                bar = ProgressBar(total=1.0, completed=share, width=20)
                seen = f"{row.kimg:.4g}/{row.total_kimg:.4g}" if row.total_kimg else ""
                state = Text(row.status, style=_STYLE[row.status])
                table.add_row(Text(row.cell), str(row.seed), state, seen, bar, Text(row.text))
            return Group(table, *(Text(line, style="dim") for line in lines))

    def _totals(self, rows: Sequence[_Row]) -> str:
        seconds = self._clock() - self._begun
        count = Counter(row.status for row in rows)
        text = f"{count[Status.FINISHED]} of {len(rows)} trials finished"
        text += f", {count[Status.RUNNING]} running"
        text += f", {count[Status.FAILED]} FAILED" if count[Status.FAILED] else ""
        return f"{text}; {duration(seconds)} elapsed"


_STYLE = {
    Status.RUNNING: "cyan",
    Status.FAILED: "bold red",
    Status.STOPPED: "yellow",
    Status.WAITING: "dim",
    Status.FINISHED: "green",
}
"""How a trial's row looks; what should be seen first stands first."""


def _update(row: _Row, event: TrialEvent, metrics: Sequence[str]) -> None:
    if isinstance(event, TrialStarted):
        row.status, row.kimg, row.total_kimg = Status.RUNNING, event.start_kimg, event.total_kimg
        row.text = f"continued from {event.start_kimg:g} kimg" if event.start_kimg else ""
    elif isinstance(event, TrialReported):
        row.status, row.kimg, row.total_kimg = Status.RUNNING, event.kimg, event.total_kimg
        row.text = headline(event.metrics, metrics) or row.text
    elif isinstance(event, TrialStopped):
        row.status, row.kimg, row.total_kimg = Status.STOPPED, event.kimg, event.total_kimg
        row.text = event.reason or row.text
    elif isinstance(event, TrialFinished):
        row.status = Status.FINISHED
        row.kimg = row.total_kimg
        row.text = headline(event.metrics, metrics) or row.text
        row.text += "  (already done)" if event.reused else ""
    else:
        row.status, row.text = Status.FAILED, event.reason


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

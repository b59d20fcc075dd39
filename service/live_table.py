"""How does a running sweep look in a terminal? A table that is redrawn in place, once a second."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from dashboards.text import duration, kimg, number, rate
from service.board import Board, Row
from service.progress import Event, PlainLines, Renderer
from service.settings import inside_ray_job
from trainer.report import Status

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

_WIDE = 100
"""Columns from which on there is room for a bar."""
_STYLE = {
    Status.RUNNING: "cyan",
    Status.FAILED: "bold red",
    Status.STOPPED: "yellow",
    Status.WAITING: "dim",
    Status.FINISHED: "green",
}
"""How a trial's row looks; what should be seen first stands first."""


class LiveTable:
    """A table that is redrawn in place: one row per trial, running ones first, and a line of totals."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board, self._console = board, console
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._board.begin()
        self._live = Live(
            get_renderable=self.table, console=self._console, refresh_per_second=1, transient=True
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
        self._board.take(event)

    def table(self, everything: bool = False) -> RenderableType:
        """The picture as it is now; unless `everything`, cut to what fits the terminal."""
        from rich.console import Group
        from rich.text import Text

        board = self._board
        rows = board.look()
        said = f"{board.standing(rows).text()}; {duration(board.elapsed_s())} elapsed"
        lines = [said, *filter(None, [board.evidence, board.note])]
        width = self._console.width
        taken = sum(1 + len(line) // width for line in lines)
        room = len(rows) if everything else max(3, self._console.height - 5 - taken)
        if len(rows) > room:
            lines.insert(0, f"... and {len(rows) - room} more trials")
            rows = sorted(rows, key=lambda row: list(_STYLE).index(row.status))[:room]
        return Group(_drawn(rows, width), *(Text(line, style="dim") for line in lines))


def _drawn(rows: Sequence[Row], width: int) -> RenderableType:
    """Prose in the last column wraps at words; names that are too long end with an ellipsis."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    is_wide, moves = width >= _WIDE, any(row.status is Status.RUNNING for row in rows)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("cell", no_wrap=True, max_width=max(12, width // 4))
    table.add_column("seed", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("kimg", justify="right", no_wrap=True)
    if is_wide:
        table.add_column("", no_wrap=True, width=20)
    if moves:
        for heading in ("img/s", "loss", "left"):
            table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("last result")
    for row in rows:
        cells: list[RenderableType] = [_plain(row.cell), str(row.seed), _state(row)]
        cells.append(_seen(row))
        if is_wide:
            style = _STYLE[row.status]
            bar = ProgressBar(
                total=1.0, completed=row.share, width=20, complete_style=style, finished_style=style
            )
            cells.append(bar)
        table.add_row(*cells, *(_motion(row) if moves else ()), _plain(row.text))
    return table


def _state(row: Row) -> Text:
    from rich.text import Text

    measures = row.status is Status.RUNNING and row.beat is not None and row.beat.measures
    return Text("measuring" if measures else row.status, style=_STYLE[row.status])


def _seen(row: Row) -> str:
    return f"{kimg(row.kimg)}/{kimg(row.total_kimg)}" if row.total_kimg else ""


def _motion(row: Row) -> tuple[str, str, str]:
    """Images per second, loss and the time that is left, while it runs."""
    beat = row.beat if row.status is Status.RUNNING else None
    if beat is None:
        return "", "", ""
    loss = "" if beat.loss is None else number(beat.loss, 4)
    speed = rate(beat.img_per_s) if beat.img_per_s else ""
    return speed, loss, "" if beat.measures else duration(row.standing().left_s)


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(text)


def renderer(board: Board, stream: TextIO | None = None) -> Renderer:
    """A live table when `stream` is a terminal, plain timestamped lines elsewhere."""
    out = stream or sys.stdout
    if out.isatty():
        from rich.console import Console

        return LiveTable(board, Console(file=out))
    from service.plain_totals import PlainTotals

    if inside_ray_job():  # its log has a line of totals that `status` reads
        return PlainLines(board.metrics, out)
    return PlainTotals(board, PlainLines(board.metrics, out))

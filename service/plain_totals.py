"""How does a running sweep look in a log? A line per event, and one of totals with the time left now and then."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from service.board import Board
from service.progress import Event, PlainLines

EVERY_S = 60.0


class PlainTotals:
    """Plain lines; once a minute, while anything moves, how far all trials are."""

    def __init__(self, board: Board, lines: PlainLines, every_s: float = EVERY_S) -> None:
        self._board, self._lines, self._every_s = board, lines, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Self:
        self._board.begin()
        self._lines.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._lines.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        """Write the event's line."""
        self._board.take(event)
        self._lines(event)

    def _tell(self) -> None:
        while not self._over.wait(self._every_s):
            standing = self._board.standing(self._board.look())
            if standing.running:
                self._lines.write(standing.text())

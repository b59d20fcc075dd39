"""What has a trial reported so far, asked again and again? A file that only grows is read where it grew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trainer.report import Report, report_of

NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""What opening says where there is none. Anything else may pass, and is no reason to train again."""


class Growing:
    """The complete reports of one file, in order, as `Record.reports` gives them; each line is parsed once.

    It begins anew where the file is another one, or does not hold what was read last.
    """

    def __init__(
        self, file: Path, keep: Callable[[Report], Report] = lambda report: report
    ) -> None:
        """`keep` gives what is remembered of a report."""
        self._file, self._keep = file, keep
        self._known: tuple[Report, ...] = ()
        self._inode, self._at, self._last = -1, 0, b""

    def reports(self) -> tuple[Report, ...]:
        """All of them by now; none where there is no file. Where it cannot be read, those that were."""
        try:
            with open(self._file, "rb") as file:
                return self._read(file.fileno())
        except NO_FILE:
            self._forget(-1)
            return ()
        except OSError:
            return self._known

    def _read(self, file: int) -> tuple[Report, ...]:
        inode = os.fstat(file).st_ino
        there = os.pread(file, len(self._last), self._at - len(self._last))
        if inode != self._inode or there != self._last:
            self._forget(inode)
        new = _to_the_end(file, self._at)
        whole, ending, cut = new.rpartition(b"\n")
        if whole:
            self._known += self._parsed(whole)
            self._at += len(whole) + len(ending)
            self._last = whole.rpartition(b"\n")[2] + ending
        return self._known + self._parsed(cut)

    def _parsed(self, lines: bytes) -> tuple[Report, ...]:
        found = map(report_of, lines.decode(errors="replace").split("\n"))
        return tuple(self._keep(report) for report in found if report is not None)

    def _forget(self, inode: int) -> None:
        self._known, self._inode, self._at, self._last = (), inode, 0, b""


def _to_the_end(file: int, at: int) -> bytes:
    parts = []
    while part := os.pread(file, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)

"""What does a signal do to a run? SIGTERM, SIGUSR1, a terminal that closes: each ends it once, as Ctrl-C does."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from trainer import terminal

_KINDS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Of systemd, slurm, Kubernetes, `docker stop` and `ray job stop`; of `sbatch --signal`; of a terminal that closes."""


class _Heard:
    """What the main thread does with such a signal; only the first one of a run counts."""

    def __init__(self, stop: threading.Event) -> None:
        self.is_ending = False
        self._stop, self._was_told = stop, False
        before = {kind: signal.getsignal(kind) for kind in _KINDS}
        self._before = {k: old for k, old in before.items() if old is not signal.SIG_IGN}  # `nohup`
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def listen(self) -> None:
        for kind in self._before:
            signal.signal(kind, self._take)

    def leave(self) -> None:
        for kind, before in self._before.items():
            signal.signal(kind, signal.SIG_DFL if before is None else before)

    def _take(self, kind: int, _frame: object) -> None:
        if kind == signal.SIGHUP:
            self._leave_terminals()
        was_told, self._was_told = self._was_told, True
        self._stop.set()
        if not was_told and not self.is_ending:
            raise KeyboardInterrupt

    def _leave_terminals(self) -> None:
        """What is printed from now on goes nowhere, and the run can still write down what it knows."""
        terminal.silence(*self._terminals)


_HEARD: list[_Heard] = []
"""By the main thread: there is one, or none."""


@contextlib.contextmanager
def interruptible(stop: threading.Event) -> Iterator[None]:
    """In the block, the first SIGTERM, SIGUSR1 or SIGHUP sets `stop` and raises KeyboardInterrupt; others are ignored.

    Inside another such block that one goes on. Outside the main thread, nothing changes.
    """
    if _HEARD or threading.current_thread() is not threading.main_thread():
        yield
        return
    _HEARD.append(_Heard(stop))
    listen_again()
    try:
        yield
    finally:
        _HEARD.pop().leave()


def at_work() -> None:
    """From here on a first signal raises."""
    for heard in _here():
        heard.is_ending = False


def ending() -> None:
    """From here on it only sets `stop`: what is written at the end of a run is written to its end."""
    for heard in _here():
        heard.is_ending = True


def listen_again() -> None:
    """Ray's `init` and `shutdown` put handlers of their own in place, the latter that of the system; so does Tune."""
    for heard in _here():
        heard.listen()


def ignore_in_children() -> None:
    """Processes that are started until `listen_again` ignore SIGUSR1, which slurm sends to all of a step."""
    for _heard in _here():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _here() -> list[_Heard]:
    return _HEARD if threading.current_thread() is threading.main_thread() else []

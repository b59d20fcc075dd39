"""How does what is new reach a store while somebody trains? A thread that looks, brings, and tries again.

Training never waits for it. There is no queue: each look takes the newest state that lies there, and what was
passed over meanwhile is not missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from service.remote.store import StoreError

_LOOKS_EVERY_S = 3.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
"""After a failed try; each pause is twice the one before."""


class Courier:
    """Calls `bring` again and again, in a thread of its own for the length of a `with` block."""

    def __init__(
        self,
        bring: Callable[[], None],
        on_change: Callable[[StoreError | None], None] = lambda _problem: None,
    ) -> None:
        """`bring` raises StoreError where it cannot; `on_change` hears of the first failure, and of the recovery."""
        self._bring, self._on_change = bring, on_change
        self._news, self._state = threading.Event(), threading.Condition()
        self._asked = self._done = 0
        self._closing = threading.Event()
        self.problem: StoreError | None = None
        self._thread = threading.Thread(target=self._work, name="diffsweep-courier", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._news.set()
        self._thread.join()

    def wake(self) -> None:
        """Something new lies there."""
        with self._state:
            self._asked += 1
        self._news.set()

    def finish(self, patience_s: float) -> bool:
        """Wait until everything that lies there now has arrived; False where that takes longer than `patience_s`."""
        self.wake()
        deadline = time.monotonic() + patience_s
        with self._state:
            wanted = self._asked
            while self._done < wanted:
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._state.wait(left)
        return True

    def _work(self) -> None:
        pause = 0.0
        while not self._closing.is_set():
            if pause:
                self._closing.wait(pause)  # news do not shorten it
            else:
                self._news.wait(_LOOKS_EVERY_S)
            if not self._closing.is_set():
                self._news.clear()
                pause = self._try(pause)

    def _try(self, pause: float) -> float:
        """One delivery; returns how long to wait after it, 0 where it went well."""
        with self._state:
            asked = self._asked
        try:
            self._bring()
        except Exception as error:  # whatever it is, training goes on
            self._tell(error if isinstance(error, StoreError) else _unforeseen(error))
            return min(max(2 * pause, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._tell(None)
        with self._state:
            self._done = max(self._done, asked)
            self._state.notify_all()
        return 0.0

    def _tell(self, problem: StoreError | None) -> None:
        if (problem is None) != (self.problem is None):
            self._on_change(problem)
        self.problem = problem


def _unforeseen(error: Exception) -> StoreError:
    """Of this machine, such as a file that cannot be read."""
    what = f"what is new cannot be brought to the store ({type(error).__name__}: {error})"
    return StoreError(what, "mend that; the same command brings the rest")

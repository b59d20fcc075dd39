"""Does a trial train yet? Until then this process does nothing that can wait: it would take a core from the start."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from service.progress import TrialFailed, TrialFinished, TrialReported, TrialStarted, TrialStopped
from trainer.pulse import Pulse, pulse

if TYPE_CHECKING:
    from service.progress import Event
    from service.settings import Settings

LATEST_S = 10.0
"""After a trial got its process: its pulse may lie on a disk that is not seen here."""


class UnderWay:
    """Hears the events of a run; true from the first sign of a training on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._started: dict[str, Pulse | None] = {}
        """By key, what lay in the trial's directory before."""
        self._since: float | None = None
        self._is = False

    def hear(self, event: Event) -> None:
        """One event of the run."""
        if isinstance(event, TrialStarted):
            with self._lock:
                self._started[event.key] = pulse(self._settings.trial(event.key))
                self._since = self._since or time.monotonic()
        elif isinstance(event, (TrialReported, TrialStopped, TrialFailed)) or (
            isinstance(event, TrialFinished) and not event.reused
        ):
            self._is = True

    def __call__(self) -> bool:
        """Whether it is."""
        if not self._is and self._since is not None:
            with self._lock:
                started = dict(self._started)
            beats = (
                pulse(self._settings.trial(key)) not in (None, was) for key, was in started.items()
            )
            self._is = any(beats) or time.monotonic() - self._since > LATEST_S
        return self._is

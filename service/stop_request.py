"""How is a run asked to stop from outside its terminal? A file in the experiment's directory, which it looks for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

REQUEST = "stop-request"
"""In the experiment's directory; gone once a run has taken it, and when one begins."""


def request_stop(directory: Path) -> None:
    """Ask whoever runs the experiment of this directory to stop, on any machine that shares it."""
    (directory / REQUEST).touch()


@contextlib.contextmanager
def heeded(directory: Path, stop: threading.Event, every_s: float = 1.0) -> Iterator[None]:
    """Meanwhile a request sets `stop`, within `every_s`; requests from before are of another run, and go."""
    request, done = directory / REQUEST, threading.Event()
    request.unlink(missing_ok=True)

    def look() -> None:
        while not done.wait(every_s):
            if request.exists():
                request.unlink(missing_ok=True)
                stop.set()
                return

    thread = threading.Thread(target=look, name="diffsweep-stop-request", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

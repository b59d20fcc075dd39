"""Where does go what Ray says of trials in this process? Into a file: a person is told by ours what became of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

_SPEAKERS = ("ray.tune", "ray.train", "ray.air")
FILE = "ray.log"
"""In the experiment's directory; there when Ray said something."""


def last_failure(log: str | None) -> str:
    """Of those of one trial that Tune wrote down one below the other."""
    try:
        text = Path(log or "").read_text(errors="replace")
    except OSError:
        return ""
    return text.rpartition("Failure # ")[2].partition("\n")[2]


@contextlib.contextmanager
def ray_log(directory: Path) -> Iterator[None]:
    """Warnings and errors go to a file there, and not where Ray prints; handlers of others hear all as before."""
    kept, quiet = _Kept(directory / FILE), _Quiet()
    shown = [h for h in logging.getLogger("ray").handlers if type(h).__module__.startswith("ray.")]
    for name in _SPEAKERS:
        logging.getLogger(name).addHandler(kept)
    for handler in shown:
        handler.addFilter(quiet)
    try:
        yield
    finally:
        for handler in shown:
            handler.removeFilter(quiet)
        for name in _SPEAKERS:
            logging.getLogger(name).removeHandler(kept)
        kept.close()


class _Quiet(logging.Filter):
    """What goes to the file is not shown."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is shown."""
        return not record.name.startswith(_SPEAKERS)


class _Kept(logging.FileHandler):
    """Opens its file with the first thing that is said."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setLevel(logging.WARNING)
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, if the disk allows: nothing depends on it."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nothing: the disk is full, say."""

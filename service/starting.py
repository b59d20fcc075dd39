"""How long do Ray and each trial take to start? What the last run here took; before the first, an assumption."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from service.speed import machine_digest
from trainer.files import write_whole


@dataclass(frozen=True)
class Starting:
    """Seconds beyond the trials' own work."""

    first_s: float
    """From the beginning of a run to its first trial at work."""
    each_s: float
    """That a trial holds its devices beyond its work, setting up its training, and writing its evaluations."""


_ASSUMED = {"train": Starting(12.0, 2.0), "inproc": Starting(5.0, 0.3)}
"""By launcher, on two busy cores."""


def starting(cache: Path, launcher: str) -> Starting:
    """Of the last run on this machine by this launcher."""
    try:
        return Starting(**json.loads(_file(cache, launcher).read_text()))
    except (OSError, ValueError, TypeError):
        return _ASSUMED[launcher]


def learn(cache: Path, launcher: str, first_s: float | None, each_s: float | None) -> None:
    """A run on this machine took so long; what it does not know stays."""
    known = starting(cache, launcher)
    first = known.first_s if first_s is None else max(0.0, first_s)
    each = known.each_s if each_s is None else max(0.0, each_s)
    with contextlib.suppress(OSError):  # a full disk ends no run for this
        write_whole(_file(cache, launcher), json.dumps(asdict(Starting(first, each))))


def _file(cache: Path, launcher: str) -> Path:
    return cache / f"starting-{launcher}-{machine_digest('cpu')}.json"

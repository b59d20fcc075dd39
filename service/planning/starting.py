"""How long do Ray and each trial take to start? What the last run took; before the first, an assumption."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.files import write_whole


@dataclass(frozen=True)
class Starting:
    """Seconds beyond the trials' own work."""

    first_s: float
    """From the beginning of a run to its first trial at work."""
    each_s: float
    """That a trial holds its devices beyond its work, setting up its training, and writing its evaluations."""


_ASSUMED = {
    "train": Starting(8.0, 1.0),
    "inproc": Starting(7.0, 0.4),
    "ensemble": Starting(7.0, 0.4),
}
"""By launcher, on two cores with some other work (`python -m tests.benchmarks orchestration`)."""


def starting(cache: Path, launcher: str, place: str) -> Starting:
    """Of the last run at this place by this launcher."""
    try:
        return Starting(**json.loads(_file(cache, launcher, place).read_text()))
    except (OSError, ValueError, TypeError):
        return _ASSUMED[launcher]


def learn(
    cache: Path, launcher: str, place: str, first_s: float | None, each_s: float | None
) -> None:
    """A run there took so long; what it does not know stays."""
    known = starting(cache, launcher, place)
    first = known.first_s if first_s is None else max(0.0, first_s)
    each = known.each_s if each_s is None else max(0.0, each_s)
    with contextlib.suppress(OSError):  # a full disk ends no run for this
        write_whole(_file(cache, launcher, place), json.dumps(asdict(Starting(first, each))))


def _file(cache: Path, launcher: str, place: str) -> Path:
    return cache / f"starting-{launcher}-{place}.json"

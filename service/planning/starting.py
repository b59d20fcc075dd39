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
    "train": Starting(12.0, 2.0),
    "inproc": Starting(5.0, 0.3),
    "ensemble": Starting(5.0, 0.3),
}
"""By launcher, on two busy cores."""


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

"""What of a mirrored home has not reached its store yet? One empty file for each, kept until it has.

It is made before anything is trained or written, so that a process that was killed leaves it behind.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

_FOLDER = "undelivered"


def expect(home: Path, kind: str, name: str) -> None:
    """Something of `name`, a `trial` or an `experiment`, is about to be new here."""
    (home / _FOLDER).mkdir(parents=True, exist_ok=True)
    (home / _FOLDER / f"{kind} {name}").touch()


def delivered(home: Path, kind: str, name: str) -> None:
    """All of it is in the store."""
    (home / _FOLDER / f"{kind} {name}").unlink(missing_ok=True)


def waits(home: Path, kind: str, name: str) -> bool:
    """Whether something of it is not."""
    return (home / _FOLDER / f"{kind} {name}").exists()


def waiting(home: Path) -> list[tuple[str, str]]:
    """Kind and name of all that is not."""
    found: list[tuple[str, str]] = []
    with contextlib.suppress(OSError):
        for path in sorted((home / _FOLDER).iterdir()):
            kind, _, name = path.name.partition(" ")
            if kind in ("trial", "experiment") and name:
                found.append((kind, name))
    return found

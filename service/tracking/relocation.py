"""What if a home was copied or moved? MLflow's database in it names the old place; it is told the new one.

MLflow keeps an absolute address of artifacts for each experiment, run and model, and has no command to change one. A
copied database would write its pictures and reports into the home that it was copied from.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.errors import ServiceError

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)
"""Tables of MLflow's database, and the columns in them that hold addresses."""


def relocate(database: Path, artifacts: Path) -> list[Path]:
    """Give what the database of a home says to be elsewhere its place in this home; returns the former places.

    Experiments that diffsweep did not make are left alone, and so are places that are this one under another name.
    Raises ServiceError where the database cannot be changed: nothing may then be written into the former place.
    """
    if not database.exists():
        return []
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as db:
            former = [root for root in _roots(db, artifacts.name) if _is_elsewhere(root, artifacts)]
            if former:
                with db:
                    for root in former:
                        _move(db, root.as_uri(), artifacts.as_uri())
    except sqlite3.Error as error:
        raise _refusal(database, error) from None
    return former


def _refusal(database: Path, error: sqlite3.Error) -> ServiceError:
    if isinstance(error, sqlite3.OperationalError) and database.is_file():
        return ServiceError(
            f"{database} says that its artifacts are elsewhere, and cannot be told where they are now: {error}",
            f"let nothing else use it, and make it writable: `chmod u+w {database}`",
        )
    return ServiceError(
        f"{database} is damaged: {error}",
        "move it away: the same command makes a new one, and delivers what the trials' records know",
    )


def _roots(db: sqlite3.Connection, name: str) -> list[Path]:
    """Folders of this name in which experiments have their artifacts."""
    made = db.execute("SELECT name FROM sqlite_master WHERE name='experiments'").fetchone()
    rows = db.execute("SELECT artifact_location FROM experiments") if made else []
    places = [Path(unquote(urlsplit(uri).path)) for (uri,) in rows if uri and uri[:5] == "file:"]
    return sorted({place.parent for place in places if place.parent.name == name})


def _is_elsewhere(root: Path, artifacts: Path) -> bool:
    if root == artifacts:
        return False
    with contextlib.suppress(OSError):
        return not root.samefile(artifacts)
    return True


def _move(db: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _ADDRESSES:
        db.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
            f" WHERE substr({column}, 1, ?) = ?",
            (new, len(old) + 1, len(old) + 1, f"{old}/"),
        )

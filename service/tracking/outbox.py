"""What has happened that the tracking server may not know yet?

One sqlite file per experiment. Whatever a trial reports is stored here first and delivered later by
`service.tracking`, so training never waits for a server and nothing is lost with one. Each row has
one identity (run, kind, key, step); storing it again changes nothing, so live reports, re-read ones and
those repeated after a crash can all be poured in. Timestamps are stored once: MLflow keys a metric point
by (key, timestamp, step, value), so sending a row twice is the same as sending it once.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.tracking import schema
from service.tracking.keys import NOTE
from service.tracking.patient import PatientFile
from service.tracking.rows import (
    LEVELS,
    Item,
    Kind,
    Point,
    RunHeader,
    StoredRun,
    finite,
    report_points,
    stored_run,
)
from trainer.report import Status

if TYPE_CHECKING:
    from trainer.report import Report

LEVELS_FOLDER = "loss_by_noise_level"
"""Folder of a run's artifacts with one table for each report."""
_TAG = "tag "
FIRST_PICTURE = 0
"""The step at which MLflow's slider over pictures begins: the first picture stands there too."""
_BEGUN = "started_ms >= 0"
_WAITING = f"({_BEGUN} AND (run_id IS NULL OR header_sent=0 OR status_sent IS NOT status))"
_ITEMS = f"SELECT run FROM item WHERE sent=0 AND run IN (SELECT key FROM run WHERE {_BEGUN})"


class Outbox:
    """The delivery queue of one experiment: safe between threads, processes and kill -9."""

    def __init__(self, path: Path) -> None:
        """Open or make it; one that is damaged is set aside. ServiceError where that is impossible."""
        self.path, self.storage = path, PatientFile(path)
        self._write, self._read = self.storage.write, self.storage.read

    def close(self, patience_s: float = 0.0) -> None:
        """Give the file back. What is stored stays stored."""
        self.storage.close(patience_s)

    # What happened

    def open_run(self, header: RunHeader, time_ms: int | None = None) -> None:
        """Announce a run that began then, or has not begun: MLflow learns of it only once it has.

        A param stays as first given, further ones may come; the rest may change.
        """
        level, params = LEVELS[header.kind], _text(header.params)
        own = (header.key, level, header.parent, header.name, params)

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR IGNORE INTO run"
                "(key, level, parent, name, params, tags, started_ms, status)"
                " VALUES(?,?,?,?,?,'{}',?,'waiting')",
                (*own, -1 if time_ms is None else time_ms),
            )
            known = db.execute("SELECT params FROM run WHERE key=?", (header.key,)).fetchone()[0]
            if (widened := _text({**header.params, **json.loads(known)})) != known:
                query = "UPDATE run SET params=?, header_sent=0 WHERE key=?"
                db.execute(query, (widened, header.key))
            db.execute(
                "UPDATE run SET name=?, parent=?, header_sent=0"
                " WHERE key=? AND (name IS NOT ? OR parent IS NOT ?)",
                (header.name, header.parent, header.key, header.name, header.parent),
            )
            _merge_tags(db, header.key, header.tags)

        self._write(write)

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Add or change tags of a run."""
        given = dict(tags)
        self._write(lambda db: _merge_tags(db, key, given))

    def note(self, key: str, text: str) -> None:
        """Give a run its first description; one that it has stays."""
        self._write(lambda db: _merge_tags(db, key, {NOTE: text}, first=True))

    def describe(self, tag: str, value: str) -> None:
        """Give the experiment a tag, which is delivered with its sweep's run."""

        def write(db: sqlite3.Connection) -> None:
            if db.execute(
                "INSERT INTO meta VALUES(?, ?) ON CONFLICT(name) DO UPDATE"
                " SET value=excluded.value WHERE value IS NOT excluded.value",
                (_TAG + tag, value),
            ).rowcount:
                db.execute("UPDATE run SET header_sent=0 WHERE level=0")

        self._write(write)

    def description(self) -> dict[str, str]:
        """Tags of the experiment."""
        rows = self._read("SELECT name, value FROM meta")
        return {name[len(_TAG) :]: value for name, value in rows if name.startswith(_TAG)}

    def begin(self, key: str, time_ms: int) -> None:
        """Say when a run began; the earliest counts, as long as MLflow does not know one."""
        query = (
            "UPDATE run SET started_ms=? WHERE key=?"
            " AND (started_ms < 0 OR (run_id IS NULL AND started_ms > ?))"
        )
        self._execute(query, (time_ms, key, time_ms))

    def status(self, key: str, status: Status, time_ms: int | None = None) -> None:
        """Set the state of a run that has begun; others have none but waiting."""
        query = f"UPDATE run SET status=?, ended_ms=? WHERE key=? AND {_BEGUN} AND status IS NOT ?"
        self._execute(query, (status, time_ms, key, status))

    def metrics(self, key: str, points: Iterable[Point], newest: bool = False) -> None:
        """Store points (metric, step, time_ms, value).

        The first value at a step wins; with `newest` the last, as of a verdict, which MLflow then shows.
        """
        rows = [(key, name, step, ms, finite(value)) for name, step, ms, value in points]
        query = schema.POINT + (schema.RENEWED if newest else " DO NOTHING")

        def write(db: sqlite3.Connection) -> None:
            db.executemany(query, rows)

        self._write(write)

    def image(self, key: str, name: str, step: int, time_ms: int, png: bytes) -> None:
        """Store one PNG of an image series. First stored wins."""
        query = "INSERT OR IGNORE INTO item(run, kind, key, step, time_ms, body)"
        self._execute(f"{query} VALUES(?,'image',?,?,?,?)", (key, name, step, time_ms, png))

    def file(self, key: str, path: str, body: bytes, time_ms: int) -> None:
        """Store an artifact under its path in the run. New content replaces the old."""
        query = (
            "INSERT INTO item(run, kind, key, step, time_ms, body) VALUES(?,'file',?,0,?,?)"
            " ON CONFLICT(run, kind, key, step) DO UPDATE"
            " SET body=excluded.body, time_ms=excluded.time_ms, sent=0, problem=NULL"
            " WHERE body IS NOT excluded.body"
        )
        self._execute(query, (key, path, time_ms, body))

    def ingest(self, key: str, report: Report, png: bytes | None = None) -> None:
        """Store everything one report says. Idempotent."""
        self.metrics(key, report_points(report))
        if png is not None:
            time_ms = int(report.time_s * 1000)
            self.image(key, "samples", FIRST_PICTURE, time_ms, png)
            self.image(key, "samples", report.images, time_ms, png)
        if report.levels:
            path = f"{LEVELS_FOLDER}/{report.images:012d}.csv"
            self.file(key, path, report.levels_csv().encode(), int(report.time_s * 1000))

    def _execute(self, query: str, values: tuple[Any, ...]) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute(query, values)

        self._write(write)

    # What is still to be told

    def pending(self, but: Collection[str] = ()) -> int:
        """How many runs and items wait for delivery, or to be written here; those of runs `but` left out."""
        mine = f"NOT IN ({','.join('?' * len(but))})"
        rows = self._read(
            f"SELECT (SELECT count(*) FROM ({_ITEMS}) WHERE run {mine})"
            f" + (SELECT count(*) FROM run WHERE {_WAITING} AND key {mine})",
            (*but, *but),
        )
        return self.storage.put_off + (int(rows[0][0]) if rows else 0)

    def runs(self, waiting: bool = False) -> list[StoredRun]:
        """All runs, or only those with something to deliver; parents before children."""
        rows = self._read(
            "SELECT key, level, parent, name, params, tags, started_ms, status, ended_ms,"
            " run_id, header_sent, status_sent FROM run"
            + (f" WHERE {_WAITING} OR key IN ({_ITEMS})" * waiting)
            + " ORDER BY level, rowid"
        )
        return [stored_run(row) for row in rows]

    def has_ended(self, key: str) -> bool:
        """Whether a run is known, and that it ended."""
        return bool(self._read("SELECT 1 FROM run WHERE key=? AND ended_ms IS NOT NULL", (key,)))

    def run_id(self, key: str) -> str | None:
        """The MLflow run id of a run, once it is known."""
        rows = self._read("SELECT run_id FROM run WHERE key=?", (key,))
        return rows[0][0] if rows else None

    def waiting(self, key: str, kind: Kind, limit: int) -> list[Item]:
        """The oldest undelivered items of one run."""
        rows = self._read(
            "SELECT id, kind, key, step, time_ms, number, body FROM item"
            " WHERE run=? AND kind=? AND sent=0 ORDER BY id LIMIT ?",
            (key, kind, limit),
        )
        return [Item(*row) for row in rows]

    def delivered(self, items: Iterable[Item], problem: str | None = None) -> None:
        """Mark items as done; `problem` records why the server will never take them."""
        done = [(problem, item.id, item.time_ms) for item in items]
        query = "UPDATE item SET sent=1, problem=? WHERE id=? AND time_ms=?"

        def write(db: sqlite3.Connection) -> None:
            db.executemany(query, done)

        self._write(write)

    def identified(self, key: str, run_id: str) -> None:
        """Keep what MLflow calls a run."""
        self._execute("UPDATE run SET run_id=? WHERE key=?", (run_id, key))

    def header_delivered(self, run: StoredRun) -> None:
        """Mark params and tags as delivered, if they are still those that were sent."""
        header = run.header
        self._execute(
            "UPDATE run SET header_sent=1"
            " WHERE key=? AND tags=? AND params=? AND name=? AND parent IS ?",
            (header.key, _text(header.tags), _text(header.params), header.name, header.parent),
        )

    def status_delivered(self, key: str, status: Status) -> None:
        """Mark a run's state as delivered."""
        self._execute("UPDATE run SET status_sent=? WHERE key=?", (status, key))

    def addressed_to(self, destination: str) -> None:
        """Say where this outbox delivers. A new destination gets everything from the start."""

        def write(db: sqlite3.Connection) -> None:
            known = db.execute("SELECT value FROM meta WHERE name='destination'").fetchone()
            if known is not None and known[0] == destination:
                return
            db.execute("INSERT OR REPLACE INTO meta VALUES('destination', ?)", (destination,))
            db.execute("UPDATE run SET run_id=NULL, header_sent=0, status_sent=NULL")
            db.execute("UPDATE item SET sent=0, problem=NULL")

        self._write(write)

    @property
    def destination(self) -> str:
        """Where it delivers, as it was told; empty before."""
        return dict(self._read("SELECT name, value FROM meta")).get("destination", "")

    def problems(self) -> list[str]:
        """What the server refused for good, one line each."""
        rows = self._read(
            "SELECT run, key, step, problem FROM item WHERE problem IS NOT NULL LIMIT 20"
        )
        return [f"{run} {key} at {step}: {problem}" for run, key, step, problem in rows]

    def points(self, key: str, beginnings: Sequence[str] = ("",)) -> list[Point]:
        """Stored points of a run, of metrics that begin so."""
        chosen = " OR ".join(["key GLOB ?"] * len(beginnings))
        rows = self._read(
            f"SELECT key, step, time_ms, number FROM item WHERE run=? AND kind='metric'"
            f" AND ({chosen}) ORDER BY key, step",
            (key, *(f"{beginning}*" for beginning in beginnings)),
        )
        return [(k, s, ms, math.nan if v is None else v) for k, s, ms, v in rows]

    def values(self, keys: Sequence[str], metric: str, step: int) -> dict[str, tuple[int, float]]:
        """Of these runs those that have a finite value of a metric at a step: its time and the value."""
        rows = self._read(
            f"SELECT run, time_ms, number FROM item WHERE run IN ({','.join('?' * len(keys))})"
            " AND kind='metric' AND key=? AND step=? AND number IS NOT NULL",
            (*keys, metric, step),
        )
        return {run: (time_ms, value) for run, time_ms, value in rows}


def _merge_tags(
    db: sqlite3.Connection, key: str, tags: Mapping[str, str], first: bool = False
) -> None:
    known = db.execute("SELECT tags FROM run WHERE key=?", (key,)).fetchone()
    assert known is not None, f"run {key} was never opened"
    before = json.loads(known[0])
    merged = _text({**tags, **before} if first else {**before, **tags})
    if merged != known[0]:
        db.execute("UPDATE run SET tags=?, header_sent=0 WHERE key=?", (merged, key))


def _text(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

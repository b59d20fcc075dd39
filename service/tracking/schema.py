"""How does the outbox's file look, and what becomes of one that an earlier version wrote?"""

from __future__ import annotations

import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS run(
    key TEXT PRIMARY KEY, level INTEGER NOT NULL, parent TEXT, name TEXT NOT NULL,
    params TEXT NOT NULL, tags TEXT NOT NULL, started_ms INTEGER NOT NULL,
    status TEXT NOT NULL, ended_ms INTEGER,
    run_id TEXT, header_sent INTEGER NOT NULL DEFAULT 0, status_sent TEXT);
CREATE TABLE IF NOT EXISTS item(
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
    step INTEGER NOT NULL, time_ms INTEGER NOT NULL, number REAL, body BLOB,
    sent INTEGER NOT NULL DEFAULT 0, problem TEXT,
    UNIQUE(run, kind, key, step));
CREATE INDEX IF NOT EXISTS item_waiting ON item(run, kind, id) WHERE sent = 0;
"""
FORMER = (
    """
    UPDATE run SET status='waiting' WHERE status='scheduled';
    UPDATE run SET status_sent='waiting' WHERE status_sent='scheduled';
    UPDATE run SET started_ms=-1 WHERE status='waiting' AND run_id IS NULL;
    DELETE FROM item WHERE kind='metric' AND key='kimg';
    UPDATE item SET key='system/total_training_s' WHERE kind='metric' AND key='sys/seconds';
    UPDATE item SET key='system/total_evaluation_s' WHERE kind='metric' AND key='sys/eval_seconds';
    UPDATE item SET key='system/evaluation_s' WHERE kind='metric' AND key='sys/eval_s';
    UPDATE item SET key='system/' || substr(key, 5) WHERE kind='metric' AND key GLOB 'sys/*';
    """,
)
"""What an outbox of an earlier version needs, by its `user_version`: the same things under today's names."""
POINT = (
    "INSERT INTO item(run, kind, key, step, time_ms, number) VALUES(?,'metric',?,?,?,?)"
    " ON CONFLICT(run, kind, key, step)"
)
RENEWED = (
    " DO UPDATE SET number=excluded.number, time_ms=excluded.time_ms, sent=0, problem=NULL"
    " WHERE number IS NOT excluded.number"
)
"""What `POINT` ends with where the newest value counts."""


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an earlier version up to date. Repeating it changes nothing."""
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.executescript(SCHEMA)
    if _version(db) == len(FORMER):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for script in FORMER[_version(db) :]:  # asked again: another process may have done it
            for statement in filter(str.strip, script.split(";")):
                db.execute(statement)
        db.execute(f"PRAGMA user_version={len(FORMER)}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])

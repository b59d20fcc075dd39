"""How does an experiment's folder get into a store, and back? What it means, was asked and has found; no outbox."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from service.experiment.saved import SAVED
from service.tracking.notes import REPORT
from service.verdict_log import LOG
from trainer.files import files_below, write_whole

if TYPE_CHECKING:
    from service.remote.store import Store, Stored

FOLDER = "experiments"
_STATE = re.compile(rf"({re.escape(SAVED)}|{re.escape(LOG)}|search/[^/]+\.jsonl)")
"""What a run goes on from."""
_RESULTS = re.compile(rf"({re.escape(REPORT)}|winner/.+)")
"""What people look at; it can be made again."""


class ExperimentMirror:
    """One experiment here and in a store. For one thread at a time."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store, self.directory = store, directory
        self._folder = f"{FOLDER}/{directory.name}"
        self._sent: dict[str, tuple[int, int]] = {}

    def push(self) -> None:
        """Bring there what is new here. StoreError where that cannot be done."""
        for path in sorted(files_below(self.directory)):
            name = str(path.relative_to(self.directory))
            if not (_STATE.fullmatch(name) or _RESULTS.fullmatch(name)):
                continue
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                found = path.stat()
                signature = (found.st_size, found.st_mtime_ns)
                if self._sent.get(name) != signature:
                    self.store.write(f"{self._folder}/{name}", path.read_bytes())
                    self._sent[name] = signature

    def pull(self) -> None:
        """Take what a run goes on from as it is there. StoreError where the store does not answer."""
        take(self.store, self._folder, self.directory, self.store.files(self._folder))


def take(store: Store, folder: str, directory: Path, there: dict[str, Stored]) -> None:
    """Of an experiment's files in a store, those that a run goes on from, where they differ from those here."""
    for name, stored in there.items():
        path = directory / name
        if not _STATE.fullmatch(name) or _is_taken(path, stored):
            continue
        if (content := store.read(f"{folder}/{name}")) is not None:
            if not path.exists() or path.read_bytes() != content:
                write_whole(path, content)
            os.utime(path, (stored.changed_s, stored.changed_s))


def _is_taken(path: Path, stored: Stored) -> bool:
    """Whether it was taken before, by the time that it was given then; who writes it here changes that."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size == stored.size and abs(found.st_mtime - stored.changed_s) < 1e-3

"""How does a trial's directory get into a store, and back? Never half, and never backwards.

The order is that of `trainer.record`: what a checkpoint builds on is there before it, its state before its manifest,
and the result comes last. So whoever loses everything else continues from what the store has, to the same bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.checkpoint import MANIFEST, PREFIX, STATE, checkpoints, sha256
from trainer.files import write_whole
from trainer.passes import FILE as SMALLER
from trainer.record import FAILURE, FAILURE_LOG, REPORTS, RESULT, STOPS, TRIAL, Record
from trainer.report import Stop

if TYPE_CHECKING:
    from service.remote.store import Store, Stored

_GROWING = re.compile(r"(samples/\d+\.png|snapshots/[^/]+\.pt|averages/[^/]+\.\w+)")
"""Files that are written once."""
_WHOLE = re.compile(rf"({PREFIX}\d{{12}})/{re.escape(MANIFEST)}")
_Signature = tuple[int, int]


class TrialMirror:
    """One trial here and in a store. For one thread at a time."""

    def __init__(self, store: Store, record: Record, key: str) -> None:
        self.store, self.record, self.key = store, record, key
        self._folder = f"trials/{key}"
        self._there: dict[str, Stored] | None = None
        self._sent: dict[str, _Signature] = {}

    # To the store

    def push(self) -> None:
        """Bring there what is new here; what is newer there stays. StoreError where that cannot be done."""
        there, directory = self._listed(), self.record.directory
        is_over = (directory / RESULT).is_file()  # then all the rest is written, too
        newest = checkpoints(directory)[-1:]
        for name in (TRIAL, *self._grown()):
            self._send(name, once=True)
        if self._is_ahead(there):
            self._send(REPORTS)
        for checkpoint in newest:
            self._send_checkpoint(checkpoint)
        if is_over:
            self._send(RESULT, once=True)
        self.push_words()

    def push_words(self) -> None:
        """That memory ran out; what a driver writes of a trial: why it was stopped, or failed, or fails no more."""
        there = self._listed()
        for name in (SMALLER, STOPS, FAILURE_LOG, FAILURE):
            self._send(name)
        if FAILURE in there and not (self.record.directory / FAILURE).exists():
            self.store.remove(f"{self._folder}/{FAILURE}")
            del there[FAILURE]
            self._sent.pop(FAILURE, None)

    def _listed(self) -> dict[str, Stored]:
        if self._there is None:
            self._there = self.store.files(self._folder)
        return self._there

    def _grown(self) -> list[str]:
        directory = self.record.directory
        found = (path.relative_to(directory) for path in directory.glob("*/*") if path.is_file())
        return sorted(str(name) for name in found if _GROWING.fullmatch(str(name)))

    def _is_ahead(self, there: dict[str, Stored]) -> bool:
        """Whether the reports here are at least those there; asked once, then nobody else writes them."""
        if REPORTS not in there or REPORTS in self._sent:
            return True
        known = self.store.read(f"{self._folder}/{REPORTS}") or b""
        with contextlib.suppress(OSError):
            return (self.record.directory / REPORTS).read_bytes().count(b"\n") >= known.count(b"\n")
        return False

    def _send(self, name: str, once: bool = False) -> None:
        """A file, if it is new here; `once` says that it is never written again."""
        path, there = self.record.directory / name, self._listed()
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            signature = (found.st_size, found.st_mtime_ns)
            is_known = once and name in there and there[name].size == found.st_size
            if is_known or self._sent.get(name) == signature:
                return
            self.store.write(f"{self._folder}/{name}", path.read_bytes())
            self._note(name, signature)

    def _send_checkpoint(self, checkpoint: Path) -> None:
        """Its state, then its manifest; then older ones go. One that was dropped here meanwhile is passed over."""
        there, manifest = self._listed(), f"{checkpoint.name}/{MANIFEST}"
        if manifest not in there and not any(name > checkpoint.name for name in _whole(there)):
            try:
                content = (checkpoint / MANIFEST).read_bytes()
                self.store.send(f"{self._folder}/{checkpoint.name}/{STATE}", checkpoint / STATE)
            except FileNotFoundError:
                return
            self.store.write(f"{self._folder}/{manifest}", content)
            self._note(manifest, (len(content), 0))
            self._note(f"{checkpoint.name}/{STATE}", (0, 0))
        kept = max(_whole(there), default="")
        for name in sorted(there):  # a manifest before its state: `m` < `s`
            if name.startswith(PREFIX) and name.partition("/")[0] < kept:
                self.store.remove(f"{self._folder}/{name}")
                del there[name]

    def _note(self, name: str, signature: _Signature) -> None:
        from service.remote.store import Stored

        self._sent[name] = signature
        self._listed()[name] = Stored(signature[0], 0.0)

    # From the store

    def pull(self, states: bool = False) -> str | None:
        """Take from there what is missing here, with `states` the newest checkpoint, too.

        Returns what is damaged there, whereupon nothing was taken. StoreError where the store does not answer.
        """
        self._there = None
        there = self._listed()
        if not there or self._has_all(there, states):
            return None
        with tempfile.TemporaryDirectory(prefix="diffsweep-") as folder:
            theirs = Record(Path(folder))
            for name in (REPORTS, RESULT, STOPS):
                content = self.store.read(f"{self._folder}/{name}") if name in there else None
                if content is not None:
                    (theirs.directory / name).write_bytes(content)
            if (problem := theirs.damage()) is not None:
                return problem.replace(folder, f"{self.store.uri}/{self._folder}")
            self._take(theirs, there)
        if states:
            for name in there:
                if _GROWING.fullmatch(name):
                    self._fetch(name)
            self._take_checkpoint(there)
        return None

    def set_aside(self, name: str) -> None:
        """Give the trial's folder in the store another name, so that the trial is trained again."""
        self.store.set_aside(self._folder, f"trials/{name}")
        self._there, self._sent = None, {}

    def _has_all(self, there: dict[str, Stored], states: bool) -> bool:
        """Whether a look at the listing says that nothing can be new there."""
        names = {RESULT, REPORTS, *filter(_GROWING.fullmatch, there)} if not states else set(there)
        return self.record.result() is not None and all(
            (self.record.directory / name).is_file() for name in names if name in there
        )

    def _take(self, theirs: Record, there: dict[str, Stored]) -> None:
        """Words: the trial, its reports with their pictures, stops, a failure, and last the result."""
        ours = self.record
        self._fetch(TRIAL, there)
        self._fetch(SMALLER, there)
        for report in theirs.reports():
            if report.sample_png and _GROWING.fullmatch(report.sample_png):
                self._fetch(report.sample_png, there)
        if len(theirs.reports()) > len(ours.reports()):
            write_whole(ours.directory / REPORTS, (theirs.directory / REPORTS).read_bytes())
        for stop in _news(theirs.stops(), ours.stops()):
            ours.write_stop(stop)
        result = theirs.result()
        if result is not None:
            ours.accept_result(result)
        elif FAILURE in there and ours.result() is None:
            self._fetch(FAILURE_LOG, there, again=True)
            self._fetch(FAILURE, there, again=True)
        elif FAILURE not in there:
            ours.clear_failure()

    def _fetch(
        self, name: str, there: dict[str, Stored] | None = None, again: bool = False
    ) -> None:
        path = self.record.directory / name
        if (there is None or name in there) and (again or not path.exists()):
            content = self.store.read(f"{self._folder}/{name}")
            if content is not None:
                write_whole(path, content)

    def _take_checkpoint(self, there: dict[str, Stored]) -> None:
        """The newest there that is whole, unless there is one here that is as far."""
        for name in sorted(_whole(there), reverse=True):
            if int(name.removeprefix(PREFIX)) <= self.record.images():
                return
            with _partial(self.record.directory, name) as partial:
                if self._fetched_whole(name, partial):
                    with contextlib.suppress(OSError):  # another worker of this node was quicker
                        partial.rename(self.record.directory / name)
                    return

    def _fetched_whole(self, name: str, partial: Path) -> bool:
        """Whether the state that came is the one that its manifest speaks of."""
        try:
            for file in (MANIFEST, STATE):
                self.store.fetch(f"{self._folder}/{name}/{file}", partial / file)
            expected = json.loads((partial / MANIFEST).read_text())["sha256"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
        return bool(expected == sha256(partial / STATE))


@contextlib.contextmanager
def _partial(directory: Path, name: str) -> Iterator[Path]:
    """A folder for what is on its way, gone afterwards; `Record.begin` removes what a crash leaves."""
    partial = directory / f".partial-{name}-{os.getpid()}-pulled"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _whole(there: dict[str, Stored]) -> list[str]:
    """Names of the checkpoints that have a manifest and a state."""
    named = [match[1] for match in map(_WHOLE.fullmatch, there) if match]
    return [name for name in named if f"{name}/{STATE}" in there]


def _news(theirs: list[Stop], ours: list[Stop]) -> list[Stop]:
    return [stop for stop in theirs if stop not in ours]

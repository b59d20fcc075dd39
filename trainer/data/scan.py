"""What is in the files of a folder? Each is read and decoded once; what was found is kept as long as the file is."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from trainer.data.listing import Entry, Listing
from trainer.data.parallel import PATIENCE_S, in_parallel
from trainer.data.picture import NOTES_VERSION, PICTURE_VERSION, Unreadable, opened
from trainer.files import cache_lock, write_whole


class Facts(NamedTuple):
    """One file: its content, and what there is to say of it."""

    sha256: str
    """Its name: `trainer.data.picture.Opened.name`."""
    width: int = 0
    """Pixels, upright."""
    height: int = 0
    mode: str = ""
    notes: tuple[str, ...] = ()
    """What opening it took: see `trainer.data.picture`."""
    peak: int = 0
    """Largest value of 16-bit grey."""
    damage: str | None = None
    """Why it cannot be read as a picture."""


def scan(found: Listing, cache: Path | None) -> list[Facts]:
    """Of every entry, in order. Files that `cache` knows by path, size and times are not read again."""
    if cache is None:
        return _read(found, found.entries)
    name = hashlib.sha256(str(found.folder).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    file = cache / f"scan-{name}-{PICTURE_VERSION}.{NOTES_VERSION}.jsonl"
    with ExitStack() as stack:
        try:
            stack.enter_context(cache_lock(file, PATIENCE_S))
        except OSError:  # the cache cannot be written: nothing is kept
            return _read(found, found.entries)
        facts, stale = _known(file, found.entries)
        new = [number for number, fact in enumerate(facts) if fact is None]
        read = _read(found, [found.entries[number] for number in new])
        for number, fact in zip(new, read, strict=True):
            facts[number] = fact
        whole = [fact for fact in facts if fact is not None]
        if new or stale:
            _keep(file, found.entries, whole)
    return whole


def _read(found: Listing, entries: Sequence[Entry]) -> list[Facts]:
    def read(i: int) -> Facts:
        return _facts(found, entries[i].name)

    return list(in_parallel(read, len(entries), "reading pictures"))


def _facts(found: Listing, name: str) -> Facts:
    try:
        content = found.content(name)
    except Unreadable as reason:
        return Facts("", damage=str(reason))
    try:
        picture = opened(content)
    except Unreadable as reason:
        return Facts(hashlib.sha256(content).hexdigest(), damage=str(reason))
    return Facts(
        picture.name(content),
        picture.image.width,
        picture.image.height,
        picture.mode,
        picture.notes,
        picture.peak,
    )


def _known(file: Path, entries: Sequence[Entry]) -> tuple[list[Facts | None], bool]:
    """What an earlier scan wrote of these entries, in their order; and whether it wrote anything else.

    One line at a time, against one index: of a million files nothing is held twice.
    """
    place = {entry.name: number for number, entry in enumerate(entries)}
    facts: list[Facts | None] = [None] * len(entries)
    stale = False
    with suppress(OSError, UnicodeDecodeError), open(file) as lines:
        for line in lines:
            try:
                entry, (sha, width, height, mode, notes, *rest) = json.loads(line)
                number = place.get(entry[0])
                if number is None or tuple(entry) != entries[number]:
                    stale = True
                    continue
                facts[number] = Facts(sha, width, height, sys.intern(mode), tuple(notes), *rest)
            except (ValueError, TypeError, LookupError):  # a damaged line
                stale = True
    return facts, stale


def _keep(file: Path, entries: Sequence[Entry], facts: Sequence[Facts]) -> None:
    """A file that could not be read at all is asked again next time."""
    lines = (json.dumps([entry, f]) for entry, f in zip(entries, facts, strict=True) if f.sha256)
    with suppress(OSError):  # a full disk: the files are read again next time
        write_whole(file, "".join(f"{line}\n" for line in lines))

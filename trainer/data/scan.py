"""What is in the files of a folder? Each is read and decoded once; what was found is kept as long as the file is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.data.listing import Entry, Listing
from trainer.data.parallel import PATIENCE_S, in_parallel
from trainer.data.picture import PICTURE_VERSION, Unreadable, opened
from trainer.files import cache_lock, write_whole


@dataclass(frozen=True)
class Facts:
    """One file: its content, and what there is to say of it."""

    sha256: str
    width: int = 0
    """Pixels, upright."""
    height: int = 0
    mode: str = ""
    notes: tuple[str, ...] = ()
    """What opening it took: see `trainer.data.picture`."""
    damage: str | None = None
    """Why it cannot be read as a picture."""


def scan(found: Listing, cache: Path | None) -> list[Facts]:
    """Of every entry, in order. Files that `cache` knows by path, size and times are not read again."""
    if cache is None:
        return _read(found, found.entries)
    name = hashlib.sha256(str(found.folder).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    file = cache / f"scan-{name}-{PICTURE_VERSION}.jsonl"
    with ExitStack() as stack:
        try:
            stack.enter_context(cache_lock(file, PATIENCE_S))
        except OSError:  # the cache cannot be written: nothing is kept
            return _read(found, found.entries)
        known = dict(_kept(file))
        new = [entry for entry in found.entries if entry not in known]
        known |= zip(new, _read(found, new), strict=True)
        facts = [known[entry] for entry in found.entries]
        if new or len(known) > len(facts):
            _keep(file, found.entries, facts)
    return facts


def _read(found: Listing, entries: Sequence[Entry]) -> list[Facts]:
    def read(i: int) -> Facts:
        return _facts(found.folder / entries[i].name)

    return list(in_parallel(read, len(entries), "reading pictures"))


def _facts(file: Path) -> Facts:
    try:
        content = file.read_bytes()
    except OSError as error:
        return Facts("", damage=f"it cannot be read ({error.strerror})")
    digest = hashlib.sha256(content).hexdigest()
    try:
        picture = opened(content)
    except Unreadable as reason:
        return Facts(digest, damage=str(reason))
    return Facts(digest, picture.image.width, picture.image.height, picture.mode, picture.notes)


def _kept(file: Path) -> Iterator[tuple[Entry, Facts]]:
    """What an earlier scan wrote; a line that is no longer understood is left out."""
    try:
        with open(file) as lines:
            for line in lines:
                try:
                    entry, (sha, width, height, mode, notes, damage) = json.loads(line)
                    yield Entry(*entry), Facts(sha, width, height, mode, tuple(notes), damage)
                except (ValueError, TypeError):
                    continue
    except (OSError, UnicodeDecodeError):
        return


def _keep(file: Path, entries: Sequence[Entry], facts: Sequence[Facts]) -> None:
    """A file that could not be read at all is asked again next time."""
    lines = (
        json.dumps([entry, [f.sha256, f.width, f.height, f.mode, f.notes, f.damage]])
        for entry, f in zip(entries, facts, strict=True)
        if f.sha256
    )
    with suppress(OSError):  # a full disk: the files are read again next time
        write_whole(file, "".join(f"{line}\n" for line in lines))

"""Which files of a folder are pictures? One walk that follows links, and names what it leaves out and why."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from trainer.data.picture import EXTENSIONS
from trainer.errors import DataError


class Entry(NamedTuple):
    """A file that is taken for a picture."""

    name: str
    """Relative to the folder, with slashes."""
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass
class Listing:
    """What a folder holds, sorted by folder and name."""

    folder: Path
    entries: list[Entry] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """`.txt`, `without extension` or `hidden` to the number of such files."""
    lost: list[tuple[str, str]] = field(default_factory=list)
    """Names that lead nowhere, each with the reason."""


def listing(root: Path, path: str) -> Listing:
    """The pictures under `path`, which starts at `root`. Raises DataError where there is no such folder."""
    try:
        folder = (root / Path(path).expanduser()).resolve()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, ~nobody, a NUL
        reason = getattr(error, "strerror", None) or str(error).partition(" from ")[0]
        message = f"data.path: {path[:60]!r} cannot be a folder ({reason})"
        raise DataError(f"{message}: write the path of a folder of images") from None
    if not is_folder:
        raise DataError(
            f"data.path: {printable(folder)} is not a folder on this machine: write where the images are"
        )
    found = Listing(folder)
    _walk(found, str(folder), "", frozenset({_place(os.stat(folder))}))
    found.entries.sort(key=lambda entry: entry.name.split("/"))
    found.lost.sort()
    return found


def printable(name: object) -> str:
    """A file's name for a message: bytes that are no text as question marks, no line breaks."""
    text = os.fsencode(str(name)).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _walk(found: Listing, folder: str, within: str, above: frozenset[tuple[int, int]]) -> None:
    """Add what lies in one folder; `above` are the folders that hold it, by which a loop shows."""
    try:
        with os.scandir(folder) as scanned:
            items = list(scanned)
    except OSError as error:
        found.lost.append((within or ".", f"it is a folder that cannot be read ({error.strerror})"))
        return
    for item in items:
        name = f"{within}/{item.name}" if within else item.name
        extension = os.path.splitext(item.name)[1].lower()
        if item.name.startswith(".") or item.name == "__MACOSX":
            found.left_out["hidden"] += 1
            continue
        try:
            status = item.stat()
        except OSError:
            if extension in EXTENSIONS:
                found.lost.append((name, "it is a link to a file that is not there"))
            else:
                found.left_out["links that lead nowhere"] += 1
            continue
        if stat.S_ISDIR(status.st_mode):
            if (place := _place(status)) in above:
                found.lost.append((name, "it is a link to a folder that holds it"))
            else:
                _walk(found, item.path, name, above | {place})
        elif extension not in EXTENSIONS:
            found.left_out[extension or "without extension"] += 1
        elif not stat.S_ISREG(status.st_mode):
            found.lost.append((name, "it is no plain file"))
        else:
            found.entries.append(
                Entry(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            )


def _place(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino

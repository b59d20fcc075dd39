"""Which files of a folder are pictures? One walk that follows links, and names what it leaves out and why."""

import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from trainer.data.picture import EXTENSIONS, Unreadable
from trainer.errors import DataError
from trainer.yaml.files import is_systems

LABELS_FILE = "dataset.json"


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
    folders: set[str] = field(default_factory=set)
    """Names of the first level, hidden ones apart, whatever they hold."""
    lost: list[tuple[str, str]] = field(default_factory=list)
    """Names that lead nowhere, each with the reason."""
    has_labels_file: bool = False
    """Whether there is a `dataset.json` at the top, as EDM and StyleGAN write it."""
    read: Callable[[str], bytes] | None = None
    """Content of a name, where it is no file of the folder: a member of an archive. From any thread."""

    def content(self, name: str) -> bytes:
        """Of an entry. Raises Unreadable."""
        try:
            return self.read(name) if self.read else (self.folder / name).read_bytes()
        except OSError as error:
            raise Unreadable(f"it cannot be read ({error.strerror or error})") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise Unreadable(f"it is damaged in the archive: {error}") from None

    def sort(self) -> None:
        """By folder and name."""
        self.entries.sort(key=lambda entry: entry.name.split("/"))
        self.lost.sort()


def sort_out(found: Listing, entry: Entry) -> None:
    """Take a plain file for a picture, or leave it out, by its name."""
    extension = os.path.splitext(entry.name)[1].lower()
    if extension in EXTENSIONS:
        found.entries.append(entry)
    elif entry.name == LABELS_FILE:
        found.has_labels_file = True
    else:
        found.left_out[extension or "without extension"] += 1


_NOBODYS = (Path("/"),)
"""Walking through these takes for ever, and finds what is no picture."""


def located(root: Path, path: str) -> Path:
    """Where `path`, which starts at `root`, really is. Raises DataError where there is no folder and no .zip."""
    try:
        folder = (root / Path(path).expanduser()).resolve()
        is_there = folder.is_dir() or (folder.suffix.lower() == ".zip" and folder.is_file())
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, ~nobody, a NUL
        reason = getattr(error, "strerror", None) or str(error).partition(" from ")[0]
        message = f"data.path: {path[:60]!r} cannot be a folder ({reason})"
        raise DataError(f"{message}: write the path of a folder of images") from None
    refuse_systems(folder)
    if not is_there:
        raise DataError(
            f"data.path: {printable(folder)} is not a folder on this machine: write where the images are"
        )
    return folder


def refuse_systems(folder: Path) -> None:
    """Raises DataError where a folder, links followed, is no place for anybody's data."""
    if folder in _NOBODYS or is_systems(folder):
        raise DataError(f"data.path: {folder} is the system's own: write where the images are")


def folder_listing(folder: Path) -> Listing:
    """The pictures under a folder."""
    found = Listing(folder)
    _walk(found, str(folder), "", frozenset({_place(os.stat(folder))}))
    found.sort()
    return found


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is the system's own."""
    return (name.startswith(".") and name != ".") or name == "__MACOSX"


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
        if is_hidden(item.name):
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
                if not within:
                    found.folders.add(name)
                _walk(found, item.path, name, above | {place})
        elif extension in EXTENSIONS and not stat.S_ISREG(status.st_mode):
            found.lost.append((name, "it is no plain file"))
        else:
            times = (status.st_mtime_ns, status.st_ctime_ns)
            sort_out(found, Entry(name, status.st_size, *times))


def _place(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino

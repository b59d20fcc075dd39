"""Which file is meant, and why can it not be read? Nothing here opens a pipe or a device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainer.errors import closest

_HANDED_OVER = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""What a shell hands over deliberately, as in `diffsweep validate <(make-yaml)`."""
_SYSTEMS = ("/proc", "/sys", "/dev")
_MEMORY = "/dev/shm"
"""Anybody's files, in memory."""
_ALIKE = 0.8
"""Names of files that end alike share much already."""
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def display(path: Path) -> str:
    """The path as a person would type it: relative to the working directory when it lies inside."""
    for made_absolute in (Path.absolute, Path.resolve):  # links are followed only if that helps
        try:
            return os.path.normpath(made_absolute(path).relative_to(made_absolute(Path.cwd())))
        except (ValueError, OSError, RuntimeError):  # RuntimeError: a link to itself
            continue
    return str(path)


def is_handed_over(path: Path) -> bool:
    """Whether a command line's path is the shell's own pipe."""
    return os.path.normpath(path).startswith(_HANDED_OVER)


def is_systems(path: Path) -> bool:
    """Whether a path, links followed, lies where the kernel shows itself: reading there may never end."""
    own = any(path.is_relative_to(place) for place in _SYSTEMS)
    return own and not path.is_relative_to(_MEMORY)


def why_unreadable(path: Path, start: Path | None = None) -> str | None:
    """Why there is no file to read at `path`, None if there is one; a near name is offered relative to `start`."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if path.is_symlink():
            return f"is a link to {os.readlink(path)}, which does not exist"
        return _missing(path, start)
    except NotADirectoryError:
        return f"does not exist ({display(path.parent)} is no folder)"
    except ValueError:
        return "is no file name: it holds a character that names cannot have"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if stat.S_ISREG(mode):
        own = is_systems(Path(os.path.realpath(path)))
        return "is the system's own, not a YAML file: name a file of yours" if own else None
    if stat.S_ISDIR(mode):
        return "is a directory, not a YAML file"
    return f"is {_SPECIAL.get(stat.S_IFMT(mode), 'special')}, not a YAML file"


def _missing(path: Path, start: Path | None) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"does not exist (there is no folder {display(folder)} either)"
    try:
        neighbours = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        neighbours = []
    near = closest(path.name, neighbours, _ALIKE)
    if near is None:
        return f"does not exist; it is looked for in {display(folder)}"
    meant = folder / near
    name = os.path.relpath(meant, start) if start is not None else display(meant)
    return f"does not exist, did you mean {name}?"

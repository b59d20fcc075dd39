"""What lies in a home, for which experiment, and how large is it? And what is no longer needed?

A trial is needed while an experiment of this home names it: among its trials, or as a candidate of its search.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ServiceError
from service.experiment.saved import SAVED
from service.remote.home import forget
from service.search.candidates import FOLDER, Candidates
from trainer.files import files_below
from trainer.lease import holder
from trainer.record import LOCK

if TYPE_CHECKING:
    from service.settings import Settings


@dataclass(frozen=True)
class Share:
    """What one experiment has of a home."""

    name: str
    trials: frozenset[str]
    """Keys that it names and that are there."""
    bytes: int
    """Of its folder and of all these trials."""
    alone: frozenset[str]
    """Those that no other experiment names."""
    freed: int
    """Bytes of its folder and of the trials that it has alone."""
    named: frozenset[str] = frozenset()
    """All keys that it alone names, also of trials that are not on this machine."""


@dataclass(frozen=True)
class Usage:
    """What lies in a home."""

    shares: tuple[Share, ...]
    orphans: dict[str, int] = field(default_factory=dict)
    """Directories of trials that no experiment names, with their bytes: former settings, damaged ones set aside."""
    unreadable: tuple[str, ...] = ()
    """Experiments that do not say which trials are theirs: then nothing counts as an orphan."""
    total: int = 0
    """Bytes of the whole home."""


def usage(settings: Settings) -> Usage:
    """Look at a home as it is now."""
    sizes = {path.name: bytes_below(path) for path in _folders(settings.trials)}
    every: dict[str, frozenset[str]] = {}
    unreadable: list[str] = []
    folders = {path.name: path for path in _folders(settings.home / "experiments")}
    for name, folder in folders.items():
        try:
            every[name] = frozenset(_keys(folder))
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(name)
    shares = []
    for name, given in every.items():
        mine = given - frozenset[str]().union(*(k for n, k in every.items() if n != name))
        own, keys, alone = bytes_below(folders[name]), given & sizes.keys(), mine & sizes.keys()
        whole, freed = own + sum(sizes[k] for k in keys), own + sum(sizes[k] for k in alone)
        shares.append(Share(name, keys, whole, alone, freed, mine))
    used = frozenset[str]().union(*every.values())
    orphans = {} if unreadable else {n: s for n, s in sizes.items() if n not in used}
    return Usage(tuple(shares), orphans, tuple(unreadable), bytes_below(settings.home))


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.glob("*") if path.is_dir() and not path.is_symlink())


def _keys(folder: Path) -> Iterator[str]:
    """The trials that an experiment's folder names."""
    saved = json.loads((folder / SAVED).read_text(encoding="utf-8"))
    yield from (trial["key"] for trial in saved["trials"])
    for file in sorted((folder / FOLDER).glob("*.jsonl")):
        for candidate in Candidates(file).read():
            yield from (key for keys in candidate.keys.values() for key in keys)


def keys_of(folder: Path) -> frozenset[str]:
    """The same; none where there is no such folder, or it does not say so."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return frozenset(_keys(folder))
    return frozenset()


def bytes_below(place: Path) -> int:
    """Of all files below; what goes away meanwhile counts nothing."""
    total = 0
    for path in files_below(place):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def remove_experiment(settings: Settings, share: Share) -> None:
    """Remove an experiment's folder and the trials that it has alone. ServiceError while somebody works on it."""
    folder = settings.experiment(share.name)
    _refuse_held([folder / "driver.lock", *(settings.trial(key) / LOCK for key in share.alone)])
    forget(settings, share.named, share.name)
    _remove_trials(settings, share.alone)
    shutil.rmtree(folder)


def remove_trials(settings: Settings, keys: Iterable[str]) -> None:
    """Remove directories of trials. ServiceError while somebody trains one of them."""
    keys = list(keys)
    _refuse_held([settings.trial(key) / LOCK for key in keys])
    forget(settings, keys)
    _remove_trials(settings, keys)


def _remove_trials(settings: Settings, keys: Iterable[str]) -> None:
    for key in keys:
        shutil.rmtree(settings.trial(key))


def _refuse_held(locks: Iterable[Path]) -> None:
    for lock in locks:
        if (who := holder(lock)) is not None:
            raise ServiceError(
                f"{lock.parent} is at work: {who}", "end it first; nothing has been removed"
            )


def check_quota(settings: Settings) -> None:
    """ServiceError where a home is larger than its quota, with what could go."""
    most = settings.quota_gb
    if most is None:
        return
    found = usage(settings)
    if found.total <= most * 1e9:
        return
    orphans = sum(found.orphans.values())
    could = (
        f"`diffsweep rm --orphans` frees {size(orphans)}"
        if orphans
        else "`diffsweep rm` lists what is there"
    )
    raise ServiceError(
        f"{settings.home} holds {size(found.total)}, more than its quota of {most:g} GB",
        f"{could}; or raise DIFFSWEEP_QUOTA_GB",
    )


def size(count: float) -> str:
    """Bytes for a person: `3.2 GB`, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"

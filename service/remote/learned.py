"""Which files of a cache have to be the same on every machine? What was learned: another training, another measure.

Everything else in a cache is a function of the data, and is made again where it is missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.files import keep, kept

if TYPE_CHECKING:
    from service.remote.store import Store

FOLDER = "cache"
_LEARNED = re.compile(r"classifier-[^/]+\.(pt|json)")
_DIGEST = ".sha256"


def pull_learned(store: Store, cache: Path) -> None:
    """Take what was learned elsewhere, in place of what was learned here at the same time."""
    there = store.files(FOLDER)
    for name in filter(_LEARNED.fullmatch, there):
        digest = store.read(f"{FOLDER}/{name}{_DIGEST}")
        if digest is None or _digest_here(cache / name) == digest:
            continue
        content = store.read(f"{FOLDER}/{name}")
        if content is not None and hashlib.sha256(content).hexdigest().encode() == digest:
            keep(cache / name, content)


def push_learned(store: Store, cache: Path) -> None:
    """Bring there what was learned here, unless another was quicker; the digest, which makes it whole, comes last."""
    names = [path.name for path in cache.glob("classifier-*") if _LEARNED.fullmatch(path.name)]
    there = store.files(FOLDER) if names else {}
    for name in names:
        content = None if f"{name}{_DIGEST}" in there else kept(cache / name)
        if content is not None:
            store.write(f"{FOLDER}/{name}", content)
            digest = hashlib.sha256(content).hexdigest()
            store.write(f"{FOLDER}/{name}{_DIGEST}", digest.encode())


def _digest_here(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return path.with_name(f"{path.name}{_DIGEST}").read_bytes()
    return None

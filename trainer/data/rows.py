"""What is in a set whose pictures have numbers, not files? All of it is read once, and remembered while it stays so.

A kind of data set gives `Rows`: the stored content of each picture, how it is opened, the labels. `read_rows` reads
them all, in parallel, and keeps what it found in the cache under what tells one state of the set from another (names,
sizes and times of its files, or a pinned revision), so that the set is opened again only to be decoded, once.
"""

from __future__ import annotations

import hashlib
import json
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data.folder import CHANGED
from trainer.data.found import Found, Summary
from trainer.data.labelling import many
from trainer.data.listing import printable
from trainer.data.parallel import PATIENCE_S, in_parallel
from trainer.data.picture import NOTES_VERSION, PICTURE_VERSION, Frame, Opened, Unreadable
from trainer.data.pictures import Pictures
from trainer.data.said import Looks, counted, noted, stored_alike
from trainer.data.scan import Facts
from trainer.errors import DataError
from trainer.files import cache_lock, keep, kept
from trainer.lazily import torch

_NAMED = 3
"""Rows that a message names."""


class Rows(ABC):
    """An opened set; rows may be read from any thread."""

    labels: np.ndarray | None = None
    """int64 [N], negative where a row has none; None: the set has no labels."""
    label_names: tuple[str, ...] | None = None
    """Of label 0, 1, ..."""
    tags: np.ndarray | None = None
    """bool [N, K]: which of K attributes each has."""
    tag_names: tuple[str, ...] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many."""

    @abstractmethod
    def content(self, row: int) -> bytes:
        """What is stored of the picture. Raises Unreadable."""

    @abstractmethod
    def opened(self, content: bytes) -> Opened:
        """The picture in it. Raises Unreadable."""

    @abstractmethod
    def name(self, row: int) -> str:
        """What messages call it."""


class Once:
    """Opens a set when somebody asks for it, and only then; from any thread."""

    def __init__(self, opens: Callable[[], Rows]) -> None:
        self._opens, self._lock = opens, threading.Lock()
        self._rows: Rows | None = None

    def __call__(self) -> Rows:
        """The opened set."""
        with self._lock:
            if self._rows is None:
                self._rows = self._opens()
            return self._rows


def read_rows(opens: Callable[[], Rows], state: Sequence[str], cache: Path | None) -> Found:
    """Every row is read and decoded once; `state` names the set as it is now, and all that decides on its rows."""
    if cache is None:
        return _read(opens())
    name = hashlib.sha256(
        json.dumps([PICTURE_VERSION, NOTES_VERSION, *state]).encode("utf-8", "surrogatepass")
    )
    file = cache / f"rows-{name.hexdigest()[:16]}.npz"
    with ExitStack() as stack:
        try:
            stack.enter_context(cache_lock(file, PATIENCE_S))
        except OSError:  # the cache cannot be written: nothing is kept
            return _read(opens())
        content = kept(file)
        if content is not None:
            return Found.from_bytes(content)
        found = _read(opens())
        with suppress(OSError):  # a full disk: the set is read again next time
            keep(file, found.to_bytes())
    return found


def _read(rows: Rows) -> Found:
    labels = rows.labels

    def facts(row: int) -> Facts:
        if labels is not None and labels[row] < 0:
            return Facts("", damage="it has no label")
        try:
            content = rows.content(row)
            picture = rows.opened(content)
        except Unreadable as reason:
            return Facts("", damage=str(reason))
        size = picture.image.size
        return Facts(picture.name(content), *size, picture.mode, picture.notes, picture.peak)

    every = list(in_parallel(facts, len(rows), "reading pictures"))
    usable = np.array([i for i, fact in enumerate(every) if fact.damage is None], np.int64)
    digests = b"".join(bytes.fromhex(every[i].sha256) for i in usable)
    return Found(
        usable,
        np.frombuffer(digests, np.uint8).reshape(-1, 32),
        None if labels is None else labels[usable],
        None if rows.tags is None else rows.tags[usable],
        _summary(rows, every),
    )


def _summary(rows: Rows, every: Sequence[Facts]) -> Summary:
    whole = [fact for fact in every if fact.damage is None]
    lost = [i for i, fact in enumerate(every) if fact.damage is not None]
    return Summary(
        total=len(every),
        looks=Looks.of(whole),
        lost=len(lost),
        named=tuple((rows.name(i), str(every[i].damage)) for i in lost[:_NAMED]),
        label_names=rows.label_names,
        tag_names=rows.tag_names,
    )


class RowPictures(Pictures):
    """The usable rows; the set is opened when the first of them is asked for."""

    def __init__(
        self, found: Found, rows: Callable[[], Rows], called: str,
        before: Callable[[Image.Image], Image.Image] | None = None, prepared: str = "",
    ) -> None:  # fmt: skip
        """`called` names the set in its line; `before` is done to each picture, and `prepared` names it."""
        self._found, self._rows, self._called, self._before = found, rows, called, before
        looks = found.summary.looks
        sha = hashlib.sha256(f"{looks.smallest}/{looks.largest}/{prepared}/".encode())
        sha.update(found.digests.tobytes())
        self.content = sha.hexdigest()
        if found.tags is not None:
            self.tags, self.tag_names = torch.from_numpy(found.tags), found.summary.tag_names
        present = None if found.labels is None else np.unique(found.labels)
        self.alone: str | None = None
        """The one class of all pictures, which is no label."""
        names = found.summary.label_names
        if present is None or names is None:
            return
        if len(present) < 2:
            self.alone = names[int(present[0])] if len(present) else None
            return
        self.labels, self.label_names = torch.from_numpy(found.labels), names

    def __len__(self) -> int:
        return len(self._found.rows)

    def begin(self) -> None:
        """Open the set."""
        self._rows()

    def picture(self, number: int) -> Image.Image:
        """Read again, and checked to be what was read before."""
        rows, row = self._rows(), int(self._found.rows[number])
        content = rows.content(row)
        picture = rows.opened(content)
        if bytes.fromhex(picture.name(content)) != self._found.digests[number].tobytes():
            raise Unreadable(CHANGED)
        image = picture.image
        return image if self._before is None else self._before(image)

    def name(self, number: int) -> str:
        """As the set calls it."""
        return self._rows().name(int(self._found.rows[number]))

    def line(self) -> str:
        """`60,000 images, 10 classes (0 5,923, ...); torchvision MNIST, split train`."""
        return f"{counted(self)}; {self._called}"

    def remarks(self, frame: Frame) -> tuple[str, ...]:
        """What a person should know of the pictures, a line each."""
        summary = self._found.summary
        lines = [stored_alike(summary.looks)]
        if self.alone is not None:
            lines.append(
                f"all images are of one class ({printable(self.alone)}), so there are no labels"
            )
        if summary.lost:
            lines.append(f"skipped {many(summary.lost, 'damaged row')}: {summary.lost_rows()}")
        return (*lines, *noted(summary.looks, frame))


def state_of(files: Iterable[Path], most: int | None = None) -> list[str]:
    """Names, sizes and times of files, and of all files in folders: equal lists, equal files; nothing is read.

    Raises DataError where there are more than `most`.
    """
    lines: list[str] = []
    for file in files:
        _add_state(file, lines, frozenset(), most)
    return lines


def too_full(most: int) -> str:
    """What is said of a folder that is too large to be looked through."""
    return f"holds more than {most:,} files: write the path of the folder that holds the data set alone"


def _add_state(
    file: Path, lines: list[str], above: frozenset[tuple[int, int]], most: int | None
) -> None:
    """`above` are the folders that hold it, by which a loop of links shows."""
    try:
        status = file.stat()
        place = (status.st_dev, status.st_ino)
        within = sorted(file.iterdir()) if stat.S_ISDIR(status.st_mode) else None
    except OSError:
        lines.append(f"{file} is not there")
        return
    if within is None:
        lines.append(f"{file}/{status.st_size}/{status.st_mtime_ns}/{status.st_ctime_ns}")
        if most is not None and len(lines) > most:
            raise DataError(f"data.path: {printable(file.parent)} {too_full(most)}")
    elif place not in above:
        for each in within:
            _add_state(each, lines, above | {place}, most)

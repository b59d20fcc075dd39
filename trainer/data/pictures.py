"""How does a set of pictures become a `Source`? Decoded once, in parallel, into an array that all trials share.

A kind of data set that has pictures gives a `Pictures`: how many, the image of each, the labels, and a digest of the
content. `source_of(pictures, frame, cache=...)` does the rest: `cache/pictures-<digest>.npy`, uint8 [N, C, H, W], is
written whole or not at all by the first process that asks, the others wait for it; the digest is that of the content
and of the frame, so labels and flips share one array. Without a cache the array is in memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from trainer.data.codec import Codec
from trainer.data.parallel import PATIENCE_S, in_parallel
from trainer.data.picture import Frame, Unreadable
from trainer.data.source import Absent, Resident, Source
from trainer.data.stored import Stored, stored_array
from trainer.data.tagged import Tagged
from trainer.errors import DataError, EnvironmentProblem
from trainer.files import cache_lock
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class Pictures(ABC):
    """Pictures that are not decoded yet."""

    content: str
    """Digest of the pictures in their order; what the frame makes of them is not in it."""
    labels: Tensor | None = None
    """int64 [N], or None."""
    label_names: tuple[str, ...] | None = None
    """Of label 0, 1, ..."""
    tags: Tensor | None = None
    """bool [N, K]: which of K attributes each has; None: there are none."""
    tag_names: tuple[str, ...] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many."""

    def begin(self) -> None:  # noqa: B027  # most have nothing to open
        """Called once before any picture is asked for: open here what takes time or memory."""

    @abstractmethod
    def picture(self, number: int) -> Image.Image | np.ndarray:
        """The picture as `trainer.data.picture.Frame` fits it: upright, opaque unless alpha is kept; from any thread.

        Raises Unreadable.
        """

    @abstractmethod
    def name(self, number: int) -> str:
        """What messages call it."""

    @abstractmethod
    def line(self) -> str:
        """Images, classes and what was left out, in one line."""

    def remarks(self, frame: Frame) -> tuple[str, ...]:
        """What a person should know of the pictures, a line each."""
        return ()

    def fingerprint(self, frame: Frame) -> str:
        """16 hex digits that name the examples with their labels."""
        return _digest(self.content, frame.identity(), self._labelling(), *self._tagging())

    def _tagging(self) -> tuple[str, ...]:
        if self.tags is None:
            return ()
        return (hashlib.sha256(self.tags.numpy().tobytes()).hexdigest(), str(self.tag_names))

    def _labelling(self) -> str:
        if self.labels is None:
            return "no labels"
        values = hashlib.sha256(self.labels.numpy().tobytes()).hexdigest()
        return f"{values}/{self.label_names}"


def source_of(
    pictures: Pictures, frame: Frame, *, cache: Path | None, flip: bool = False
) -> Source:
    """The examples, on the processor. Raises DataError, and EnvironmentProblem where the cache has no room."""
    fingerprint, codec = pictures.fingerprint(frame), _codec(pictures, frame)
    if cache is None:
        array = np.empty((len(pictures), *frame.shape), np.uint8)
        _decode(pictures, frame, array)
        examples = torch.from_numpy(array)
        return _tagged(Resident(codec, examples, pictures.labels, fingerprint, flip), pictures)
    file = cache / f"pictures-{_digest(pictures.content, frame.identity())}.npy"
    shape = (len(pictures), *frame.shape)
    with cache_lock(file, PATIENCE_S):
        if stored_array(file, shape) is None:
            _write(pictures, frame, file, shape)
    stored = Stored(codec, file, len(pictures), pictures.labels, fingerprint, flip)
    return _tagged(stored.to(torch.device("cpu")), pictures)


def _tagged(source: Source, pictures: Pictures) -> Source:
    return source if pictures.tags is None else Tagged(source, pictures.tags)


def outline_of(pictures: Pictures, frame: Frame, *, flip: bool = False) -> Source:
    """All that is known of the examples before any is decoded."""
    name = pictures.fingerprint(frame)
    return Absent(_codec(pictures, frame), name, None, flip, len(pictures))


def _codec(pictures: Pictures, frame: Frame) -> Codec:
    if pictures.labels is None:
        return Codec(frame.shape, 255, tags=pictures.tag_names)
    names = pictures.label_names
    assert names is not None, "labels have names"
    counts = torch.bincount(pictures.labels, minlength=len(names)).tolist()
    return Codec(frame.shape, 255, names, tuple(counts), pictures.tag_names)


def _write(pictures: Pictures, frame: Frame, file: Path, shape: tuple[int, ...]) -> None:
    """Beside the file, then renamed; only for the holder of the lock, so what a killed one left is written over."""
    needed, partial = int(np.prod(shape)), file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    free = shutil.disk_usage(file.parent).free
    if free < needed:
        raise EnvironmentProblem(
            f"{file.parent} has {free / 1e9:.1f} GB free, the decoded pictures take {needed / 1e9:.1f} GB: make "
            "room, or set DIFFSWEEP_HOME to a larger disk"
        )
    try:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        _decode(pictures, frame, array)
        array.flush()
        del array
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _decode(pictures: Pictures, frame: Frame, array: np.ndarray) -> None:
    """Fill `array` [N, C, H, W]. Raises DataError for the first picture that cannot be read."""

    def pixels(number: int) -> np.ndarray:
        try:
            return frame.pixels(pictures.picture(number))
        except Unreadable as reason:
            raise DataError(f"data: {pictures.name(number)}: {reason}") from None

    pictures.begin()
    label = f"decoding pictures to {frame.width} x {frame.height}"
    for number, decoded in enumerate(in_parallel(pixels, len(array), label)):
        array[number] = decoded


def _digest(*texts: str) -> str:
    return hashlib.sha256("|".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

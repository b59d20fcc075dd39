"""How are more pictures served than fit in memory? From a file of the cache: resident if they fit, else streamed.

Both give the same bytes, so nothing that a trial computes depends on which it is, and a trial may be resumed the
other way. DIFFSWEEP_RESIDENT=always or never forces one, for tests and for machines whose free memory says little.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from trainer.data.codec import Codec
from trainer.data.source import Resident, Source
from trainer.errors import UserError
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


SHARE = 0.25
"""A set lies in the device's memory if it takes at most so much of what is free there: networks come first, and
several trials may share a device."""
VARIABLE = "DIFFSWEEP_RESIDENT"
_AHEAD = 4
"""Announced batches that are kept."""


@dataclass(frozen=True)
class Stored:
    """A decoded set in a file, before it is known on which device it is served."""

    codec: Codec
    file: Path
    """A .npy of uint8 [N, C, H, W]."""
    count: int
    labels: Tensor | None
    fingerprint: str
    flip: bool = False

    def to(self, device: torch.device) -> Source:
        """Resident where it fits (on a processor by mapping the file, which processes share), else streamed."""
        labels = None if self.labels is None else self.labels.to(device)
        if not self._fits(device):
            return Streamed(self, labels, device)
        array = stored_array(self.file, (self.count, *self.codec.shape))
        assert array is not None, "it was made"
        examples = torch.from_numpy(array).to(device)
        return Mapped(self.codec, examples, labels, self.fingerprint, self.flip, self)

    def _fits(self, device: torch.device) -> bool:
        asked = os.environ.get(VARIABLE, "auto")
        if asked not in ("auto", "always", "never"):
            raise UserError(f"{VARIABLE} is {asked!r}: set it to auto, always or never")
        if asked != "auto":
            return asked == "always"
        return self.count * prod(self.codec.shape) <= SHARE * _free(device)


@dataclass(frozen=True)
class Mapped(Resident):
    """A resident set that knows its file: another device may have less room."""

    stored: Stored | None = None

    def to(self, device: torch.device) -> Source:
        """From the file, as fits there."""
        assert self.stored is not None
        return self if device == self.device else self.stored.to(device)


class Streamed(Source):
    """A set that is read from its file, batch by batch; a thread reads ahead what is announced."""

    def __init__(self, stored: Stored, labels: Tensor | None, device: torch.device) -> None:
        self.codec, self.fingerprint, self.flip = stored.codec, stored.fingerprint, stored.flip
        self._stored, self._labels, self._on = stored, labels, device
        self._file = open(stored.file, "rb", buffering=0)  # noqa: SIM115  # for as long as the source lives
        self._bytes = prod(stored.codec.shape)
        self._offset = os.fstat(self._file.fileno()).st_size - stored.count * self._bytes
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._coming: OrderedDict[bytes, Future[Tensor]] = OrderedDict()

    @property
    def resident(self) -> bool:
        """Never."""
        return False

    @property
    def device(self) -> torch.device:
        """Where `read` puts the examples."""
        return self._on

    def __len__(self) -> int:
        return self._stored.count

    def read(self, rows: Tensor) -> Tensor:
        """What was announced is waited for, anything else read now."""
        rows = rows.cpu()
        coming = self._coming.pop(_key(rows), None)
        batch = self._gather(rows) if coming is None else coming.result()
        return batch.to(self._on, non_blocking=True)

    def announce(self, rows: Tensor) -> None:
        """Read these rows in the background: they are asked for soon."""
        rows = rows.cpu()
        if (key := _key(rows)) in self._coming:
            return
        while len(self._coming) >= _AHEAD:  # announced, and never asked for
            self._coming.popitem(last=False)[1].cancel()
        self._coming[key] = self._reader.submit(self._gather, rows)

    def labels_of(self, rows: Tensor) -> Tensor | None:
        """Labels are always in memory."""
        return None if self._labels is None else self._labels[rows.to(self._on)]

    def to(self, device: torch.device) -> Source:
        """From the file, as fits there."""
        return self if device == self._on else self._stored.to(device)

    def _gather(self, rows: Tensor) -> Tensor:
        """uint8 [B, ...] on the processor, pinned where that makes the copy to the device asynchronous.

        Read, not mapped: pages of a map count as this process's memory, and 16 GB of them would fill it.
        """
        batch = torch.empty(
            (len(rows), self._bytes), dtype=torch.uint8, pin_memory=self._on.type == "cuda"
        )
        descriptor, into = self._file.fileno(), batch.numpy()
        for place, row in enumerate(rows.tolist()):
            if os.preadv(descriptor, [into[place]], self._offset + row * self._bytes) != self._bytes:  # fmt: skip
                raise OSError(f"{self._stored.file} was cut short while it was read")
        return batch.reshape(len(rows), *self.codec.shape)


def _free(device: torch.device) -> int:
    """Bytes of its memory that nobody uses."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def stored_array(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The file's array, mapped (copy on write, which never happens); None if it is not there or not whole."""
    try:
        array = np.load(file, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _key(rows: Tensor) -> bytes:
    return rows.numpy().tobytes()

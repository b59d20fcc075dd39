"""Was that too little memory, and how much has a device? GPU and processor alike."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainer.errors import TooLittleMemory
from trainer.lazily import torch
from trainer.machine import own_memory

if TYPE_CHECKING:
    from torch import device as Device

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt."""
_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "status_alloc_failed",  # cuBLAS and cuDNN
)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory, of a GPU or of the machine, could not be had."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _WORDS)


@contextmanager
def told(why: Callable[[], str]) -> Iterator[None]:
    """Where memory runs out inside, raise TooLittleMemory that says where, and what to do."""
    try:
        yield
    except TooLittleMemory:
        raise
    except Exception as error:
        if not ran_out(error):
            raise
        raise TooLittleMemory(f"out of memory {why()}") from error


def capacity(on: Device) -> int:
    """Bytes that a device has: of the processor, those that this process may use."""
    if on.type == "cuda":
        total: int = torch.cuda.get_device_properties(on).total_memory
        return total
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return own_memory() if limit == resource.RLIM_INFINITY else min(limit, own_memory())


def device_text(on: Device) -> str:
    """`NVIDIA H100 (79.2 GiB, 0.3 GiB free)`."""
    if on.type != "cuda":
        return f"the processor ({gib(capacity(on))})"
    free, total = torch.cuda.mem_get_info(on)
    return f"{torch.cuda.get_device_name(on)} ({gib(total)}, {gib(free)} free)"


def release(on: Device) -> None:
    """Give back what freed tensors still hold, so that other sizes fit."""
    if on.type == "cuda":
        torch.cuda.empty_cache()
    elif (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def keep_freed(on: Device) -> None:
    """What this process frees stays its own, on a processor with glibc; `release` gives it back.

    Every step takes and frees the same sizes. Given back each time, pages would be asked for and cleared again, which
    takes a tenth of a small network's step.
    """
    if on.type == "cpu" and (libc := _glibc()) is not None:
        libc.mallopt(_MMAP_THRESHOLD, 2**30) or libc.mallopt(_MMAP_THRESHOLD, 2**25)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def gib(size: float) -> str:
    """`1.2 GiB`, small ones in MiB or KiB."""
    for unit, bound in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= 0.1 * bound:
            return f"{size / bound:.1f} {unit}"
    return f"{size / 1024:.1f} KiB"

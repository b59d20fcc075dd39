"""Was that too little memory, and how much has a device? GPU and processor alike."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainer.errors import TooLittleMemory
from trainer.lazily import torch
from trainer.machine import own_memory

if TYPE_CHECKING:
    from torch import device as Device

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


def gib(size: float) -> str:
    """`1.2 GiB`, small ones in MiB or KiB."""
    for unit, bound in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= 0.1 * bound:
            return f"{size / bound:.1f} {unit}"
    return f"{size / 1024:.1f} KiB"

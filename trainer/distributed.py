"""Which share of the work is mine? Rank, size and reductions, with or without torch.distributed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.errors import EnvironmentProblem, UserError
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among the workers of one trial."""

    rank: int
    size: int

    @classmethod
    def current(cls) -> World:
        """From the process group if one is initialized, else a world of one."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return cls(0, 1)

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """My contiguous part of `count` items; sizes differ by at most one."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum_(self, *tensors: Tensor) -> None:
        """Add up over workers, in place."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all workers in order of rank."""
        if self.size == 1:
            return rows
        counts = torch.zeros(self.size, dtype=torch.long, device=rows.device)
        counts[self.rank] = len(rows)
        self.sum_(counts)
        padded = rows.new_zeros(int(counts.max()), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, counts.tolist(), strict=True)])

    def barrier(self) -> None:
        """Wait for all workers."""
        if self.size > 1:
            torch.distributed.barrier()


def best_device(name: str = "auto") -> torch.device:
    """`auto`: the current CUDA device if there is one, else the processor; UserError for no name of a device."""
    if name != "auto":
        try:
            device = torch.device(name)
        except RuntimeError:
            device = torch.device("meta")
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise UserError(f"device {name}: is none: use auto, cpu, cuda or cuda:1")
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise EnvironmentProblem(
                f"device {name}: this machine has no CUDA device; use cpu or auto"
            )
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise EnvironmentProblem(
                f"device {name}: this machine has {torch.cuda.device_count()} CUDA devices, numbered from 0"
            )
        return device
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def own_device(asked: str) -> str:
    """Under torchrun each worker has the GPU of its number; otherwise what is asked for."""
    local = os.environ.get("LOCAL_RANK")
    if local is None or asked not in ("auto", "cuda") or not torch.cuda.is_available():
        return asked
    if int(local) >= (count := torch.cuda.device_count()):
        raise EnvironmentProblem(
            f"worker {local} has no GPU of its own, there are {count}: start --nproc-per-node {count}, or let the "
            "workers share the processor by --device cpu"
        )
    torch.cuda.set_device(int(local))
    return f"cuda:{local}"

"""How do the workers of a test meet? In a file beside what they train."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist


@contextmanager
def met(directory: Path, rank: int, size: int) -> Iterator[None]:
    """One of `size` gloo workers on one thread, as long as the context lasts."""
    torch.set_num_threads(1)
    meeting = f"file://{directory.parent}/meet-{size}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    yield
    dist.destroy_process_group()

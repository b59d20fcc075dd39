"""How does a training leave its machine in time? It is told, keeps a checkpoint after the step it is in, and ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainer.lazily import torch

if TYPE_CHECKING:
    from trainer.distributed import World

Told = Callable[[], bool]
"""Whether this process is to leave; asked after every step."""
_EVERY_S = 1.0
"""How often several workers ask each other."""


class Left(Exception):  # noqa: N818
    """A training left as it was told to; called again, anywhere, it goes on from here."""

    def __init__(self, images: int) -> None:
        super().__init__(f"it left after {images / 1000:g} kimg, with a checkpoint")
        self.images = images

    def __reduce__(self) -> tuple[type[Left], tuple[int]]:
        return Left, (self.images,)


class Leaving:
    """Whether any worker of a trial was told to leave: all of them learn it after the same step."""

    def __init__(self, world: World, told: Told) -> None:
        """All workers make one together."""
        self._world, self._told = world, told
        self._steps = self._wait = 1
        self._met = time.monotonic()
        is_alone = world.size == 1
        self._group: Any = None if is_alone else torch.distributed.new_group(backend="gloo")

    def now(self) -> bool:
        """After a step; several workers meet about once a second, whatever a step takes."""
        if self._group is None:
            return self._told()
        self._wait -= 1
        if self._wait:
            return False
        now = time.monotonic()
        shared = torch.tensor([float(self._told()), (now - self._met) / self._steps])
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, group=self._group)
        told, step_s = shared.tolist()
        self._steps = self._wait = max(1, int(_EVERY_S / max(step_s, 1e-6)))
        self._met = time.monotonic()
        return told > 0.0

"""Which random number belongs to (seed, purpose, global example index)?

A counter-based generator (SplitMix64; Steele, Lea & Flood 2014) written in integer tensor arithmetic: every
number is a pure function of its address, so rank, world size, call order and resuming cannot change it,
and trials that share a seed share their draws. Integer results are the same on every device; the normal
transform is elementwise, equal to the last bits of the device's log, sin and cos.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def derive(seed: int, purpose: str) -> int:
    """A signed 64-bit key for this seed and purpose."""
    digest = hashlib.sha256(f"diffsweep/{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


class Stream:
    """Random numbers of one purpose, addressed by example index."""

    def __init__(self, seed: int, purpose: str) -> None:
        self.key = derive(seed, purpose)

    def bits(self, counter: Tensor) -> Tensor:
        """64 random bits (as int64) for each int64 counter, any shape."""
        z = self.key + (counter + 1) * _GAMMA
        z = (z ^ _shift(z, 30)) * _MIX_1
        z = (z ^ _shift(z, 27)) * _MIX_2
        return z ^ _shift(z, 31)

    def uniform(self, index: Tensor) -> Tensor:
        """One float64 in the open interval (0, 1) per index, on the index's device."""
        return (_shift(self.bits(index), 11).to(torch.float64) + 0.5) * 2.0**-53

    def normal(self, index: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32 [len(index), *shape], by Box and Muller's transform."""
        count = math.prod(shape)
        pairs = (count + 1) // 2
        counter = index[:, None] * pairs + torch.arange(pairs, device=index.device)
        bits = self.bits(counter)
        radius = torch.sqrt(-2.0 * torch.log((_shift(bits, 32).to(torch.float32) + 0.5) * 2.0**-32))
        turn = (bits & 0xFFFFFFFF).to(torch.float32) * (2.0 * math.pi * 2.0**-32)
        values = torch.cat([radius * torch.cos(turn), radius * torch.sin(turn)], 1)
        return values[:, :count].reshape(len(index), *shape)

    def coin(self, index: Tensor) -> Tensor:
        """One fair boolean per index."""
        return self.bits(index) < 0


def _shift(z: Tensor, places: int) -> Tensor:
    """Logical (unsigned) right shift of int64."""
    return (z >> places) & ((1 << (64 - places)) - 1)

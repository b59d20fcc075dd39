"""Which random number belongs to (seed, purpose, global example index)?

A counter-based generator (SplitMix64; Steele, Lea & Flood 2014) written in integer tensor arithmetic: every
number is a pure function of its address, so rank, world size, call order and resuming cannot change it,
and trials that share a seed share their draws. Integer results are the same on every device; the normal
transform is elementwise, equal to the last bits of the device's log, sin and cos.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_BLOCK = 1 << 17
"""Pairs of normals made at once on a processor: what stays in its cache."""


GENERATOR = threading.RLock()
"""Held while torch's own generator is seeded and asked: it is one for all threads of a process."""


def derive(seed: int, purpose: str) -> int:
    """A signed 64-bit key for this seed and purpose."""
    digest = hashlib.sha256(f"diffsweep/{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


@contextlib.contextmanager
def seeded(key: int) -> Iterator[None]:
    """Torch's own generator begins at `key`, and nobody else asks it."""
    with GENERATOR:
        torch.manual_seed(key)
        yield


class Stream:
    """Random numbers of one purpose, addressed by example index."""

    def __init__(self, seed: int, purpose: str) -> None:
        self.key = derive(seed, purpose)

    def bits(self, counter: Tensor) -> Tensor:
        """64 random bits (as int64) for each int64 counter, any shape."""
        return _mixed((counter * _GAMMA).add_(_wrapped(self.key + _GAMMA)))

    def uniform(self, index: Tensor) -> Tensor:
        """One float64 in the open interval (0, 1) per index, on the index's device."""
        return (_shift(self.bits(index), 11).to(torch.float64) + 0.5) * 2.0**-53

    def normal(self, index: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32 [len(index), *shape], by Box and Muller's transform."""
        count = math.prod(shape)
        pairs = (count + 1) // 2
        # the counters are index * pairs + 0, 1, ..., pairs - 1
        begins = (index * _wrapped(pairs * _GAMMA)).add_(_wrapped(self.key + _GAMMA))[:, None]
        steps = torch.arange(pairs, device=index.device).mul_(_GAMMA)
        at_once = _BLOCK // pairs + 1 if index.device.type == "cpu" else len(index)
        if len(index) <= at_once:
            values = _box_muller(_mixed(begins + steps))
        else:
            values = torch.empty(len(index), 2 * pairs)
            blocks = (torch.split(begins, at_once), torch.split(values, at_once))
            for begin, rows in zip(*blocks, strict=True):
                _box_muller(_mixed(begin + steps), out=rows)
        return values[:, :count].reshape(len(index), *shape)

    def coin(self, index: Tensor) -> Tensor:
        """One fair boolean per index."""
        return self.bits(index) < 0


def _wrapped(number: int) -> int:
    """What is left of it in signed 64 bits."""
    return (number + 2**63) % 2**64 - 2**63


def _mixed(z: Tensor) -> Tensor:
    """SplitMix64's output for states z int64, in place."""
    spare = torch.empty_like(z)
    z.bitwise_xor_(_shift(z, 30, spare)).mul_(_MIX_1)
    z.bitwise_xor_(_shift(z, 27, spare)).mul_(_MIX_2)
    return z.bitwise_xor_(_shift(z, 31, spare))


def _box_muller(bits: Tensor, out: Tensor | None = None) -> Tensor:
    """Normals float32 [B, 2 P] from bits [B, P], which it spends: radii by upper halves, turns by lower ones."""
    radius = _shift(bits, 32).to(torch.float32).add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    turn = bits.bitwise_and_(0xFFFFFFFF).to(torch.float32).mul_(2.0 * math.pi * 2.0**-32)
    cosine = torch.cos(turn).mul_(radius)
    return torch.cat([cosine, turn.sin_().mul_(radius)], 1, out=out)


def _shift(z: Tensor, places: int, out: Tensor | None = None) -> Tensor:
    """Logical (unsigned) right shift of int64."""
    shifted = torch.bitwise_right_shift(z, places, out=out)
    return shifted.bitwise_and_((1 << (64 - places)) - 1)

"""Which tensors of a spec never change? Its tables: made once, in float64, and kept on the device that asks."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

Made = TypeVar("Made", "Tensor", "tuple[Tensor, ...]")
_KEPT = 64
"""Of each function: specs, times devices and dtypes."""


def constant(make: Callable[..., Made]) -> Callable[..., Made]:
    """A function of frozen values that makes tensors, as one that takes `like` too, whose dtype and device they get.

    They are kept: nobody may write into them.
    """

    @lru_cache(maxsize=_KEPT)
    def kept(dtype: Any, device: Any, *of: Hashable) -> Made:
        with torch.inference_mode(False), torch.no_grad():
            return _moved(make(*of), dtype, device)

    def ask(*of: Hashable, like: Tensor) -> Made:
        if torch.compiler.is_compiling():  # what a compiler traces with is not kept
            return _moved(make(*of), like.dtype, like.device)
        return kept(like.dtype, like.device, *of)

    return ask


def _moved(made: Made, dtype: Any, device: Any) -> Made:
    if isinstance(made, tuple):
        return tuple(each.to(device=device, dtype=dtype) for each in made)
    return made.to(device=device, dtype=dtype)

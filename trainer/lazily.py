"""When is torch imported? At once, but in a command that may answer without it: there, at its first use.

Specs are formulas of torch, yet most of what is asked of them is data. Their modules say `from trainer.lazily import
torch`, and torch's types only in annotations. Whoever trains or is a library has the real module from the start.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch

_deferred = False


def defer() -> None:
    """Called by a command before it imports anything of the trainer. It has no effect where torch is loaded."""
    global _deferred
    _deferred = True


class _Later:
    """Stands for torch until something of it is used; then every module that has this has torch instead."""

    def __getattr__(self, name: str) -> Any:
        import torch

        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get("torch") is self:
                module.__dict__["torch"] = torch
        return getattr(torch, name)


_LATER = _Later()


def __getattr__(name: str) -> Any:
    if name != "torch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _deferred and "torch" not in sys.modules:
        return _LATER
    import torch

    return torch

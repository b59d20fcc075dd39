"""How does Adam move many small tensors without the host's making lists of them? torch's kernel, lists made once.

torch's own `step` collects parameters, moments and counters in Python at every call, which takes longer than the
arithmetic of a small network. On a GPU a graph takes the step, and torch's is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Lists(NamedTuple):
    """Of one group."""

    parameters: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    counters: list[Tensor]
    counted: Tensor
    """All counters, which lie in it."""


class Adam(torch.optim.Adam):
    """torch's, fused; equal to the last bit."""

    _kernel = staticmethod(torch._fused_adam_)
    _lists: list[_Lists] | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; torch takes the first, any without some gradient or in fp16, and all off the processor."""
        if self._lists is None:
            self._lists = self._listed()
        gradients = [
            [p.grad for p in one.parameters if p.grad is not None] for one in self._lists or ()
        ]
        whole = [len(one.parameters) for one in self._lists or ()] == [len(g) for g in gradients]
        scaled = getattr(self, "found_inf", None) is not None
        if not self._lists or not whole or scaled or closure is not None:
            return _torch_step()(self, closure)
        for group, found, one in zip(self.param_groups, gradients, self._lists, strict=True):
            if not found:
                continue
            one.counted.add_(1.0)
            self._kernel(
                one.parameters, found, one.first, one.second, [], one.counters,
                amsgrad=False, lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
                weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
            )  # fmt: skip
        return None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; the moments are others then."""
        super().load_state_dict(state_dict)
        self._lists = None

    def _listed(self) -> list[_Lists] | None:
        """The lists of every group; None: there is no state yet, or something is not on the processor in float32."""
        found = []
        for group in self.param_groups:
            parameters = list(group["params"])
            if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in parameters):
                return None
            states = [self.state[p] for p in parameters if p in self.state]
            if len(states) < len(parameters):
                return None
            first, second = ([one[name] for one in states] for name in ("exp_avg", "exp_avg_sq"))
            counted = torch.tensor([float(one["step"]) for one in states])
            counters = list(counted.unbind(0))
            for one, counter in zip(states, counters, strict=True):
                one["step"] = counter
            found.append(_Lists(parameters, first, second, counters, counted))
        return found


def _torch_step() -> Callable[..., Any]:
    """torch's own, without the hooks that a step has already called."""
    step: Any = torch.optim.Adam.step
    return step.__wrapped__ if getattr(step, "hooked", False) else step


class AdamW(Adam, torch.optim.AdamW):
    """The same with decoupled decay."""

    _kernel = staticmethod(torch._fused_adamw_)

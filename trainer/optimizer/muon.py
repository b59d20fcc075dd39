"""Muon for the hidden matrices and AdamW for the rest, as the one optimizer that a training knows."""

from typing import Any

import torch
from torch import Tensor


class MuonAndAdamW(torch.optim.Optimizer):
    """One optimizer to the outside, whose first group is moved by `torch.optim.Muon`, the others by AdamW.

    torch's Muon takes matrices only: it is given views of the kernels that share their memory.
    """

    def __init__(self, hidden: dict[str, Any], rest: list[dict[str, Any]]) -> None:
        super().__init__([dict(hidden), *(dict(group) for group in rest)], {})
        self._views = [p.detach().view(len(p), -1) for p in hidden["params"]]
        inner = {key: value for key, value in hidden.items() if key != "params"}
        self._muon = torch.optim.Muon(self._views, **inner, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(rest, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Both, at the rates that the groups have now."""
        first, *others = self.param_groups
        self._muon.param_groups[0]["lr"] = first["lr"]
        for outer, inner in zip(others, self._adamw.param_groups, strict=True):
            inner["lr"] = outer["lr"]
        for view, parameter in zip(self._views, first["params"], strict=True):
            view.data = parameter.detach().view(len(parameter), -1)  # which may have moved
            view.grad = None if parameter.grad is None else _flat(parameter.grad)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()
        for view in self._views:
            view.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Of both."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])


def _flat(gradient: Tensor) -> Tensor:
    return gradient.reshape(len(gradient), -1)

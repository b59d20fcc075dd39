"""In which precision is a step computed, and how do small gradients survive it? Autocast, and fp16's loss scaler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import UserError
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


Precision = Literal["fp32", "bf16", "fp16"]
AskedPrecision = Literal["fp32", "bf16", "fp16", "auto"]
"""`auto`: chosen before anything is trained (`trainer/calibrating.py`)."""


class Scaled:
    """Mixed precision of one training; without effect for fp32, and without scaling for bf16.

    In fp16 the loss is multiplied before backward, so that small gradients do not vanish, and the gradients are
    divided again before anybody looks at them: clipping and noise scale see true ones. Where one is not finite the
    step is skipped and the factor halved; after 2000 good steps it doubles (Micikevicius et al. 2018). The host never
    waits for the device, where the optimizer is fused.
    """

    def __init__(self, precision: AskedPrecision, device: torch.device) -> None:
        if precision == "auto":
            raise UserError(
                "train.precision: auto is chosen before a training begins: name it here"
            )
        self._device, self._type = (
            device,
            {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision),
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._one = torch.ones((), device=device)
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)

    def autocast(self) -> torch.autocast:
        """Around forward passes."""
        return torch.autocast(self._device.type, self._type, enabled=self._type is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of loss [], multiplied."""
        torch.autograd.backward(self._scaler.scale(loss))

    def factor(self) -> Tensor:
        """What gradients are multiplied by until `unscale` [], on the device."""
        return self._scaler.scale(self._one)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients of all its groups."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the weights, unless a gradient is not finite, and adapt the factor."""
        before = self.factor()
        self._scaler.step(optimizer)
        self._scaler.update()
        self._skipped += self.factor() < before

    def metrics(self) -> dict[str, float]:
        """`train/loss_scale`, and `train/skipped_steps` since the start; nothing where nothing is scaled."""
        if not self._scaler.is_enabled():
            return {}
        return {
            "train/loss_scale": float(self._scaler.get_scale()),
            "train/skipped_steps": float(self._skipped),
        }

    def state(self) -> dict[str, Any]:
        """What continues exactly."""
        return {"scaler": self._scaler.state_dict(), "skipped": int(self._skipped)}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self._scaler.load_state_dict(state["scaler"])
        self._skipped.fill_(state["skipped"])

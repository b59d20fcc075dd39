"""Which optimizers scale each weight's step by its gradient's history? AdamW, Adam, and AdamW in eight bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trainer.bounds import Beta, Epsilon
from trainer.errors import EnvironmentProblem
from trainer.lazily import torch
from trainer.optimizer.base import Optimizer

if TYPE_CHECKING:
    from torch import nn


class _Adaptive(Optimizer):
    """Steps of the first moment over the root of the second."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the gradient's first and second moment."""
    eps: Epsilon = 1e-8
    """Added to the root of the second moment."""

    def settings(self, network: nn.Module) -> dict[str, Any]:
        """As torch's members of this family take them."""
        return {
            "lr": self.rate(network),
            "betas": self.betas,
            "eps": self.eps,
            "weight_decay": self.weight_decay,
        }

    def _fused(self, network: nn.Module) -> dict[str, Any]:
        """The settings, with one kernel for many tensors, which a graph may record on a GPU."""
        on_gpu = next(network.parameters()).is_cuda
        return self.settings(network) | {"fused": True, "capturable": on_gpu}


class AdamW(_Adaptive):
    """AdamW (Loshchilov & Hutter 2019), fused where torch has it."""

    assumed: ClassVar[bool] = True
    records: ClassVar[bool] = True
    kind: Literal["adamw"] = "adamw"

    def build(self, network: nn.Module, undecayed: nn.Module | None = None) -> torch.optim.AdamW:
        """torch's, fused."""
        from trainer.optimizer.listed import AdamW as Implementation

        return Implementation(self.groups(network, undecayed), **self._fused(network))


class Adam(_Adaptive):
    """Adam (Kingma & Ba 2015); its weight decay is a part of the gradient and so passes through the moments (L2)."""

    records: ClassVar[bool] = True
    decouples: ClassVar[bool] = False
    kind: Literal["adam"] = "adam"

    def build(self, network: nn.Module, undecayed: nn.Module | None = None) -> torch.optim.Adam:
        """torch's, fused."""
        from trainer.optimizer.listed import Adam as Implementation

        return Implementation(self.groups(network, undecayed), **self._fused(network))


class AdamW8bit(_Adaptive):
    """AdamW whose two moments are kept in eight bits (Dettmers et al. 2022): 2 bytes a weight instead of 8.

    Needs `bitsandbytes`. Tensors of less than 4096 entries keep moments of 32 bits, as the library has it.
    """

    kind: Literal["adamw8bit"] = "adamw8bit"

    def kept(self) -> float:
        """Two numbers of eight bits."""
        return 0.5

    def build(
        self, network: nn.Module, undecayed: nn.Module | None = None
    ) -> torch.optim.Optimizer:
        """bitsandbytes'; EnvironmentProblem where it is not installed, or does not know this device."""
        try:
            from bitsandbytes.optim import AdamW8bit as Implementation
        except (ImportError, RuntimeError, OSError) as error:
            raise EnvironmentProblem(
                "optimizer.kind: adamw8bit needs bitsandbytes, which is not usable here "
                f"({type(error).__name__}): pip install 'diffsweep[adamw8bit]', or use kind: adamw"
            ) from None
        settings = self.settings(network) | {"lr": self.lr}
        return Implementation(self.groups(network, undecayed), **settings)

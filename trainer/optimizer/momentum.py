"""Which optimizers only keep a momentum? Stochastic gradient descent, and Muon for the hidden matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from trainer.bounds import Beta, Rate
from trainer.errors import UserError
from trainer.lazily import torch
from trainer.optimizer.base import Optimizer, matrices

if TYPE_CHECKING:
    from torch import nn


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum v + g, then a step along v (torch's form, without dampening)."""

    kind: Literal["sgd"] = "sgd"
    lr: Rate = 0.1
    """Learning rate that the schedule multiplies; some hundred times that of the adaptive members."""
    momentum: Beta = 0.9
    """How much of the last steps' direction is kept; 0: none."""
    nesterov: bool = False
    """Step along g + momentum v instead (Nesterov)."""

    @model_validator(mode="after")
    def _nesterov_moves(self) -> SGD:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov: true needs momentum above 0: set momentum, or leave it out")
        return self

    def kept(self) -> float:
        """The direction, if there is momentum."""
        return 1.0 if self.momentum else 0.0

    def build(self, network: nn.Module, undecayed: nn.Module | None = None) -> torch.optim.SGD:
        """torch's, fused."""
        return torch.optim.SGD(
            self.groups(network, undecayed),
            lr=self.rate(network),
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )


class Muon(Optimizer):
    """Muon (Jordan et al. 2024): the momentum of a hidden matrix, made orthogonal, is its step; AdamW for the rest.

    Hidden matrices are the weights of linear and convolutional layers inside the network, a kernel as the matrix
    [out, in x height x width]. Its first and last layer, embeddings, norms, biases and what else learns (a schedule)
    are moved by AdamW. A matrix's step has the size 0.2 sqrt(max(rows, columns)) lr (Liu et al. 2025, eq. 4), the root
    mean square of an AdamW step, so that a rate and a decay found for AdamW serve both.
    """

    kind: Literal["muon"] = "muon"
    momentum: Beta = 0.95
    """How much of a hidden matrix's last gradients is kept."""
    nesterov: bool = True
    """The orthogonal step is that of the momentum with the present gradient looked ahead."""
    iterations: Annotated[int, Field(ge=1, le=20)] = 5
    """Newton-Schulz iterations that make a step orthogonal."""
    lr_rest: Rate | None = None
    """Learning rate of AdamW on the rest; null: the same."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's, on the rest."""
    eps: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-8
    """AdamW's, on the rest."""

    def kept(self) -> float:
        """One of a hidden matrix, where nearly all weights are."""
        return 1.0

    def rates(self, groups: int) -> list[float]:
        """The first group holds the hidden matrices."""
        return [self.lr, *[self.lr_rest or self.lr] * (groups - 1)]

    def build(
        self, network: nn.Module, undecayed: nn.Module | None = None
    ) -> torch.optim.Optimizer:
        """torch's two, as one; UserError where a network has no hidden matrix."""
        apart = set() if undecayed is None else set(undecayed.parameters())
        inside = [p for p in matrices(network, hidden=True) if p not in apart]
        if not inside:
            raise UserError(
                "optimizer.kind: muon moves hidden matrices, this network has none: use adamw"
            )
        hidden = {
            "params": inside,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "ns_steps": self.iterations,
        }
        rest = self.groups(network, undecayed, apart=inside)
        settings = {
            "lr": self.lr_rest or self.lr,
            "betas": self.betas,
            "eps": self.eps,
            "weight_decay": self.weight_decay,
        }
        from trainer.optimizer.muon import MuonAndAdamW

        return MuonAndAdamW(hidden, [settings | group for group in rest if group["params"]])

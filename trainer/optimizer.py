"""How are the weights moved? AdamW and the learning-rate schedules, all in images seen."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn

from trainer.spec import Spec


class LearningRate(Spec):
    """Factor on the learning rate after `images` of `total`, with a linear warm-up."""

    warmup_kimg: NonNegativeFloat = 0.0
    """Thousands of images over which the factor rises linearly from 0."""

    def factor(self, images: float, total: float) -> float:
        """Warm-up times decay; `images` counts those seen when the update is made."""
        warm = min(1.0, images / (1000.0 * self.warmup_kimg)) if self.warmup_kimg else 1.0
        return warm * self.decay(min(1.0, images / total))

    def decay(self, progress: float) -> float:
        """Factor at progress in [0, 1] of the budget, before warm-up."""
        raise NotImplementedError


class ConstantRate(LearningRate):
    """The same rate to the end."""

    kind: Literal["constant"] = "constant"

    def decay(self, progress: float) -> float:
        """One."""
        return 1.0


class CosineRate(LearningRate):
    """Half a cosine from 1 down to `final` (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Factor at the end of the budget."""

    def decay(self, progress: float) -> float:
        """final + (1 - final)(1 + cos(pi progress))/2."""
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))


class LinearRate(LearningRate):
    """A straight line from 1 down to `final` (improved-diffusion's annealing)."""

    kind: Literal["linear"] = "linear"
    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Factor at the end of the budget."""

    def decay(self, progress: float) -> float:
        """1 - (1 - final) progress."""
        return 1.0 - (1.0 - self.final) * progress


AnyLearningRate = Annotated[ConstantRate | CosineRate | LinearRate, Field(discriminator="kind")]
"""The members of the family."""

_Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class AdamW(Spec):
    """AdamW (Loshchilov & Hutter 2019), fused where torch has it."""

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat = 2e-4
    """Learning rate that the schedule multiplies."""
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    """Decay of the gradient's first and second moment."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""
    grad_clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient; null: no clipping."""
    lr_schedule: AnyLearningRate = ConstantRate()
    """How the learning rate changes over the budget."""

    def build(self, network: nn.Module) -> torch.optim.AdamW:
        """The optimizer over the network's parameters."""
        return torch.optim.AdamW(
            network.parameters(),
            lr=torch.tensor(self.lr) if next(network.parameters()).is_cuda else self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )

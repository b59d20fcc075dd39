"""Which average of the weights is evaluated? Exponential moving averages with a published warm-up."""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor, nn

from trainer.spec import Spec


class Ramp(Spec):
    """decay_n = min(decay, (1 + n)/(10 + n)) at the n-th update (TensorFlow's rule; v-diffusion)."""

    kind: Literal["ramp"] = "ramp"
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9999
    """Decay that the ramp ends at."""

    def at(self, update: int) -> float:
        """Decay of update 1, 2, ..."""
        return min(self.decay, (1.0 + update) / (10.0 + update))


class Constant(Spec):
    """The same decay from the first update on (improved-diffusion): remembers the random start for long."""

    kind: Literal["constant"] = "constant"
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9999
    """Decay per update; 0 evaluates the raw weights."""

    def at(self, update: int) -> float:
        """Decay of any update."""
        return self.decay


class InversePower(Spec):
    """decay_n = 1 - (1 + (n - 1 - start)/inv_gamma)^-power, from `least` to `decay` (k-diffusion's EMAWarmup)."""

    kind: Literal["inverse_power"] = "inverse_power"
    power: PositiveFloat = 2.0 / 3.0
    """2/3 for long trainings, 3/4 for short ones."""
    inv_gamma: PositiveFloat = 1.0
    """Updates after which the warm-up sets in."""
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9999
    """Largest decay."""
    least: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Smallest decay; 0 lets the first update copy the weights."""
    start: NonNegativeInt = 0
    """Further updates with the smallest decay before the warm-up begins."""

    @model_validator(mode="after")
    def _ordered(self) -> "InversePower":
        if self.least > self.decay:
            raise ValueError("least must not exceed decay: lower it, or raise decay")
        return self

    def at(self, update: int) -> float:
        """Decay of update 1, 2, ..."""
        age = max(0, update - 1 - self.start)
        value = 1.0 - (1.0 + age / self.inv_gamma) ** -self.power
        return min(self.decay, max(self.least, value))


AnyEMA = Annotated[Ramp | Constant | InversePower, Field(discriminator="kind")]
"""The members of the family."""


class Average:
    """The averaged copy of a network's parameters; buffers are copied."""

    def __init__(
        self, spec: Ramp | Constant | InversePower, network: nn.Module, copy: nn.Module
    ) -> None:
        self.spec = spec
        self.updates = 0
        self.network = copy.requires_grad_(False).eval()
        self._source = list(network.parameters())
        self._average: list[Tensor] = list(copy.parameters())
        self._buffers = list(zip(copy.buffers(), network.buffers(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network by one update."""
        self.updates += 1
        source: list[Tensor] = [p.detach() for p in self._source]
        torch._foreach_lerp_(self._average, source, 1.0 - self.spec.at(self.updates))
        for mine, theirs in self._buffers:
            mine.copy_(theirs)

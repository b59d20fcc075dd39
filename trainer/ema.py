"""Which averages of the weights are evaluated? Exponential ones with a published warm-up, and power functions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from trainer.lazily import torch
from trainer.spec import Neutral, Spec

if TYPE_CHECKING:
    from torch import Tensor, nn


class EMA(Spec):
    """A running average: after each update it moves towards the weights by 1 - decay."""

    name: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]{0,39}$")] | None, Neutral(None)
    ] = None
    """What it is called where there are several (`eval/fid-ema-NAME`); null: its kind."""

    def at(self, update: int) -> float:
        """Decay of update 1, 2, ..."""
        raise NotImplementedError

    def called(self) -> str:
        """Its name, or its kind."""
        return self.name or str(getattr(self, "kind", ""))


class Ramp(EMA):
    """decay_n = min(decay, (1 + n)/(10 + n)) at the n-th update (TensorFlow's rule; v-diffusion)."""

    kind: Literal["ramp"] = "ramp"
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9999
    """Decay that the ramp ends at."""

    def at(self, update: int) -> float:
        """Decay of update 1, 2, ..."""
        return min(self.decay, (1.0 + update) / (10.0 + update))


class Constant(EMA):
    """The same decay from the first update on (improved-diffusion): remembers the random start for long."""

    kind: Literal["constant"] = "constant"
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9999
    """Decay per update; 0 evaluates the raw weights."""

    def at(self, update: int) -> float:
        """Decay of any update."""
        return self.decay


class InversePower(EMA):
    """decay_n = 1 - (1 + (n - 1 - start)/inv_gamma)^-power, from `least` to `decay` (k-diffusion's EMAWarmup)."""

    kind: Literal["inverse_power"] = "inverse_power"
    power: Annotated[float, Field(ge=0.001, le=1000.0)] = 2.0 / 3.0
    """2/3 for long trainings, 3/4 for short ones."""
    inv_gamma: Annotated[float, Field(ge=1e-6, le=1e9)] = 1.0
    """Updates after which the warm-up sets in."""
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9999
    """Largest decay."""
    least: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Smallest decay; 0 lets the first update copy the weights."""
    start: Annotated[int, Field(ge=0, le=10**12)] = 0
    """Further updates with the smallest decay before the warm-up begins."""

    @model_validator(mode="after")
    def _ordered(self) -> InversePower:
        if self.least > self.decay:
            raise ValueError("least must not exceed decay: lower it, or raise decay")
        return self

    def at(self, update: int) -> float:
        """Decay of update 1, 2, ..."""
        age = max(0, update - 1 - self.start)
        value = 1.0 - (1.0 + age / self.inv_gamma) ** -self.power
        return min(self.decay, max(self.least, value))


class Power(EMA):
    """decay_n = (1 - 1/n)^(gamma + 1), so that update k weighs as k^gamma (EDM2, Karras et al. 2024, section 3.1).

    It remembers a fixed share of the training instead of a fixed number of updates, and forgets the random start.
    """

    kind: Literal["power"] = "power"
    sigma_rel: Annotated[float, Field(ge=0.005, le=0.25)] = 0.05
    """Standard deviation of its profile over the training so far, relative to that (EDM2, section 3.1)."""
    snapshots: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many copies are kept in the trial's record, evenly spaced over the budget, the last at its end. From those
    of two widths, such as 0.05 and 0.1, averages of any width are made afterwards (`python -m trainer.averages`)."""

    def at(self, update: int) -> float:
        """0 at the first update, which copies the weights."""
        return float((1.0 - 1.0 / update) ** (exponent(self.sigma_rel) + 1.0))

    def marks(self, steps: int) -> set[int]:
        """The updates after which a copy is kept."""
        count = min(self.snapshots, steps)
        return {round(steps * (i + 1) / count) for i in range(count)}


@cache
def exponent(sigma_rel: float) -> float:
    """gamma of the profile t^gamma of this standard deviation: sigma_rel^2 (gamma + 2)^2 (gamma + 3) = gamma + 1."""
    square = sigma_rel**-2
    roots = np.roots([1.0, 7.0, 16.0 - square, 12.0 - square])
    return float(roots.real.max())


AnyEMA = Annotated[Ramp | Constant | InversePower | Power, Field(discriminator="kind")]
"""The members of the family."""


def _form(given: Any) -> str:
    return "several" if isinstance(given, list | tuple) else "one"


Averages = Annotated[
    Annotated[AnyEMA, Tag("one")]
    | Annotated[tuple[AnyEMA, ...], Field(min_length=1), Tag("several")],
    Discriminator(_form),
]
"""One average, or a list of them."""


class Average:
    """The averaged copy of a network's parameters; buffers are copied."""

    def __init__(self, spec: EMA, network: nn.Module, copy: nn.Module) -> None:
        self.spec = spec
        self.updates = 0
        self.network = copy.requires_grad_(False).eval()
        self._source: list[Tensor] = list(network.parameters())
        self._average: list[Tensor] = list(copy.parameters())
        self._buffers = list(zip(copy.buffers(), network.buffers(), strict=True))

    def update(self) -> None:
        """Move the average towards the network by one update."""
        with torch.no_grad():
            self.updates += 1
            torch._foreach_lerp_(self._average, self._source, 1.0 - self.spec.at(self.updates))
            for mine, theirs in self._buffers:
                mine.copy_(theirs)

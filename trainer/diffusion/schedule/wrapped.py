"""Which schedules change another one: move and stretch it, or keep a part of its table?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from trainer.bounds import MANY, Scale
from trainer.diffusion.log_snr import alpha, sigma
from trainer.diffusion.numeric import derivative
from trainer.diffusion.schedule.base import LOG_SNR_LIMIT, Schedule
from trainer.diffusion.schedule.beta import BetaSchedules, LinearBeta
from trainer.diffusion.schedule.cosine import CircleSchedules, Cosine
from trainer.diffusion.schedule.level import LevelSchedules
from trainer.diffusion.schedule.respacing import kept
from trainer.diffusion.schedule.sde import SDESchedules
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


Curve = BetaSchedules | CircleSchedules | LevelSchedules | SDESchedules
"""What may be changed: every schedule that stands for itself, listed at the bottom of its file."""


class Modified(Schedule):
    """Another schedule after up to three changes, in this order: resolution shift, input scale, zero terminal SNR.

    Both scales add 2 log(input_scale/resolution_shift) to log-SNR (Hoogeboom et al. 2023; Esser et al. 2024,
    eq. 23; Chen 2023, section 2, whose unit-variance normalization the variance-preserving gauge does anyway).
    Zero terminal SNR: a' = a(0) (a - a(1))/(a(0) - a(1)) on a = alpha (Lin et al. 2024, algorithm 1).
    """

    kind: Literal["modified"] = "modified"
    of: Annotated[Curve, Field(discriminator="kind")] = LinearBeta()
    """The schedule that is modified; the number of steps stands beside it, not in it."""
    resolution_shift: Scale = 1.0
    """Side of the images / side the schedule was made for: multiplies edm_sigma."""
    input_scale: Scale = 1.0
    """b: the data are scaled by this before noise is added; less than 1 is noisier."""
    zero_terminal_snr: bool = False
    """Move and stretch alpha so that nothing is left of the data at t = 1."""

    @model_validator(mode="after")
    def _steps_beside(self) -> Modified:
        if self.of.steps is not None:
            raise ValueError(f"give steps: {self.of.steps} beside `of`, not inside it")
        type(self.of).model_validate({**self.of.model_dump(), "steps": self.steps})
        return self

    @property
    def finite_start(self) -> bool:  # type: ignore[override]
        """As of the schedule that is modified."""
        return self.of.finite_start

    def table(self, steps: int) -> Tensor:
        """The modified table."""
        level = self.of.table(steps) + self._shift()
        if self.zero_terminal_snr:
            level = _stretched(level, level[:1], level[-1:])
        return level.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)

    def continuous(self, t: Tensor) -> Tensor:
        """The modified curve."""
        level = self.of.continuous(t) + self._shift()
        return _stretched(level, *self._continuous_ends(t)) if self.zero_terminal_snr else level

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Undoes the stretching, then the shift."""
        return self.of.continuous_time(self._undone(log_snr))

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """By the chain rule over the level before the changes."""
        rate = derivative(self._undone, log_snr)
        return self.of.continuous_slowness(self._undone(log_snr)) * rate

    def _undone(self, log_snr: Tensor) -> Tensor:
        """The level of the schedule that is modified."""
        if self.zero_terminal_snr:
            log_snr = _unstretched(log_snr, *self._continuous_ends(log_snr))
        return log_snr - self._shift()

    def _shift(self) -> float:
        return 2.0 * math.log(self.input_scale / self.resolution_shift)

    def _continuous_ends(self, like: Tensor) -> tuple[Tensor, Tensor]:
        ends = self.of.continuous(torch.tensor([0.0, 1.0], dtype=torch.float64)) + self._shift()
        clean, noisy = ends.to(like)
        return clean, noisy


class Respaced(Schedule):
    """The entries of a discrete schedule that an improved-diffusion rule keeps; as a grid, its solver steps.

    Nichol & Dhariwal 2021, section 4. `steps` follows from the rule.
    """

    kind: Literal["respaced"] = "respaced"
    of: Annotated[Curve | Modified, Field(discriminator="kind")] = Cosine(steps=4000)
    """A schedule with `steps`."""
    rule: str = "250"
    """"N" or "a,b,c" (entries kept of equal sections), "ddimN" (integer stride), or "trailingN" (even stride,
    ending at the last)."""

    @model_validator(mode="before")
    @classmethod
    def _steps_follow(cls, data: Any) -> Any:
        """Fill in `steps`; what is wrong with `of` or `rule` is said by their own checks."""
        if not isinstance(data, dict) or data.get("steps") is not None:
            return data
        of = data.get("of", cls.model_fields["of"].default)
        total = of.get("steps") if isinstance(of, dict) else getattr(of, "steps", None)
        rule = data.get("rule", cls.model_fields["rule"].default)
        if not isinstance(total, int) or total > MANY or not isinstance(rule, str):
            return data
        return {**data, "steps": len(kept(total, rule))}

    @model_validator(mode="after")
    def _rule_fits(self) -> Respaced:
        if self.of.steps is None:
            raise ValueError("`of` must be discrete: give it steps")
        count = len(kept(self.of.steps, self.rule))
        if self.steps != count:
            raise ValueError(
                f"steps: {self.steps} contradicts rule {self.rule!r}, which keeps {count}"
            )
        return self

    def table(self, steps: int) -> Tensor:
        """The entries kept."""
        assert self.of.steps is not None
        assert steps == self.steps
        return self.of.table(self.of.steps)[kept(self.of.steps, self.rule)]

    def continuous(self, t: Tensor) -> Tensor:
        """As of the schedule that is respaced."""
        return self.of.continuous(t)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """As of the schedule that is respaced."""
        return self.of.continuous_time(log_snr)

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """As of the schedule that is respaced."""
        return self.of.continuous_slowness(log_snr)


def _stretched(level: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """log-SNR of a' = a0 (a - a1)/(a0 - a1); 1 - a' is formed without cancellation."""
    span = alpha(clean) - alpha(noisy)
    signal = alpha(clean) * (alpha(level) - alpha(noisy)) / span
    rest = (alpha(clean) * _one_minus_alpha(level) - alpha(noisy) * _one_minus_alpha(clean)) / span
    return 2.0 * torch.log(signal.clamp_min(0.0)) - torch.log(rest * (1.0 + signal))


def _unstretched(level: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Inverse of `_stretched`."""
    span = alpha(clean) - alpha(noisy)
    signal = alpha(level) * span / alpha(clean) + alpha(noisy)
    rest = (_one_minus_alpha(level) * span + alpha(noisy) * _one_minus_alpha(clean)) / alpha(clean)
    return 2.0 * torch.log(signal) - torch.log(rest * (1.0 + signal))


def _one_minus_alpha(level: Tensor) -> Tensor:
    return sigma(level) ** 2 / (1.0 + alpha(level))


WrappedSchedules = Modified | Respaced
"""The members in this file."""

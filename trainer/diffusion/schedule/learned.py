"""Which schedule is found in training? A monotone network from time to log-SNR (Kingma et al. 2021).

The spec is its start; `build` gives the network, `live` the schedule on it. How it learns stands in `learning.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PrivateAttr, model_validator

from trainer.bounds import Level, Size
from trainer.diffusion.schedule.base import SMALLEST_RANGE, Schedule
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.diffusion.schedule.learned_curve import LearnedCurve


class Learned(Schedule):
    """A monotone network log_snr(t), trained with the model (Kingma et al. 2021, section 4 and appendix I).

    It starts as `log_linear`. Its ends minimize the variational bound, its interior the variance of the bound's
    estimate at one uniform time, whatever the network's own objective is; that one takes the schedule as given.
    Generation on `grid: null` follows the current network, not its average. With `steps` it learns at the times of
    the table.
    """

    finite_start: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    kind: Literal["learned"] = "learned"
    log_snr_max: Level = 13.3
    """log-SNR at t = 0, at the start."""
    log_snr_min: Level = -5.0
    """log-SNR at t = 1, at the start."""
    learn_ends: bool = True
    """Move the ends too, at the cost of one more pass of the network per step, without gradient; the bound takes
    data as 8-bit values in [-1, 1]."""
    features: Size = 64
    """Features of the monotone network."""

    @model_validator(mode="after")
    def _falling(self) -> Learned:
        if self.log_snr_max - self.log_snr_min < SMALLEST_RANGE:
            raise ValueError(
                f"log_snr_min must be smaller than log_snr_max by {SMALLEST_RANGE:g} or more"
            )
        return self

    def continuous(self, t: Tensor) -> Tensor:
        """Of its start: a straight line."""
        return self.log_snr_max - t * (self.log_snr_max - self.log_snr_min)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """The same line, solved for t."""
        return (self.log_snr_max - log_snr) / (self.log_snr_max - self.log_snr_min)

    def build(self) -> LearnedCurve:
        """The network, at its start."""
        from trainer.diffusion.schedule.learned_curve import LearnedCurve

        return LearnedCurve(self.log_snr_max, self.log_snr_min, self.features, self.learn_ends)

    def live(self, curve: nn.Module) -> Following:
        """The schedule as this network stands."""
        from trainer.diffusion.schedule.learned_curve import LearnedCurve

        assert isinstance(curve, LearnedCurve)
        schedule = Following(steps=self.steps)
        schedule._curve = curve
        return schedule


class Following(Schedule):
    """A learned schedule as its network stands, without gradient; not a member, made by `live`."""

    finite_start: ClassVar[bool] = True
    _curve: LearnedCurve = PrivateAttr()

    def continuous(self, t: Tensor) -> Tensor:
        """The network's curve, in float64 on the network's device."""
        with torch.no_grad():
            return self._curve(self._exact(t)).to(t)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Solved by bisection."""
        return self._curve.time(self._exact(log_snr)).to(log_snr)

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """1/(-dlog_snr/dt) at its time."""
        with torch.no_grad():
            t = self._curve.time(self._exact(log_snr))
            return (1.0 / (self._curve.fall() * self._curve.slope(t))).to(log_snr)

    def _exact(self, values: Tensor) -> Tensor:
        return values.to(self._curve.clean.device, torch.float64)

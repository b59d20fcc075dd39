"""Which schedule is found in training? A monotone network from time to log-SNR (Kingma et al. 2021).

The spec is its start; `build` gives the network, `live` the schedule on it. How it learns stands in `learning.py`.
"""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt, PrivateAttr, model_validator
from torch import Tensor, nn

from trainer.diffusion.numeric import invert
from trainer.diffusion.schedule.base import Schedule

STEEPNESS = 8.0
"""|w2| at the start: a feature turns within about an eighth of the time axis."""
START = 1e-3
"""|w3| at the start, against |w1| = 1: nearly a straight line, but with a gradient."""
SMALLEST_RANGE = 1.0
"""Least distance of the two ends in log-SNR."""


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
    log_snr_max: float = 13.3
    """log-SNR at t = 0, at the start."""
    log_snr_min: float = -5.0
    """log-SNR at t = 1, at the start."""
    learn_ends: bool = True
    """Move the ends too, at the cost of one more pass of the network per step, without gradient; the bound takes
    data as 8-bit values in [-1, 1]."""
    features: PositiveInt = 64
    """Features of the monotone network."""

    @model_validator(mode="after")
    def _falling(self) -> "Learned":
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

    def build(self) -> "LearnedCurve":
        """The network, at its start."""
        return LearnedCurve(self.log_snr_max, self.log_snr_min, self.features, self.learn_ends)

    def live(self, curve: nn.Module) -> "Following":
        """The schedule as this network stands."""
        assert isinstance(curve, LearnedCurve)
        schedule = Following(steps=self.steps)
        schedule._curve = curve
        return schedule


class MonotoneNetwork(nn.Module):
    """g(t) = b1 + |w1| t + (1/n) sum_i |w3_i| tanh((|w2_i| 2 (t - 1/2) + b2_i)/2), never falling (Diffsched).

    Starts as t, the features turning at evenly spaced times.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.b1 = nn.Parameter(torch.zeros(()))
        self.w1 = nn.Parameter(torch.ones(()))
        self.w2 = nn.Parameter(torch.full((features,), STEEPNESS))
        self.b2 = nn.Parameter(-STEEPNESS * torch.linspace(-1.0, 1.0, features))
        self.w3 = nn.Parameter(torch.full((features,), START))

    def forward(self, t: Tensor) -> Tensor:
        """g at t, any shape, in t's precision."""
        return self.b1 + self.w1.abs() * t + (self.w3.abs() * torch.tanh(self._turns(t))).mean(-1)

    def slope(self, t: Tensor) -> Tensor:
        """dg/dt."""
        steep = self.w2.abs()
        bumps = 1.0 - torch.tanh(self._turns(t)).square()
        return self.w1.abs() + (self.w3.abs() * steep * bumps).mean(-1)

    def bend(self, t: Tensor) -> Tensor:
        """d2g/dt2."""
        value = torch.tanh(self._turns(t))
        return (-2.0 * self.w3.abs() * self.w2.square() * value * (1.0 - value.square())).mean(-1)

    def _turns(self, t: Tensor) -> Tensor:
        return 0.5 * (self.w2.abs() * (2.0 * (t[..., None] - 0.5)) + self.b2)


class LearnedCurve(nn.Module):
    """log_snr(t) = clean - (clean - noisy) s(t), s = (g - g(0))/(g(1) - g(0)) of a monotone network."""

    clean: Tensor
    noisy: Tensor

    def __init__(self, clean: float, noisy: float, features: int, learn_ends: bool) -> None:
        super().__init__()
        self.network = MonotoneNetwork(features)
        for name, value in (("clean", clean), ("noisy", noisy)):
            if learn_ends:
                self.register_parameter(name, nn.Parameter(torch.tensor(value)))
            else:
                self.register_buffer(name, torch.tensor(value))

    def forward(self, t: Tensor) -> Tensor:
        """log_snr at t in [0, 1], any shape, in t's precision."""
        return self.clean - self.fall() * self.share(t)

    def fall(self) -> Tensor:
        """clean - noisy."""
        return (self.clean - self.noisy).double().clamp_min(SMALLEST_RANGE)

    def share(self, t: Tensor) -> Tensor:
        """s(t), from 0 to 1."""
        low, span = self._span(t)
        return (self.network(t) - low) / span

    def slope(self, t: Tensor) -> Tensor:
        """ds/dt > 0."""
        return self.network.slope(t) / self._span(t)[1]

    def bend(self, t: Tensor) -> Tensor:
        """d2s/dt2."""
        return self.network.bend(t) / self._span(t)[1]

    def time(self, log_snr: Tensor) -> Tensor:
        """The t in [0, 1] with this log-SNR, without gradient."""
        with torch.no_grad():
            return invert(self.share, (self.clean - log_snr) / self.fall())

    def _span(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.network(t.new_tensor([0.0, 1.0])).unbind()
        return low, high - low


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

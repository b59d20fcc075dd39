"""The modules of a schedule that learns: a monotone network, and the log-SNR that it bends."""

import torch
from torch import Tensor, nn

from trainer.diffusion.numeric import invert
from trainer.diffusion.schedule.base import SMALLEST_RANGE

STEEPNESS = 8.0
"""|w2| at the start: a feature turns within about an eighth of the time axis."""
START = 1e-3
"""|w3| at the start, against |w1| = 1: nearly a straight line, but with a gradient."""


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

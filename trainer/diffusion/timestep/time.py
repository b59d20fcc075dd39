"""Which timestep samplers are distributions of the schedule's time?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.bounds import Level, Scale
from trainer.diffusion.constant import constant
from trainer.diffusion.numeric import invert
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep.base import TimeLaw, TimestepSampler
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


MODE_MAX = 2.0 / (math.pi - 2.0)
BETA_CELLS = 2048


class Uniform(TimestepSampler):
    """t uniform in [0, 1], or uniform over the table (Ho et al. 2020, algorithm 1)."""

    kind: Literal["uniform"] = "uniform"

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """log_snr(u) of the schedule."""
        return schedule.log_snr(schedule.training_time(u))

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """-dt/dlog_snr."""
        return schedule.slowness(log_snr)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Always one."""
        return torch.ones_like(log_snr)


class LogitNormal(TimeLaw):
    """logit(t) normal (Esser et al. 2024, eq. 19); on `interpolant` this is `lognormal` of the same mean and std."""

    kind: Literal["logit_normal"] = "logit_normal"
    mean: Level = 0.0
    """m of the paper; more looks at more noise."""
    std: Scale = 1.0
    """s of the paper."""

    def time_quantile(self, u: Tensor) -> Tensor:
        """sigmoid(mean + std Phi^-1(u))."""
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))

    def time_rank(self, t: Tensor) -> Tensor:
        """Phi((logit(t) - mean)/std)."""
        return torch.special.ndtr(self._z(t))

    def time_density(self, t: Tensor) -> Tensor:
        """phi(z)/(std t (1 - t)), zero at both ends."""
        z = self._z(t)
        slope = self.std * t * (1.0 - t) * (2.0 * math.pi) ** 0.5
        density = torch.exp(-0.5 * z * z) / slope
        return torch.where((t > 0.0) & (t < 1.0), density, 0.0)

    def _z(self, t: Tensor) -> Tensor:
        return (torch.log(t) - torch.log1p(-t) - self.mean) / self.std


class Mode(TimeLaw):
    """t = u - s (sin^2(pi u/2) - u): heavy tails with a mode at t = 0.5 for s > 0 (Esser et al. 2024, eq. 20)."""

    kind: Literal["mode"] = "mode"
    scale: Annotated[float, Field(gt=-1.0, lt=MODE_MAX)] = 1.29
    """s of the paper, its best value; 0 is uniform."""

    def time_quantile(self, u: Tensor) -> Tensor:
        """The formula with u turned, so that u = 0 is the clean end."""
        return u - self.scale * (torch.sin(0.5 * math.pi * u) ** 2 - u)

    def time_rank(self, t: Tensor) -> Tensor:
        """Solved by bisection."""
        return invert(self.time_quantile, t)

    def time_density(self, t: Tensor) -> Tensor:
        """1/(dt/du)."""
        turn = torch.sin(math.pi * self.time_rank(t))
        return 1.0 / (1.0 + self.scale - 0.5 * math.pi * self.scale * turn)


class CosMap(TimeLaw):
    """t = 1 - 1/(tan(pi u/2) + 1): the cosine path's log-SNR on the straight path (Esser et al. 2024, eq. 21)."""

    kind: Literal["cosmap"] = "cosmap"

    def time_quantile(self, u: Tensor) -> Tensor:
        """sin/(sin + cos) of pi u/2."""
        sine, cosine = torch.sin(0.5 * math.pi * u), torch.sin(0.5 * math.pi * (1.0 - u))
        return sine / (sine + cosine)

    def time_rank(self, t: Tensor) -> Tensor:
        """(2/pi) atan(t/(1 - t))."""
        return torch.atan2(t, 1.0 - t) * (2.0 / math.pi)

    def time_density(self, t: Tensor) -> Tensor:
        """2/(pi (1 - 2t + 2t^2))."""
        return (2.0 / math.pi) / (1.0 - 2.0 * t + 2.0 * t * t)


class Speed(TimeLaw):
    """Times up to `tau` drawn `k` times as densely as those above (SpeeD, Wang et al. 2024, eq. 3)."""

    kind: Literal["speed"] = "speed"
    k: Scale = 5.0
    """Ratio of the two densities; 1 is uniform."""
    tau: Annotated[float, Field(ge=1e-6, lt=1.0)] = 0.7
    """Time above which images are nearly noise (700 of 1000 in the paper)."""

    def time_quantile(self, u: Tensor) -> Tensor:
        """Two straight lines."""
        share = self.k * self.tau / self._total()
        low = u * (self.tau / share)
        high = self.tau + (u - share) * ((1.0 - self.tau) / (1.0 - share))
        return torch.where(u < share, low, high)

    def time_rank(self, t: Tensor) -> Tensor:
        """The same lines, solved for u."""
        low = self.k * t
        high = self.k * self.tau + (t - self.tau)
        return torch.where(t < self.tau, low, high) / self._total()

    def time_density(self, t: Tensor) -> Tensor:
        """k or 1, over their mean."""
        return torch.where(t <= self.tau, torch.full_like(t, self.k), 1.0) / self._total()

    def _total(self) -> float:
        return 1.0 + self.tau * (self.k - 1.0)


class Beta(TimeLaw):
    """t Beta-distributed; Beta(1.5, 1) looks at more noise (pi0, Black et al. 2024, whose time runs backwards)."""

    kind: Literal["beta"] = "beta"
    alpha: Annotated[float, Field(ge=0.1, le=100.0)] = 1.5
    """Exponent of t is alpha - 1: more draws fewer clean levels."""
    beta: Annotated[float, Field(ge=0.1, le=100.0)] = 1.0
    """Exponent of 1 - t is beta - 1: more draws fewer noisy levels."""

    def time_quantile(self, u: Tensor) -> Tensor:
        """Table lookup on logit(t), then Newton's iteration on the exact rank."""
        nodes, lower = _table(self, like=u)
        # The cell of the table, a straight line in it, then two steps of Newton that may not leave it.
        index = torch.searchsorted(lower, u.contiguous(), right=True).clamp(1, BETA_CELLS) - 1
        width = nodes[index + 1] - nodes[index]
        mass = (lower[index + 1] - lower[index]).clamp_min(torch.finfo(u.dtype).tiny)
        y = nodes[index] + width * ((u - lower[index]) / mass).clamp(0.0, 1.0)
        for _ in range(2):
            error = self._within(nodes[index], y) + lower[index] - u
            step = error / self._logit_density(y).clamp_min(torch.finfo(u.dtype).tiny)
            y = torch.minimum(torch.maximum(y - step, nodes[index]), nodes[index + 1])
        return torch.sigmoid(y)

    def time_rank(self, t: Tensor) -> Tensor:
        """The regularized incomplete beta function, by Simpson's rule on logit(t)."""
        nodes, lower = _table(self, like=t)
        y = (torch.log(t) - torch.log1p(-t)).clamp(nodes[0], nodes[-1])
        index = torch.searchsorted(nodes, y.contiguous(), right=True).clamp(1, BETA_CELLS) - 1
        return (lower[index] + self._within(nodes[index], y)).clamp(0.0, 1.0)

    def time_density(self, t: Tensor) -> Tensor:
        """t^(alpha - 1) (1 - t)^(beta - 1)/B, bounded at the ends."""
        inside = t.clamp(1e-12, 1.0 - 1e-7 if t.dtype == torch.float32 else 1.0 - 1e-12)
        power = (self.alpha - 1.0) * torch.log(inside) + (self.beta - 1.0) * torch.log1p(-inside)
        return torch.exp(power - self._log_beta())

    def _within(self, left: Tensor, right: Tensor) -> Tensor:
        """Simpson's rule."""
        middle = self._logit_density(0.5 * (left + right))
        ends = self._logit_density(left) + self._logit_density(right)
        return (right - left) * (ends + 4.0 * middle) / 6.0

    def _logit_density(self, y: Tensor) -> Tensor:
        log_t, log_rest = torch.nn.functional.logsigmoid(y), torch.nn.functional.logsigmoid(-y)
        return torch.exp(self.alpha * log_t + self.beta * log_rest - self._log_beta())

    def _log_beta(self) -> float:
        return (
            math.lgamma(self.alpha) + math.lgamma(self.beta) - math.lgamma(self.alpha + self.beta)
        )


@constant
def _table(law: Beta) -> tuple[Tensor, Tensor]:
    """Nodes on logit(t) [K + 1] and the rank at each."""
    nodes = torch.linspace(
        -40.0 / law.alpha - 2.0, 40.0 / law.beta + 2.0, BETA_CELLS + 1, dtype=torch.float64
    )
    mass = law._within(nodes[:-1], nodes[1:])
    lower = torch.cat([torch.zeros_like(mass[:1]), torch.cumsum(mass, 0)])
    return nodes, lower / lower[-1]


TimeLaws = Uniform | LogitNormal | Mode | CosMap | Beta | Speed
"""The members in this file. A new timestep sampler is one class above and one name here."""

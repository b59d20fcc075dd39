"""Which schedules come from stochastic differential equations and from k-diffusion's sigma grids?

All of them have finite ends, so a grid of n steps holds exactly the n published noise levels, both ends included.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from trainer.bounds import NoiseRate, Scale
from trainer.diffusion.log_snr import edm_sigma, from_edm_sigma
from trainer.diffusion.schedule.base import LOG_SNR_LIMIT, Schedule, decay_from, logit_from_log
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


_Epsilon = Annotated[float, Field(ge=1e-12, lt=1.0)]


class _Preserving(Schedule):
    """log alpha^2 = -(b s + d s^2/2) on s from epsilon to 1, s = epsilon + (1 - epsilon) t."""

    finite_start: ClassVar[bool] = True

    def continuous(self, t: Tensor) -> Tensor:
        """logit of exp(-(b s + d s^2/2))."""
        start, slope, epsilon = self._rates()
        s = epsilon + (1.0 - epsilon) * t
        return logit_from_log(-(start * s + 0.5 * slope * s * s))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Root of the quadratic, in the form without cancellation."""
        start, slope, epsilon = self._rates()
        decay = decay_from(log_snr)
        s = 2.0 * decay / (start + torch.sqrt(start * start + 2.0 * slope * decay))
        return (s - epsilon) / (1.0 - epsilon)

    def _rates(self) -> tuple[float, float, float]:
        """b, d and epsilon."""
        raise NotImplementedError


class VPSDE(_Preserving):
    """The variance-preserving SDE, beta(s) = beta_min + (beta_max - beta_min) s (Song et al. 2021, appendix C)."""

    kind: Literal["vp_sde"] = "vp_sde"
    beta_min: NoiseRate = 0.1
    """beta at s = 0."""
    beta_max: NoiseRate = 20.0
    """beta at s = 1."""
    epsilon: _Epsilon = 1e-5
    """Smallest s that is trained; t = 0 stands there."""

    @model_validator(mode="after")
    def _rising(self) -> VPSDE:
        if self.beta_max <= self.beta_min:
            raise ValueError("beta_max must be larger than beta_min")
        return self

    def _rates(self) -> tuple[float, float, float]:
        return self.beta_min, self.beta_max - self.beta_min, self.epsilon


class VP(_Preserving):
    """edm_sigma = sqrt(exp(beta_d s^2/2 + beta_min s) - 1): k-diffusion's "vp" grid; `vp_sde` in EDM's letters."""

    kind: Literal["vp"] = "vp"
    beta_d: NoiseRate = 19.9
    """Slope of beta."""
    beta_min: NoiseRate = 0.1
    """beta at s = 0."""
    eps_s: _Epsilon = 1e-3
    """Smallest s: the last level of a grid."""

    def _rates(self) -> tuple[float, float, float]:
        return self.beta_min, self.beta_d, self.eps_s


class _Exploding(Schedule):
    """edm_sigma rises from sigma_min at t = 0 to sigma_max at t = 1; a table holds both ends."""

    finite_start: ClassVar[bool] = True
    sigma_min: Scale = 0.002
    """edm_sigma at the clean end."""
    sigma_max: Scale = 80.0
    """edm_sigma at the noisy end."""

    @model_validator(mode="after")
    def _ordered(self) -> _Exploding:
        if self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min must be smaller than sigma_max")
        return self

    def table(self, steps: int) -> Tensor:
        """`steps` levels from sigma_min to sigma_max."""
        level = self.continuous(torch.linspace(0.0, 1.0, steps, dtype=torch.float64))
        return level.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)

    def _ends(self) -> tuple[float, float]:
        """log-SNR at sigma_min and sigma_max."""
        return -2.0 * math.log(self.sigma_min), -2.0 * math.log(self.sigma_max)


class _Geometric(_Exploding):
    """edm_sigma = sigma_min (sigma_max/sigma_min)^t."""

    def continuous(self, t: Tensor) -> Tensor:
        """A straight line in log-SNR."""
        clean, noisy = self._ends()
        return clean * (1.0 - t) + noisy * t

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """The same line, solved for t."""
        clean, noisy = self._ends()
        return (clean - log_snr) / (clean - noisy)


class VESDE(_Geometric):
    """The variance-exploding SDE, sigma_min (sigma_max/sigma_min)^t (Song et al. 2021, appendix C; CIFAR-10 ends)."""

    kind: Literal["ve_sde"] = "ve_sde"
    sigma_min: Scale = 0.01
    """edm_sigma at the clean end."""
    sigma_max: Scale = 50.0
    """edm_sigma at the noisy end."""


class Exponential(_Geometric):
    """Levels evenly spaced in log(edm_sigma): k-diffusion's "exponential" grid."""

    kind: Literal["exponential"] = "exponential"


class Polyexponential(_Exploding):
    """log(edm_sigma) = log sigma_min + t^rho log(sigma_max/sigma_min): k-diffusion's "polyexponential" grid."""

    kind: Literal["polyexponential"] = "polyexponential"
    rho: Annotated[float, Field(ge=0.01, le=1000.0)] = 1.0
    """1 is `exponential`; more puts levels at the clean end."""

    def continuous(self, t: Tensor) -> Tensor:
        """A power of t between the ends in log-SNR."""
        clean, noisy = self._ends()
        return clean + t**self.rho * (noisy - clean)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """The same power, undone."""
        clean, noisy = self._ends()
        return ((clean - log_snr) / (clean - noisy)).clamp(0.0, 1.0) ** (1.0 / self.rho)

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """1/(rho t^(rho - 1) of the whole fall); bounded at t = 0, where the curve stands still if rho is above 1."""
        clean, noisy = self._ends()
        t = self.continuous_time(log_snr).clamp_min(1e-12 if self.rho > 1.0 else 0.0)
        return t ** (1.0 - self.rho) / (self.rho * (clean - noisy))


class Karras(_Exploding):
    """edm_sigma^(1/rho) linear in t (Karras et al. 2022, eq. 5)."""

    kind: Literal["karras"] = "karras"
    rho: Annotated[float, Field(ge=0.01, le=1000.0)] = 7.0
    """Curvature: more puts levels at the clean end; 3 equalizes the truncation error."""

    def continuous(self, t: Tensor) -> Tensor:
        """((1 - t) sigma_min^(1/rho) + t sigma_max^(1/rho))^rho."""
        low, high = self._roots()
        return from_edm_sigma((low * (1.0 - t) + high * t) ** self.rho)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """The same line, solved for t."""
        low, high = self._roots()
        return (edm_sigma(log_snr) ** (1.0 / self.rho) - low) / (high - low)

    def _roots(self) -> tuple[float, float]:
        return self.sigma_min ** (1.0 / self.rho), self.sigma_max ** (1.0 / self.rho)


SDESchedules = VPSDE | VESDE | VP | Karras | Exponential | Polyexponential
"""The members in this file. A new schedule is one class above and one name here."""

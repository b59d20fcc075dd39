"""Which schedules are stated in log-SNR, in alpha^2 or in edm_sigma directly?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from trainer.bounds import Level, Scale
from trainer.diffusion.schedule.base import Schedule
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class LogLinear(Schedule):
    """log_snr falls on a straight line from `log_snr_max` to `log_snr_min` (v-diffusion's "sigmoid")."""

    finite_start: ClassVar[bool] = True
    kind: Literal["log_linear"] = "log_linear"
    log_snr_max: Level = 20.0
    """log-SNR at t = 0."""
    log_snr_min: Level = -20.0
    """log-SNR at t = 1."""

    @model_validator(mode="after")
    def _falling(self) -> LogLinear:
        if self.log_snr_min >= self.log_snr_max:
            raise ValueError("log_snr_min must be smaller than log_snr_max")
        return self

    def continuous(self, t: Tensor) -> Tensor:
        """log_snr_max - t (log_snr_max - log_snr_min)."""
        return self.log_snr_max - t * (self.log_snr_max - self.log_snr_min)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """The same line, solved for t."""
        return (self.log_snr_max - log_snr) / (self.log_snr_max - self.log_snr_min)


class LinearSignal(Schedule):
    """alpha^2 falls on a straight line between its values at `log_snr_max` and `log_snr_min` (v-diffusion)."""

    finite_start: ClassVar[bool] = True
    kind: Literal["linear_signal"] = "linear_signal"
    log_snr_max: Level = 20.0
    """log-SNR at t = 0."""
    log_snr_min: Level = -20.0
    """log-SNR at t = 1."""

    @model_validator(mode="after")
    def _falling(self) -> LinearSignal:
        if self.log_snr_min >= self.log_snr_max:
            raise ValueError("log_snr_min must be smaller than log_snr_max")
        return self

    def continuous(self, t: Tensor) -> Tensor:
        """log alpha^2 - log sigma^2, each interpolated on its own to keep both ends accurate."""
        signal = _logistic(self.log_snr_max) * (1.0 - t) + _logistic(self.log_snr_min) * t
        noise = _logistic(-self.log_snr_max) * (1.0 - t) + _logistic(-self.log_snr_min) * t
        return torch.log(signal) - torch.log(noise)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """(sigma^2 - sigma^2(0)) / (sigma^2(1) - sigma^2(0))."""
        start, end = _logistic(-self.log_snr_max), _logistic(-self.log_snr_min)
        return (torch.sigmoid(-log_snr) - start) / (end - start)


class Sigmoid(Schedule):
    """alpha^2 = (S(end) - S(x))/(S(end) - S(start)), S(x) = sigmoid(x/tau), x = start + t (end - start).

    Jabri et al. 2022; Chen 2023, algorithm 1, whose defaults these are.
    """

    kind: Literal["sigmoid"] = "sigmoid"
    start: Level = -3.0
    """x at t = 0."""
    end: Level = 3.0
    """x at t = 1."""
    tau: Scale = 1.0
    """Temperature: smaller is steeper."""
    clip_min: Annotated[float, Field(ge=1e-12, lt=1.0)] = 1e-9
    """Smallest alpha^2."""

    @model_validator(mode="after")
    def _rising(self) -> Sigmoid:
        if self.start >= self.end:
            raise ValueError("start must be smaller than end")
        return self

    def continuous(self, t: Tensor) -> Tensor:
        """log sinh((e - x)/2) - log sinh((x - s)/2) - log(cosh(e/2)/cosh(s/2)), all over tau."""
        left, gone = 0.5 * self._span() * (1.0 - t), 0.5 * self._span() * t
        level = _log_sinh(left) - _log_sinh(gone) - self._tilt()
        return level.clamp_min(math.log(self.clip_min) - math.log1p(-self.clip_min))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """coth((x - s)/2) = (R + cosh d)/sinh d with R = exp(log_snr + tilt) and d = (e - s)/2, solved for x."""
        ratio, half = log_snr + self._tilt(), 0.5 * self._span()
        bound = torch.full_like(ratio, half)
        return (torch.logaddexp(ratio, bound) - torch.logaddexp(ratio, -bound)) / (2.0 * half)

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """sinh d/(2 d (cosh(log_snr + tilt) + cosh d)), all over the larger exponential."""
        ratio, half = (log_snr + self._tilt()).abs(), 0.5 * self._span()
        ahead, behind = torch.exp(half - ratio), torch.exp(-half - ratio)
        return (ahead - behind) / (1.0 + torch.exp(-2.0 * ratio) + ahead + behind) / (2.0 * half)

    def _span(self) -> float:
        return (self.end - self.start) / self.tau

    def _tilt(self) -> float:
        return _log_cosh(0.5 * self.end / self.tau) - _log_cosh(0.5 * self.start / self.tau)


class Laplace(Schedule):
    """Laplace-distributed log-SNR: mu - b sgn(0.5 - t) log(1 - 2|t - 0.5|) (Hang et al. 2024, table 1)."""

    kind: Literal["laplace"] = "laplace"
    mu: Level = 0.0
    """log-SNR at t = 0.5, where training looks most."""
    b: Scale = 0.5
    """Width."""

    def continuous(self, t: Tensor) -> Tensor:
        """mu - b log(2t) before the middle, mu + b log(2(1 - t)) after it."""
        clean, noisy = torch.log(2.0 * t), torch.log(2.0 * (1.0 - t))
        return self.mu + self.b * torch.where(t < 0.5, -clean, noisy)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """The Laplace distribution function."""
        tail = 0.5 * torch.exp(-(log_snr - self.mu).abs() / self.b)
        return torch.where(log_snr > self.mu, tail, 1.0 - tail)

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """The Laplace density, whose peak has no derivative on either side."""
        return torch.exp(-(log_snr - self.mu).abs() / self.b) / (2.0 * self.b)


class Interpolant(Schedule):
    """x_t = (1 - s) x0 + s eps, s = shift t / (1 + (shift - 1) t): the straight path of flow matching.

    edm_sigma = s/(1 - s), so log_snr = 2 log((1 - t) / (shift t)) (Liu et al. 2022; shift: SD3, eq. 23).
    """

    kind: Literal["interpolant"] = "interpolant"
    shift: Scale = 1.0
    """Multiplies edm_sigma at every t; more than 1 spends more time in noise, as larger images need."""

    def continuous(self, t: Tensor) -> Tensor:
        """2 log((1 - t) / (shift t))."""
        return 2.0 * (torch.log1p(-t) - torch.log(t) - math.log(self.shift))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """1 / (1 + shift exp(log_snr / 2))."""
        return torch.sigmoid(-0.5 * log_snr - math.log(self.shift))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def _log_sinh(x: Tensor) -> Tensor:
    return x + torch.log(-0.5 * torch.expm1(-2.0 * x))


def _log_cosh(x: float) -> float:
    return abs(x) + math.log1p(math.exp(-2.0 * abs(x))) - math.log(2.0)


LevelSchedules = Sigmoid | LinearSignal | LogLinear | Laplace | Interpolant
"""The members in this file. A new schedule is one class above and one name here."""

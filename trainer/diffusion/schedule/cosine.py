"""Which schedules run along a circle, alpha = cos and sigma = sin of a phase?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from trainer.bounds import Level, Size
from trainer.diffusion.numeric import invert
from trainer.diffusion.schedule.base import Schedule, logit_from_log
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


TINY = 1e-30
_Ended = TypeVar("_Ended", "CosineEnds", "ShiftedCosine", "InterpolatedCosine")


class Cosine(Schedule):
    """alpha^2(t) = f(t)/f(0), f(t) = cos^2(pi/2 (t + s)/(1 + s)) (Nichol & Dhariwal 2021, eq. 17)."""

    kind: Literal["cosine"] = "cosine"
    offset: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.008
    """s of the paper: keeps the first noise level from vanishing."""
    max_beta: Annotated[float, Field(ge=1e-12, lt=1.0)] = 0.999
    """Discrete tables clip beta_k here, which bounds the last noise level."""

    def table(self, steps: int) -> Tensor:
        """beta_k = min(1 - f((k+1)/N)/f(k/N), max_beta), accumulated."""
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = torch.cos(self._phase(t)) ** 2
        beta = (1.0 - f[1:] / f[:-1]).clamp(max=self.max_beta)
        return logit_from_log(torch.cumsum(torch.log1p(-beta), 0))

    def continuous(self, t: Tensor) -> Tensor:
        """logit of cos^2(phase(t)) / cos^2(phase(0)); sin^2 difference keeps the clean end accurate."""
        start, phase = self._start(), self._phase(t)
        log_alpha_squared = 2.0 * (
            torch.log(torch.cos(phase).clamp_min(TINY)) - math.log(math.cos(start))
        )
        noise = torch.sin(phase - start) * torch.sin(phase + start) / math.cos(start) ** 2
        return log_alpha_squared - torch.log(noise)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """phase = asin sqrt(sin^2(start) + sigma^2 cos^2(start))."""
        start = self._start()
        lift = torch.sigmoid(-log_snr) * math.cos(start) ** 2
        phase = torch.atan2(
            torch.sqrt(math.sin(start) ** 2 + lift),
            math.cos(start) * torch.exp(0.5 * torch.nn.functional.logsigmoid(log_snr)),
        )
        return phase * (1.0 + self.offset) / (0.5 * math.pi) - self.offset

    def _phase(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * (t + self.offset) / (1.0 + self.offset)

    def _start(self) -> float:
        return 0.5 * math.pi * self.offset / (1.0 + self.offset)


class CosSquared(Schedule):
    """alpha^2(t) = f(t) = cos^2(pi/2 (t + s)/(1 + s)), not divided by f(0) (Diffsched's "cos_squared").

    Its table starts at f(0), one step before Nichol's, and clips beta_k from below instead of above.
    """

    finite_start: ClassVar[bool] = True
    kind: Literal["cos_squared"] = "cos_squared"
    offset: Annotated[float, Field(ge=1e-12, lt=1.0)] = 0.008
    """s of the formula."""
    min_beta: Annotated[float, Field(ge=0.0, lt=1.0)] = 1e-4
    """Discrete tables clip beta_k from below here."""

    def table(self, steps: int) -> Tensor:
        """beta_0 = 1 - f(0), beta_k = max(1 - f(k/N)/f((k-1)/N), min_beta), accumulated."""
        f = torch.cos(self._phase(torch.arange(steps, dtype=torch.float64) / steps)) ** 2
        kept = torch.cat([f[:1], f[1:] / f[:-1]]).clamp(max=1.0 - self.min_beta)
        return logit_from_log(torch.cumsum(torch.log(kept), 0))

    def continuous(self, t: Tensor) -> Tensor:
        """-2 log tan(phase)."""
        left = 0.5 * math.pi * (1.0 - t) / (1.0 + self.offset)
        return 2.0 * (torch.log(torch.sin(left)) - torch.log(torch.sin(self._phase(t))))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """phase = atan(sigma/alpha)."""
        phase = torch.atan(torch.exp(-0.5 * log_snr))
        return phase * (1.0 + self.offset) / (0.5 * math.pi) - self.offset

    def _phase(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * (t + self.offset) / (1.0 + self.offset)


class GVP(Schedule):
    """alpha = cos(pi t/2), sigma = sin(pi t/2): the generalized variance-preserving path of SiT (Ma et al. 2024)."""

    kind: Literal["gvp"] = "gvp"

    def continuous(self, t: Tensor) -> Tensor:
        """-2 log tan(pi t/2)."""
        left = torch.log(torch.sin(0.5 * math.pi * (1.0 - t)).clamp_min(TINY))
        return 2.0 * (left - torch.log(torch.sin(0.5 * math.pi * t).clamp_min(TINY)))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """(2/pi) atan(sigma/alpha)."""
        return torch.atan(torch.exp(-0.5 * log_snr)) * (2.0 / math.pi)


class CosineEnds(Schedule):
    """log_snr = -2 log tan(a + (b - a) t), from `log_snr_max` to `log_snr_min` (v-diffusion's "cosine")."""

    finite_start: ClassVar[bool] = True
    kind: Literal["cosine_ends"] = "cosine_ends"
    log_snr_max: Level = 20.0
    """log-SNR at t = 0; a = atan(exp(-log_snr_max/2))."""
    log_snr_min: Level = -20.0
    """log-SNR at t = 1; b = atan(exp(-log_snr_min/2))."""

    @model_validator(mode="after")
    def _falling(self) -> CosineEnds:
        return _checked(self)

    def continuous(self, t: Tensor) -> Tensor:
        """-2 log tan(a + (b - a) t)."""
        return cosine_path(t, self.log_snr_max, self.log_snr_min)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """(atan(exp(-log_snr/2)) - a)/(b - a)."""
        return _cosine_time(log_snr, self.log_snr_max, self.log_snr_min)


class ShiftedCosine(Schedule):
    """The cosine path with ends, moved by 2 log(noise_size/image_size) (simple diffusion, Hoogeboom et al. 2023)."""

    finite_start: ClassVar[bool] = True
    kind: Literal["shifted_cosine"] = "shifted_cosine"
    image_size: Size = 256
    """Side of the images."""
    noise_size: Size = 64
    """Side at which the unshifted cosine path is right."""
    log_snr_max: Level = 15.0
    """log-SNR at t = 0, before the shift."""
    log_snr_min: Level = -15.0
    """log-SNR at t = 1, before the shift."""

    @model_validator(mode="after")
    def _falling(self) -> ShiftedCosine:
        return _checked(self)

    def continuous(self, t: Tensor) -> Tensor:
        """-2 log tan(a + (b - a) t) + 2 log(noise_size/image_size)."""
        return cosine_path(t, self.log_snr_max, self.log_snr_min) + self._shift()

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """The same, solved for t."""
        return _cosine_time(log_snr - self._shift(), self.log_snr_max, self.log_snr_min)

    def _shift(self) -> float:
        return 2.0 * math.log(self.noise_size / self.image_size)


class InterpolatedCosine(Schedule):
    """t low(t) + (1 - t) high(t) of two shifted cosine paths (simple diffusion, Hoogeboom et al. 2023)."""

    finite_start: ClassVar[bool] = True
    kind: Literal["interpolated_cosine"] = "interpolated_cosine"
    image_size: Size = 256
    """Side of the images."""
    noise_size_low: Size = 32
    """Side whose shift holds at the noisy end."""
    noise_size_high: Size = 256
    """Side whose shift holds at the clean end."""
    log_snr_max: Level = 15.0
    """log-SNR at t = 0, before the shift."""
    log_snr_min: Level = -15.0
    """log-SNR at t = 1, before the shift."""

    @model_validator(mode="after")
    def _falling(self) -> InterpolatedCosine:
        if self.noise_size_low > self.noise_size_high:
            raise ValueError("noise_size_low must not exceed noise_size_high")
        return _checked(self)

    def continuous(self, t: Tensor) -> Tensor:
        """The cosine path plus the interpolated shift."""
        low = 2.0 * math.log(self.noise_size_low / self.image_size)
        high = 2.0 * math.log(self.noise_size_high / self.image_size)
        return cosine_path(t, self.log_snr_max, self.log_snr_min) + high + (low - high) * t

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Solved by bisection: the sum has no closed inverse."""
        return invert(lambda t: -self.continuous(t), -log_snr)

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """1/(-d/dt of the cosine path and of the line): the path's is 4 (b - a) cosh of half its level."""
        t = self.continuous_time(log_snr)
        turn = math.atan(math.exp(-0.5 * self.log_snr_min)) - math.atan(
            math.exp(-0.5 * self.log_snr_max)
        )
        path = cosine_path(t, self.log_snr_max, self.log_snr_min)
        line = 2.0 * math.log(self.noise_size_high / self.noise_size_low)
        return 1.0 / (4.0 * turn * torch.cosh(0.5 * path) + line)


def _checked(schedule: _Ended) -> _Ended:
    if schedule.log_snr_min >= schedule.log_snr_max:
        raise ValueError("log_snr_min must be smaller than log_snr_max")
    return schedule


def cosine_path(t: Tensor, high: float, low: float) -> Tensor:
    """-2 log tan(a + (b - a) t); the cosine is taken as the sine of the angle that is left."""
    angle = math.atan(math.exp(-0.5 * high)) * (1.0 - t) + math.atan(math.exp(-0.5 * low)) * t
    left = math.atan(math.exp(0.5 * high)) * (1.0 - t) + math.atan(math.exp(0.5 * low)) * t
    return 2.0 * (torch.log(torch.sin(left)) - torch.log(torch.sin(angle)))


def _cosine_time(log_snr: Tensor, high: float, low: float) -> Tensor:
    start, end = math.atan(math.exp(-0.5 * high)), math.atan(math.exp(-0.5 * low))
    return (torch.atan(torch.exp(-0.5 * log_snr)) - start) / (end - start)


CircleSchedules = Cosine | CosSquared | CosineEnds | ShiftedCosine | InterpolatedCosine | GVP
"""The members in this file. A new schedule is one class above and one name here."""

"""Which timestep samplers are distributions of the noise level between two bounds?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from trainer.bounds import Amount, Level, Scale, Size
from trainer.diffusion.numeric import invert
from trainer.diffusion.schedule import LOG_SNR_LIMIT, Schedule
from trainer.diffusion.schedule.cosine import cosine_path
from trainer.diffusion.timestep.base import LevelLaw
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


TINY = 1e-12
"""Distance from 0 and 1 of a rank within a law, whose quantile may be infinite there."""


class _Truncated(LevelLaw):
    """A law between two noise levels.

    With `unbiased` the times of the schedule beyond them are drawn as uniform time draws them, so that none is missing
    from the mean: u runs through the cleaner ones, the law, the noisier ones.
    """

    sigma_min: Amount
    """Smallest edm_sigma."""
    sigma_max: Scale | None
    """Largest edm_sigma; null: no bound."""

    @model_validator(mode="after")
    def _ordered(self) -> _Truncated:
        if self.sigma_max is not None and self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min must be smaller than sigma_max")
        return self

    def inside(self, log_snr: Tensor, density: Tensor) -> Tensor:
        """The density, zero outside the bounds."""
        return torch.where(self._inside(log_snr), density, 0.0)

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The quantile, moved to the nearest level of a discrete schedule; beyond the law's bounds uniform time."""
        first, last = self._left_out(schedule)
        if first == 0.0 and last == 1.0:
            return super().log_snr(u, schedule)
        within = ((u - first) / max(last - first, 1e-12)).clamp(TINY, 1.0 - TINY)
        law = self.quantile(within).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
        beyond = (u < first) | (u > last)
        return schedule.snap(torch.where(beyond, schedule.log_snr(u), law))

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """The law, by its share of the draws; beyond it the density of uniform time."""
        first, last = self._left_out(schedule)
        beyond = torch.where(self._inside(log_snr), 0.0, schedule.slowness(log_snr))
        missing = first > 0.0 or last < 1.0
        return (last - first) * self.law(log_snr) + (beyond if missing else 0.0)

    def probability_cleaner(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Share of the draws that are cleaner."""
        first, last = self._left_out(schedule)
        if first == 0.0 and last == 1.0:
            return self.rank(log_snr)
        time = schedule.time(log_snr)
        mixed = first + (last - first) * self.rank(log_snr)
        return torch.where((time < first) | (time > last), time, mixed)

    def _left_out(self, schedule: Schedule) -> tuple[float, float]:
        """The times of the schedule at both bounds, if the times beyond are to be drawn too."""
        if not self.unbiased:
            return 0.0, 1.0
        low, high = self.bounds()
        level = torch.tensor([-2.0 * low, -2.0 * high], dtype=torch.float64)
        first, last = schedule.time(level.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)).tolist()
        return first, last

    def _inside(self, log_snr: Tensor) -> Tensor:
        low, high = self.bounds()
        return (-0.5 * log_snr >= low) & (-0.5 * log_snr <= high)

    def bounds(self) -> tuple[float, float]:
        """log(edm_sigma) at both bounds."""
        low = math.log(self.sigma_min) if self.sigma_min > 0.0 else -math.inf
        return low, math.inf if self.sigma_max is None else math.log(self.sigma_max)


class LogUniform(_Truncated):
    """log(edm_sigma) uniform between the bounds (k-diffusion's "loguniform"; the bounds are EDM's)."""

    kind: Literal["log_uniform"] = "log_uniform"
    sigma_min: Scale = 0.002
    """Smallest edm_sigma."""
    sigma_max: Scale = 80.0
    """Largest edm_sigma."""

    def quantile(self, u: Tensor) -> Tensor:
        """A straight line."""
        low, high = self.bounds()
        return -2.0 * (low * (1.0 - u) + high * u)

    def rank(self, log_snr: Tensor) -> Tensor:
        """The same line, solved for u."""
        low, high = self.bounds()
        return ((-0.5 * log_snr - low) / (high - low)).clamp(0.0, 1.0)

    def law(self, log_snr: Tensor) -> Tensor:
        """Constant between the bounds."""
        low, high = self.bounds()
        return self.inside(log_snr, torch.full_like(log_snr, 0.5 / (high - low)))


class LogLogistic(_Truncated):
    """log(edm_sigma) logistic with `loc` and `scale`, truncated at the bounds (k-diffusion)."""

    kind: Literal["loglogistic"] = "loglogistic"
    loc: Level = 0.0
    """log of the median; k-diffusion's default is log(sigma_data)."""
    scale: Scale = 0.5
    """Width; 0.5 with loc = log(sigma_data) is v-diffusion's density but for the angle."""
    sigma_min: Amount = 0.0
    """Smallest edm_sigma."""
    sigma_max: Scale | None = None
    """Largest edm_sigma; null: no bound."""

    def quantile(self, u: Tensor) -> Tensor:
        """-2 (loc + scale logit(u')), u' in the truncated range."""
        low, high = self._range()
        above = (1.0 - low) * (1.0 - u) + (1.0 - high) * u
        spread = torch.log(low * (1.0 - u) + high * u) - torch.log(above)
        return -2.0 * (self.loc + self.scale * spread)

    def rank(self, log_snr: Tensor) -> Tensor:
        """The truncated logistic function."""
        low, high = self._range()
        value = torch.sigmoid((-0.5 * log_snr - self.loc) / self.scale)
        return ((value - low) / (high - low)).clamp(0.0, 1.0)

    def law(self, log_snr: Tensor) -> Tensor:
        """The logistic density."""
        low, high = self._range()
        z = (-0.5 * log_snr - self.loc) / self.scale
        density = torch.sigmoid(z) * torch.sigmoid(-z) / (2.0 * self.scale * (high - low))
        return self.inside(log_snr, density)

    def _range(self) -> tuple[float, float]:
        low, high = (_logistic((bound - self.loc) / self.scale) for bound in self.bounds())
        return low, high


class VDiffusion(_Truncated):
    """The angle atan(edm_sigma/sigma_data) uniform: v-diffusion's cosine path (k-diffusion's "v-diffusion")."""

    kind: Literal["v_diffusion"] = "v_diffusion"
    sigma_data: Scale = 1.0
    """Standard deviation of the data: the median."""
    sigma_min: Amount = 1e-3
    """Smallest edm_sigma."""
    sigma_max: Scale | None = 1e3
    """Largest edm_sigma; null: no bound."""

    def quantile(self, u: Tensor) -> Tensor:
        """-2 log(sigma_data tan(angle)); the cosine is the sine of the angle that is left."""
        low, high = self._angles()
        angle = low * (1.0 - u) + high * u
        left = (0.5 * math.pi - low) * (1.0 - u) + (0.5 * math.pi - high) * u
        return 2.0 * (torch.log(torch.sin(left)) - torch.log(torch.sin(angle))) - self._shift()

    def rank(self, log_snr: Tensor) -> Tensor:
        """The share of the angle."""
        low, high = self._angles()
        angle = torch.atan(torch.exp(-0.5 * (log_snr + self._shift())))
        return ((angle - low) / (high - low)).clamp(0.0, 1.0)

    def law(self, log_snr: Tensor) -> Tensor:
        """1/(4 cosh) of half the log-SNR against sigma_data, over the range of angles."""
        low, high = self._angles()
        half = 0.5 * (log_snr + self._shift())
        return self.inside(log_snr, 0.25 / (torch.cosh(half) * (high - low)))

    def _angles(self) -> tuple[float, float]:
        low, high = self.bounds()
        scale = math.log(self.sigma_data)
        return math.atan(math.exp(low - scale)), (
            0.5 * math.pi if high == math.inf else math.atan(math.exp(high - scale))
        )

    def _shift(self) -> float:
        return 2.0 * math.log(self.sigma_data)


class CosineInterpolated(_Truncated):
    """Uniform time on simple diffusion's interpolated cosine path between fixed ends (k-diffusion)."""

    kind: Literal["cosine_interpolated"] = "cosine_interpolated"
    image_size: Size = 64
    """Side of the images."""
    noise_size_low: Size = 32
    """Side whose shift holds at the noisy end."""
    noise_size_high: Size = 64
    """Side whose shift holds at the clean end; k-diffusion's default is the images' side."""
    sigma_data: Scale = 1.0
    """Standard deviation of the data."""
    sigma_min: Scale = 1e-3
    """Smallest edm_sigma."""
    sigma_max: Scale = 1e3
    """Largest edm_sigma."""

    @model_validator(mode="after")
    def _sizes(self) -> CosineInterpolated:
        if self.noise_size_low > self.noise_size_high:
            raise ValueError("noise_size_low must not exceed noise_size_high")
        return self

    def quantile(self, u: Tensor) -> Tensor:
        """u low(u) + (1 - u) high(u), against sigma_data."""
        low, high = self._path(u, self.noise_size_low), self._path(u, self.noise_size_high)
        return u * low + (1.0 - u) * high - 2.0 * math.log(self.sigma_data)

    def rank(self, log_snr: Tensor) -> Tensor:
        """Solved by bisection: the sum has no closed inverse."""
        return invert(lambda u: -self.quantile(u), -log_snr)

    def law(self, log_snr: Tensor) -> Tensor:
        """1/|d quantile/du|."""
        u = self.rank(log_snr)
        low, high = self._path(u, self.noise_size_low), self._path(u, self.noise_size_high)
        slope = u * self._slope(low, self.noise_size_low)
        slope = slope + (1.0 - u) * self._slope(high, self.noise_size_high)
        return self.inside(log_snr, 1.0 / (slope + high - low))

    def _path(self, u: Tensor, noise_size: int) -> Tensor:
        """The shifted cosine path between the two bounds."""
        clean, noisy, shift = self._ends(noise_size)
        return cosine_path(u, clean - shift, noisy - shift) + shift

    def _slope(self, level: Tensor, noise_size: int) -> Tensor:
        """-d path/du = 4 (b - a) cosh((path - shift)/2)."""
        clean, noisy, shift = self._ends(noise_size)
        turn = math.atan(math.exp(-0.5 * (noisy - shift))) - math.atan(
            math.exp(-0.5 * (clean - shift))
        )
        return 4.0 * turn * torch.cosh(0.5 * (level - shift))

    def _ends(self, noise_size: int) -> tuple[float, float, float]:
        low, high = self.bounds()
        scale = math.log(self.sigma_data)
        shift = 2.0 * math.log(noise_size / self.image_size)
        return -2.0 * (low - scale), -2.0 * (high - scale), shift


def _logistic(x: float) -> float:
    if x == -math.inf:
        return 0.0
    return 1.0 / (1.0 + math.exp(-x))


TruncatedLaws = LogUniform | LogLogistic | VDiffusion | CosineInterpolated
"""The members in this file. A new timestep sampler is one class above and one name here."""

"""Which timestep samplers are distributions of the noise level itself?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.bounds import Level, Scale
from trainer.diffusion.timestep.base import LevelLaw
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class LogNormal(LevelLaw):
    """log(edm_sigma) normal with `mean` and `std` (Karras et al. 2022, table 1)."""

    kind: Literal["lognormal"] = "lognormal"
    mean: Level = -1.2
    """P_mean of EDM."""
    std: Scale = 1.2
    """P_std of EDM."""

    def quantile(self, u: Tensor) -> Tensor:
        """-2 (mean + std Phi^-1(u))."""
        return -2.0 * (self.mean + self.std * torch.special.ndtri(u))

    def rank(self, log_snr: Tensor) -> Tensor:
        """Phi((log edm_sigma - mean)/std)."""
        return torch.special.ndtr((-0.5 * log_snr - self.mean) / self.std)

    def law(self, log_snr: Tensor) -> Tensor:
        """Normal in log-SNR with mean -2 mean and deviation 2 std."""
        z = (log_snr + 2.0 * self.mean) / (2.0 * self.std)
        return torch.exp(-0.5 * z * z) / (2.0 * self.std * (2.0 * torch.pi) ** 0.5)


class SplitLogNormal(LevelLaw):
    """log(edm_sigma) half normal on each side of `mean`, with the probabilities std_1 : std_2 (k-diffusion)."""

    kind: Literal["split_lognormal"] = "split_lognormal"
    mean: Level = -1.2
    """log(edm_sigma) where both halves meet."""
    std_1: Scale = 1.2
    """Deviation below the mean, the clean side."""
    std_2: Scale = 1.2
    """Deviation above the mean, the noisy side."""

    def quantile(self, u: Tensor) -> Tensor:
        """Phi^-1 of u scaled to the half it falls in."""
        below = self._below()
        clean = self.std_1 * torch.special.ndtri((0.5 * u / below).clamp(max=0.5))
        noisy = -self.std_2 * torch.special.ndtri((0.5 * (1.0 - u) / (1.0 - below)).clamp(max=0.5))
        return -2.0 * (self.mean + torch.where(u < below, clean, noisy))

    def rank(self, log_snr: Tensor) -> Tensor:
        """The two halves of the distribution function."""
        z, below = -0.5 * log_snr - self.mean, self._below()
        clean = 2.0 * below * torch.special.ndtr(z / self.std_1)
        noisy = 1.0 - 2.0 * (1.0 - below) * torch.special.ndtr(-z / self.std_2)
        return torch.where(z < 0.0, clean, noisy)

    def law(self, log_snr: Tensor) -> Tensor:
        """sqrt(2/pi)/(std_1 + std_2) exp(-z^2/2), halved for log-SNR."""
        z = -0.5 * log_snr - self.mean
        z = torch.where(z < 0.0, z / self.std_1, z / self.std_2)
        return torch.exp(-0.5 * z * z) / ((2.0 * torch.pi) ** 0.5 * (self.std_1 + self.std_2))

    def _below(self) -> float:
        return self.std_1 / (self.std_1 + self.std_2)


class Laplace(LevelLaw):
    """log-SNR Laplace-distributed around `mu` (Hang et al. 2024, whose best setting is the default)."""

    kind: Literal["laplace"] = "laplace"
    mu: Level = 0.0
    """log-SNR where training looks most."""
    b: Scale = 0.5
    """Width."""

    def quantile(self, u: Tensor) -> Tensor:
        """mu - b log(2u) for u < 0.5, mu + b log(2(1 - u)) above."""
        clean, noisy = torch.log(2.0 * u), torch.log(2.0 * (1.0 - u))
        return self.mu + self.b * torch.where(u < 0.5, -clean, noisy)

    def rank(self, log_snr: Tensor) -> Tensor:
        """exp(-|log_snr - mu|/b)/2, or one minus it."""
        tail = 0.5 * torch.exp(-(log_snr - self.mu).abs() / self.b)
        return torch.where(log_snr > self.mu, tail, 1.0 - tail)

    def law(self, log_snr: Tensor) -> Tensor:
        """exp(-|log_snr - mu|/b)/(2b)."""
        return torch.exp(-(log_snr - self.mu).abs() / self.b) / (2.0 * self.b)


LevelLaws = LogNormal | SplitLogNormal | Laplace
"""The members in this file. A new timestep sampler is one class above and one name here."""

"""How do we come back from noise to data? A solver walks a grid of log-SNR with a denoiser.

`steps` counts grid levels; the step from the last level always ends at x0, so no solver can stop at
a noisy sample. Noise for step i comes from the caller, seeded per image.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from trainer.diffusion.log_snr import alpha, edm_sigma, from_edm_sigma, sigma
from trainer.spec import Spec

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B, ...], log_snr []) -> x0_hat [B, ...]."""

NoiseSource = Callable[[int], Tensor]
"""step -> standard normal noise [B, ...]."""


class Solver(Spec):
    """denoiser, grid -> sample."""

    def sample(self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource) -> Tensor:
        """Walk `grid` [S], log-SNR rising from noise to data, from x [B, ...] at grid[0]; returns x0_hat.

        `x` is variance preserving (standard normal at pure noise). The grid's dtype sets the precision
        of the coefficients; tensors keep the dtype of x.
        """
        raise NotImplementedError

    def evaluations(self, steps: int) -> int:
        """Network evaluations (NFE) that `steps` grid levels cost."""
        return steps


class DDPM(Solver):
    """Ancestral sampling, x_s ~ q(x_s | x_t, x0_hat) (Ho et al. 2020, algorithm 2)."""

    kind: Literal["ddpm"] = "ddpm"
    variance: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """0: the posterior's ("small"), 1: beta_t ("large"), between: interpolated in the logarithm."""

    def sample(self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource) -> Tensor:
        """r = SNR_t / SNR_s; mean r (alpha_s/alpha_t) x_t + (1 - r) alpha_s x0_hat."""
        for i in range(len(grid) - 1):
            t, s = grid[i], grid[i + 1]
            x0 = denoise(x, t)
            ratio = torch.exp(t - s)
            spread = (-torch.expm1(t - s)).sqrt()
            std = spread * sigma(s) ** (1.0 - self.variance) * sigma(t) ** self.variance
            x = _mix(ratio * alpha(s) / alpha(t), x, -torch.expm1(t - s) * alpha(s), x0)
            x = _mix(1.0, x, std, noise(i))
        return denoise(x, grid[-1])


class DDIM(Solver):
    """x_s = alpha_s x0_hat + sqrt(sigma_s^2 - var) eps_hat + sqrt(var) z (Song et al. 2021, eq. 12)."""

    kind: Literal["ddim"] = "ddim"
    eta: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the posterior's standard deviation that is fresh noise; 0 is deterministic, 1 is `ddpm`."""

    def sample(self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource) -> Tensor:
        """var = eta^2 (1 - SNR_t/SNR_s) sigma_s^2."""
        for i in range(len(grid) - 1):
            t, s = grid[i], grid[i + 1]
            x0 = denoise(x, t)
            variance = self.eta**2 * -torch.expm1(t - s) * sigma(s) ** 2
            keep = (sigma(s) ** 2 - variance).sqrt() / sigma(t)
            x = _mix(keep, x, alpha(s) - keep * alpha(t), x0)
            if self.eta > 0.0:
                x = _mix(1.0, x, variance.sqrt(), noise(i))
        return denoise(x, grid[-1])


class _Churning(Solver):
    """Stochastic churn of EDM: raise the noise by a factor 1 + gamma before a step (algorithm 2)."""

    churn: NonNegativeFloat = 0.0
    """S_churn, the total amount; gamma = min(S_churn / steps, sqrt(2) - 1)."""
    churn_min: NonNegativeFloat = 0.0
    """S_tmin: no churn below this edm_sigma."""
    churn_max: NonNegativeFloat = 1e30
    """S_tmax: no churn above this edm_sigma."""
    churn_noise: NonNegativeFloat = 1.0
    """S_noise: scale of the added noise."""

    def _churned(
        self, x: Tensor, level: Tensor, steps: int, z: Callable[[], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """x (variance exploding) and its edm_sigma after churn."""
        gamma = min(self.churn / steps, 2.0**0.5 - 1.0)
        if gamma == 0.0 or not self.churn_min <= float(level) <= self.churn_max:
            return x, level
        raised = level * (1.0 + gamma)
        return _mix(1.0, x, self.churn_noise * (raised**2 - level**2).sqrt(), z()), raised

    def _walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, second_order: bool
    ) -> Tensor:
        """Euler, or Heun's corrected Euler, for dx/dsigma = (x - D)/sigma in the VE gauge; last level to 0."""
        levels = edm_sigma(grid)
        x = x / alpha(grid[0]).to(x.dtype)
        for i in range(len(grid)):
            x, level = self._churned(x, levels[i], len(grid), lambda i=i: noise(i))  # type: ignore[misc]
            x0 = _denoise_ve(denoise, x, level)
            if i == len(grid) - 1:
                return x0
            slope = (x - x0) / level.to(x.dtype)
            step = (levels[i + 1] - level).to(x.dtype)
            ahead = x + step * slope
            if second_order:
                slope_ahead = (ahead - _denoise_ve(denoise, ahead, levels[i + 1])) / levels[
                    i + 1
                ].to(x.dtype)
                ahead = x + 0.5 * step * (slope + slope_ahead)
            x = ahead
        raise AssertionError("a grid has at least one level")


class Euler(_Churning):
    """Euler's method on the probability-flow ODE in edm_sigma (Karras et al. 2022); without churn equal to DDIM."""

    kind: Literal["euler"] = "euler"

    def sample(self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource) -> Tensor:
        """x += (sigma' - sigma) (x - D)/sigma."""
        return self._walk(denoise, grid, x, noise, second_order=False)


class Heun(_Churning):
    """Heun's second-order method (Karras et al. 2022, algorithms 1 and 2); the step to 0 is Euler's."""

    kind: Literal["heun"] = "heun"

    def sample(self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource) -> Tensor:
        """Euler step, then the mean of both slopes."""
        return self._walk(denoise, grid, x, noise, second_order=True)

    def evaluations(self, steps: int) -> int:
        """Two per step, one for the last."""
        return 2 * steps - 1


class DPMpp2M(Solver):
    """DPM-Solver++(2M): second-order multistep in log-SNR on x0_hat (Lu et al. 2022, algorithm 2)."""

    kind: Literal["dpmpp_2m"] = "dpmpp_2m"

    def sample(self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource) -> Tensor:
        """x_s = (sigma_s/sigma_t) x_t - alpha_s expm1(-h) D, D extrapolated from the last two estimates."""
        previous: Tensor | None = None
        for i in range(len(grid) - 1):
            t, s = grid[i], grid[i + 1]
            x0 = denoise(x, t)
            estimate = x0
            if previous is not None:
                lead = 0.5 * (s - t) / (t - grid[i - 1])
                estimate = _mix(1.0 + lead, x0, -lead, previous)
            x = _mix(sigma(s) / sigma(t), x, -alpha(s) * torch.expm1(0.5 * (t - s)), estimate)
            previous = x0
        return denoise(x, grid[-1])


def _mix(a: Tensor | float, x: Tensor, b: Tensor | float, y: Tensor) -> Tensor:
    """A x + b y with scalars of any dtype, in the dtype of x."""
    return x * _scalar(a, x) + y * _scalar(b, x)


def _scalar(value: Tensor | float, like: Tensor) -> Tensor | float:
    return value.to(like) if isinstance(value, Tensor) else value


def _denoise_ve(denoise: Denoiser, x: Tensor, level: Tensor) -> Tensor:
    log_snr = from_edm_sigma(level)
    return denoise(x * alpha(log_snr).to(x.dtype), log_snr)


AnySolver = Annotated[DDPM | DDIM | Euler | Heun | DPMpp2M, Field(discriminator="kind")]
"""The members of the family. A new solver is one class above and one name here."""

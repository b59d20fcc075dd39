"""How does one step back through the Gaussian chain look? DDPM's ancestral step and DDIM's family.

Both draw x_s given x_t and x0_hat in the variance-preserving gauge, s being the cleaner level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.diffusion.log_snr import alpha, edm_sigma, sigma
from trainer.diffusion.solver.base import Denoiser, Solver, SpreadDenoiser
from trainer.diffusion.solver.noise import NoiseSource, draw
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class DDPM(Solver):
    """Ancestral sampling, x_s ~ q(x_s | x_t, x0_hat) (Ho et al. 2020, algorithm 2)."""

    kind: Literal["ddpm"] = "ddpm"
    variance: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["learned"] = 0.0
    """0: the posterior's ("small"), 1: beta_t ("large"), between: interpolated in the logarithm ("medium");
    `learned`: what the network trained with a learned variance says."""

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """r = SNR_t / SNR_s; mean r (alpha_s/alpha_t) x_t + (1 - r) alpha_s x0_hat."""
        for i in range(len(grid) - 1):
            t, s = grid[i], grid[i + 1]
            x0, std = self._estimate(denoise, x, t, s)
            ratio = torch.exp(t - s)
            x = mix(ratio * alpha(s) / alpha(t), x, -torch.expm1(t - s) * alpha(s), x0)
            x = x + std.to(x) * draw(noise, i, float(edm_sigma(t)), float(edm_sigma(s))).to(x)
        return denoise(x, grid[-1]) if to_data else x

    def _estimate(
        self, denoise: Denoiser, x: Tensor, t: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x0_hat and the step's standard deviation."""
        if self.variance == "learned":
            if not isinstance(denoise, SpreadDenoiser):
                raise ValueError(
                    "solver.variance: learned needs a network trained with a learned variance "
                    "(objective hybrid or vlb with variance: learned_range)"
                )
            x0, log_variance = denoise.with_log_variance(x, t, s)
            return x0, torch.exp(0.5 * log_variance)
        spread = (-torch.expm1(t - s)).sqrt()
        return denoise(x, t), spread * sigma(s) ** (1.0 - self.variance) * sigma(t) ** self.variance

    @property
    def stochastic(self) -> bool:
        """Always."""
        return True


class DDIM(Solver):
    """x_s = alpha_s x0_hat + sqrt(sigma_s^2 - var) eps_hat + sqrt(var) z (Song et al. 2021, eq. 12)."""

    kind: Literal["ddim"] = "ddim"
    eta: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the posterior's standard deviation that is fresh noise; 0 is deterministic, 1 is `ddpm`."""

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """var = eta^2 (1 - SNR_t/SNR_s) sigma_s^2; on a falling grid, the inverse (encoding) step."""
        for i in range(len(grid) - 1):
            t, s = grid[i], grid[i + 1]
            x0 = denoise(x, t)
            variance = (
                self.eta**2 * -torch.expm1(t - s) * sigma(s) ** 2
                if self.eta > 0.0
                else torch.zeros_like(s)
            )
            keep = (sigma(s) ** 2 - variance).sqrt() / sigma(t)
            x = mix(keep, x, alpha(s) - keep * alpha(t), x0)
            if self.eta > 0.0:
                z = draw(noise, i, float(edm_sigma(t)), float(edm_sigma(s)))
                x = mix(1.0, x, variance.sqrt(), z)
        return denoise(x, grid[-1]) if to_data else x

    @property
    def stochastic(self) -> bool:
        """With eta above 0."""
        return self.eta > 0.0


def mix(a: Tensor | float, x: Tensor, b: Tensor | float, y: Tensor) -> Tensor:
    """A x + b y with scalars of any dtype, in the dtype of x."""
    return x * _scalar(a, x) + y * _scalar(b, x)


def _scalar(value: Tensor | float, like: Tensor) -> Tensor | float:
    return value.to(like) if isinstance(value, torch.Tensor) else value


PosteriorSolvers = DDPM | DDIM
"""The members in this file. A new solver is one class above and one name here."""

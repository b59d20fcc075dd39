"""How is the ODE or SDE solved in log-SNR, on x0_hat? DPM-Solver++ and its stochastic and multistep forms.

The linear part is solved exactly; with h = ln(sigma/sigma') a step is
x' = (sigma'/sigma) x - expm1(-h) D, D being improved to second or third order. Every last step ends at D.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.diffusion.log_snr import alpha, sigma
from trainer.diffusion.solver.base import (
    Denoiser,
    Exploding,
    NoisySolver,
    Solver,
    exploding_levels,
    to_exploding,
    to_preserving,
)
from trainer.diffusion.solver.noise import NoiseSource, PathNoise
from trainer.diffusion.solver.ode import AncestralSolver, ancestral_step, euler_step, midpoint_step
from trainer.diffusion.solver.posterior import mix
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class DPMpp2M(Solver):
    """DPM-Solver++(2M): second-order multistep in log-SNR on x0_hat (Lu et al. 2022, algorithm 2)."""

    kind: Literal["dpmpp_2m"] = "dpmpp_2m"

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """x_s = (sigma_s/sigma_t) x_t - alpha_s expm1(-h) D, D extrapolated from the last two estimates."""
        previous: Tensor | None = None
        for i in range(len(grid) - 1):
            t, s = grid[i], grid[i + 1]
            x0 = denoise(x, t)
            estimate = x0
            if previous is not None:
                lead = 0.5 * (s - t) / (t - grid[i - 1])
                estimate = mix(1.0 + lead, x0, -lead, previous)
            x = mix(sigma(s) / sigma(t), x, -alpha(s) * torch.expm1(0.5 * (t - s)), estimate)
            previous = x0
        return denoise(x, grid[-1]) if to_data else x


class DPMpp2SAncestral(AncestralSolver):
    """DPM-Solver++(2S): second-order single-step on x0_hat, with ancestral noise (k-diffusion)."""

    kind: Literal["dpmpp_2s_ancestral"] = "dpmpp_2s_ancestral"

    def _step(self, model: Exploding, x: Tensor, level: float, down: float) -> Tensor:
        """D at the middle in log-SNR replaces D at the start."""
        return midpoint_step(model, x, level, down, on_x0=True)

    def evaluations(self, steps: int) -> int:
        """Two per step, one for the last."""
        return 2 * steps - 1


class DPMppSDE(NoisySolver):
    """DPM-Solver++ for the SDE, single-step of second order (k-diffusion's dpmpp_sde)."""

    kind: Literal["dpmpp_sde"] = "dpmpp_sde"
    r: Annotated[float, Field(ge=1e-6, lt=1.0)] = 0.5
    """Where the intermediate evaluation lies between both levels, in log-SNR."""

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """Ancestral step to sigma (sigma'/sigma)^r, ancestral step to sigma' on the combined estimate."""
        levels = exploding_levels(grid)
        model, state = Exploding(denoise, x), to_exploding(x, levels[0])
        for i, (level, target) in enumerate(itertools.pairwise(levels)):
            middle = level * (target / level) ** self.r
            estimate = model(state, level)
            first, second = self._noises(noise, i, level, middle, target)
            halfway = self._move(state, estimate, first, level, middle)
            share = 0.5 / self.r
            estimate = (1.0 - share) * estimate + share * model(halfway, middle)
            state = self._move(state, estimate, second, level, target)
        if to_data:
            return model(state, levels[-1]).to(x.dtype)
        return to_preserving(state, levels[-1], x)

    def _move(
        self, x: Tensor, estimate: Tensor, z: Tensor | None, level: float, target: float
    ) -> Tensor:
        down, up = ancestral_step(level, target, self.eta)
        x = euler_step(x, estimate, level, down)
        return x if z is None else x + self.noise_scale * up * z.to(x)

    def _noises(
        self, noise: NoiseSource, step: int, level: float, middle: float, target: float
    ) -> tuple[Tensor | None, Tensor | None]:
        """Brownian increments over (level, middle) and (level, target), which overlap: draws 2 step and 2 step + 1."""
        if self.eta == 0.0:
            return None, None
        noise = self.source(noise)
        if isinstance(noise, PathNoise):
            return noise.between(level, middle), noise.between(level, target)
        near, far = noise(2 * step), noise(2 * step + 1)
        share = (level - middle) / (level - target)
        return near, math.sqrt(share) * near + math.sqrt(1.0 - share) * far

    def evaluations(self, steps: int) -> int:
        """Two per step, one for the last."""
        return 2 * steps - 1


class _MultistepSDE(NoisySolver):
    """Multistep DPM-Solver++ for the SDE: a step's noise has variance sigma'^2 (1 - exp(-2 eta h))."""

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """x' = exp(-h (1 + eta)) x + (1 - exp(-h (1 + eta))) D + corrections + noise."""
        levels = exploding_levels(grid)
        model, state = Exploding(denoise, x), to_exploding(x, levels[0])
        estimates: list[Tensor] = []
        widths: list[float] = []
        for i, (level, target) in enumerate(itertools.pairwise(levels)):
            estimates = [model(state, level), *estimates[:2]]
            widths = [math.log(level / target), *widths[:2]]
            # The linear part exactly, D held constant over the step; then D's slope and bend; then the noise.
            reach = widths[0] * (1.0 + self.eta)
            state = math.exp(-reach) * state - math.expm1(-reach) * estimates[0]
            state = self._corrected(state, estimates, widths, reach)
            if self.eta > 0.0:
                up = target * math.sqrt(-math.expm1(-2.0 * self.eta * widths[0]))
                state = self.noised(state, up, noise, i, level, target)
        if to_data:
            return model(state, levels[-1]).to(x.dtype)
        return to_preserving(state, levels[-1], x)

    def _corrected(
        self, x: Tensor, estimates: list[Tensor], widths: list[float], reach: float
    ) -> Tensor:
        raise NotImplementedError


class DPMpp2MSDE(_MultistepSDE):
    """DPM-Solver++(2M) for the SDE, second-order multistep (k-diffusion's dpmpp_2m_sde)."""

    kind: Literal["dpmpp_2m_sde"] = "dpmpp_2m_sde"
    correction: Literal["midpoint", "heun"] = "midpoint"
    """How the change of D enters; both are of second order."""

    def _corrected(
        self, x: Tensor, estimates: list[Tensor], widths: list[float], reach: float
    ) -> Tensor:
        if len(estimates) < 2:
            return x
        weight = phi_2(reach) if self.correction == "heun" else -0.5 * math.expm1(-reach)
        return x + weight * widths[0] / widths[1] * (estimates[0] - estimates[1])


class DPMpp3MSDE(_MultistepSDE):
    """DPM-Solver++(3M) for the SDE, third-order multistep (k-diffusion's dpmpp_3m_sde)."""

    kind: Literal["dpmpp_3m_sde"] = "dpmpp_3m_sde"

    def _corrected(
        self, x: Tensor, estimates: list[Tensor], widths: list[float], reach: float
    ) -> Tensor:
        if len(estimates) < 2:
            return x
        ratio = widths[1] / widths[0]
        slope = (estimates[0] - estimates[1]) / ratio
        if len(estimates) == 2:
            return x + phi_2(reach) * slope
        older = widths[2] / widths[0]
        slope_older = (estimates[1] - estimates[2]) / older
        bend = (slope - slope_older) / (ratio + older)
        slope = slope + bend * ratio
        return x + phi_2(reach) * slope - phi_3(reach) * bend


def phi_2(h: float) -> float:
    """expm1(-h)/h + 1, by its series where that would cancel."""
    if abs(h) < 1e-3:
        return h / 2 - h**2 / 6 + h**3 / 24
    return math.expm1(-h) / h + 1.0


def phi_3(h: float) -> float:
    """phi_2(h)/h - 1/2, by its series where that would cancel."""
    if abs(h) < 1e-2:
        return -h / 6 + h**2 / 24 - h**3 / 120 + h**4 / 720
    return phi_2(h) / h - 0.5


ExponentialSolvers = DPMpp2SAncestral | DPMppSDE | DPMpp2M | DPMpp2MSDE | DPMpp3MSDE
"""The members in this file. A new solver is one class above and one name here."""

"""How is the probability-flow ODE dx/dsigma = (x - D)/sigma solved in edm_sigma?

Karras et al. 2022 (EDM) and k-diffusion: one- and two-evaluation steps with optional churn or ancestral
noise, and linear multistep. Steps to edm_sigma 0 are Euler's: they end at D itself.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self

from numpy.polynomial import Polynomial
from pydantic import Field, model_validator

from trainer.bounds import Amount
from trainer.diffusion.solver.base import (
    Denoiser,
    Exploding,
    NoisySolver,
    Solver,
    exploding_levels,
    to_exploding,
    to_preserving,
)
from trainer.diffusion.solver.noise import NoiseSource

if TYPE_CHECKING:
    from torch import Tensor


NO_SIGNAL = 1e3
"""edm_sigma above which x is noise to a part in a thousand. Grids that begin at pure noise leave it in one step
of a ratio up to 1e6, over which an average of slopes would amplify the change of D by that ratio; such a step
averages D instead, which is second-order too."""


class _Churning(Solver):
    """Stochastic churn of EDM: raise the noise by a factor 1 + gamma before a step (algorithm 2)."""

    churn: Amount = 0.0
    """S_churn, the total amount; gamma = min(S_churn / steps, sqrt(2) - 1)."""
    churn_min: Amount = 0.0
    """S_tmin: no churn below this edm_sigma."""
    churn_max: Annotated[float, Field(ge=0.0, le=1e30)] = 1e30
    """S_tmax: no churn above this edm_sigma."""
    churn_noise: Amount = 1.0
    """S_noise: scale of the added noise."""

    @model_validator(mode="after")
    def _churns_somewhere(self) -> Self:
        if self.churn > 0.0 and self.churn_min > self.churn_max:
            raise ValueError(
                f"churn_min: {self.churn_min:g} exceeds churn_max: {self.churn_max:g}, so that nothing is churned: "
                "lower it, or raise churn_max"
            )
        return self

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """Churn, one evaluation, then the member's step; the step to 0 is Euler's."""
        levels = exploding_levels(grid) + [0.0] * to_data
        model, state = Exploding(denoise, x), to_exploding(x, levels[0])
        for i, (level, target) in enumerate(itertools.pairwise(levels)):
            state, raised = self._churned(state, level, len(levels) - 1, i, noise)
            state = self._step(model, state, raised, target)
        return to_preserving(state, levels[-1], x)

    def _churned(
        self, x: Tensor, level: float, steps: int, number: int, noise: NoiseSource
    ) -> tuple[Tensor, float]:
        gamma = min(self.churn / steps, 2.0**0.5 - 1.0)
        if gamma == 0.0 or not self.churn_min <= level <= self.churn_max:
            return x, level
        raised = level * (1.0 + gamma)
        amount = self.churn_noise * math.sqrt(raised**2 - level**2)
        return x + amount * noise(number).to(x), raised

    def _step(self, model: Exploding, x: Tensor, level: float, target: float) -> Tensor:
        raise NotImplementedError

    @property
    def stochastic(self) -> bool:
        """With churn."""
        return self.churn > 0.0


class Euler(_Churning):
    """Euler's method on the probability-flow ODE in edm_sigma (Karras et al. 2022); without churn equal to DDIM."""

    kind: Literal["euler"] = "euler"

    def _step(self, model: Exploding, x: Tensor, level: float, target: float) -> Tensor:
        """x += (sigma' - sigma) (x - D)/sigma."""
        return euler_step(x, model(x, level), level, target)


class Heun(_Churning):
    """Heun's second-order method (Karras et al. 2022, algorithms 1 and 2); the step to 0 is Euler's."""

    kind: Literal["heun"] = "heun"

    def _step(self, model: Exploding, x: Tensor, level: float, target: float) -> Tensor:
        """Euler step, then the mean of both slopes."""
        estimate = model(x, level)
        ahead = euler_step(x, estimate, level, target)
        if target == 0.0:
            return ahead
        later = model(ahead, target)
        if level > NO_SIGNAL:
            return euler_step(x, 0.5 * (estimate + later), level, target)
        slope, slope_ahead = (x - estimate) / level, (ahead - later) / target
        return x + 0.5 * (target - level) * (slope + slope_ahead)

    def evaluations(self, steps: int) -> int:
        """Two per step, one for the last."""
        return 2 * steps - 1


class DPM2(_Churning):
    """DPM-Solver-2 as k-diffusion writes it: Euler to the geometric mean, its slope for the whole step."""

    kind: Literal["dpm_2"] = "dpm_2"

    def _step(self, model: Exploding, x: Tensor, level: float, target: float) -> Tensor:
        """mid = sqrt(sigma sigma')."""
        return midpoint_step(model, x, level, target)

    def evaluations(self, steps: int) -> int:
        """Two per step, one for the last."""
        return 2 * steps - 1


class Ancestral(NamedTuple):
    """A step from one edm_sigma to the next: deterministic down to `down`, then noise `up`."""

    down: float
    up: float


def ancestral_step(level: float, target: float, eta: float) -> Ancestral:
    """down^2 + up^2 = target^2, up = eta times the posterior's deviation (k-diffusion, get_ancestral_step)."""
    if eta == 0.0:
        return Ancestral(target, 0.0)
    up = min(target, eta * math.sqrt(target**2 * (level**2 - target**2) / level**2))
    return Ancestral(math.sqrt(target**2 - up**2), up)


class AncestralSolver(NoisySolver):
    """A deterministic step below the target level, then noise up to it."""

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """The member's step to `down`, then `up` times noise."""
        levels = exploding_levels(grid) + [0.0] * to_data
        model, state = Exploding(denoise, x), to_exploding(x, levels[0])
        for i, (level, target) in enumerate(itertools.pairwise(levels)):
            down, up = ancestral_step(level, target, self.eta)
            state = self._step(model, state, level, down)
            if up > 0.0:
                state = self.noised(state, up, noise, i, level, target)
        return to_preserving(state, levels[-1], x)

    def _step(self, model: Exploding, x: Tensor, level: float, down: float) -> Tensor:
        raise NotImplementedError


class EulerAncestral(AncestralSolver):
    """Euler's method with ancestral noise (k-diffusion); with eta 1 equal to `ddpm`."""

    kind: Literal["euler_ancestral"] = "euler_ancestral"

    def _step(self, model: Exploding, x: Tensor, level: float, down: float) -> Tensor:
        return euler_step(x, model(x, level), level, down)


class DPM2Ancestral(AncestralSolver):
    """`dpm_2` with ancestral noise (k-diffusion)."""

    kind: Literal["dpm_2_ancestral"] = "dpm_2_ancestral"

    def _step(self, model: Exploding, x: Tensor, level: float, down: float) -> Tensor:
        return midpoint_step(model, x, level, down)

    def evaluations(self, steps: int) -> int:
        """Two per step, one for the last."""
        return 2 * steps - 1


class LMS(Solver):
    """Linear multistep (Adams-Bashforth on unequal steps) in edm_sigma (k-diffusion)."""

    kind: Literal["lms"] = "lms"
    order: Annotated[int, Field(ge=1, le=4)] = 4
    """Slopes remembered; the first steps use as many as there are."""

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """x += sum_j c_j d_j, c_j the integral of the j-th Lagrange polynomial; also for the step to 0."""
        levels = exploding_levels(grid) + [0.0] * to_data
        model, state = Exploding(denoise, x), to_exploding(x, levels[0])
        slopes: list[Tensor] = []
        for i in range(len(levels) - 1):
            slopes = [(state - model(state, levels[i])) / levels[i], *slopes[: self.order - 1]]
            for j, slope in enumerate(slopes):
                state = state + multistep_coefficient(len(slopes), levels, i, j) * slope
        return to_preserving(state, levels[-1], x)


def multistep_coefficient(order: int, levels: list[float], i: int, j: int) -> float:
    """Integral from levels[i] to levels[i+1] of the Lagrange polynomial of node i - j among the last `order`."""
    start, end = levels[i], levels[i + 1]
    polynomial = Polynomial([1.0])
    for k in range(order):
        if k != j:
            gap = levels[i - j] - levels[i - k]
            polynomial *= Polynomial([(start - levels[i - k]) / gap, 1.0 / gap])
    return float(polynomial.integ()(end - start))


def euler_step(x: Tensor, estimate: Tensor, level: float, target: float) -> Tensor:
    """x + (sigma' - sigma)(x - D)/sigma, written so that no digits cancel; at sigma' = 0 it is D."""
    return (target / level) * x + (1.0 - target / level) * estimate


def midpoint_step(
    model: Exploding, x: Tensor, level: float, target: float, *, on_x0: bool = False
) -> Tensor:
    """Euler to the middle in log-SNR, then all the way with what is true there: the slope, or D itself if `on_x0`."""
    estimate = model(x, level)
    if target == 0.0:
        return estimate
    middle = math.sqrt(level * target)
    halfway = euler_step(x, estimate, level, middle)
    later = model(halfway, middle)
    if on_x0 or level > NO_SIGNAL:
        return euler_step(x, later, level, target)
    return x + (target - level) * (halfway - later) / middle


ODESolvers = Euler | EulerAncestral | Heun | DPM2 | DPM2Ancestral | LMS
"""The members in this file. A new solver is one class above and one name here."""

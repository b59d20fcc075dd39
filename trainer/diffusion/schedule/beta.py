"""Which schedules are stated by the variances beta_k of a Markov chain?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from trainer.bounds import NoiseRate
from trainer.diffusion.schedule.base import Schedule, decay_from, logit_from_log
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class LinearBeta(Schedule):
    """beta_k linear in k (Ho et al. 2020); ends scaled by 1000/N as improved-diffusion does.

    Continuous limit: log alpha^2(t) = -(b0 t + (b1 - b0) t^2 / 2), b0 = 1000 beta_start, b1 = 1000 beta_end.
    """

    kind: Literal["linear_beta"] = "linear_beta"
    beta_start: NoiseRate = 1e-4
    """First beta at 1000 steps."""
    beta_end: NoiseRate = 0.02
    """Last beta at 1000 steps."""
    rescale: bool = True
    """Scale the betas by 1000/steps (improved-diffusion); false: the same betas at any N (diffusers)."""

    @model_validator(mode="after")
    def _betas_below_one(self) -> LinearBeta:
        if self.beta_end <= self.beta_start:
            raise ValueError("beta_end must be larger than beta_start")
        scale = 1000.0 / self.steps if self.steps and self.rescale else 1.0
        if self.beta_end * scale >= 1.0:
            raise ValueError(
                f"the last beta is {self.beta_end * scale:g} at steps: {self.steps}, it must stay below 1: "
                f"use steps > {math.floor(1000 * self.beta_end)}, or rescale: false"
            )
        return self

    def table(self, steps: int) -> Tensor:
        """cumprod(1 - beta_k), as a logit."""
        scale = 1000.0 / steps if self.rescale else 1.0
        beta = torch.linspace(
            self.beta_start * scale, self.beta_end * scale, steps, dtype=torch.float64
        )
        return logit_from_log(torch.cumsum(torch.log1p(-beta), 0))

    def continuous(self, t: Tensor) -> Tensor:
        """The variance-preserving SDE of the same betas (Song et al. 2021, eq. 11)."""
        start, slope = self._rates()
        return logit_from_log(-(start * t + 0.5 * slope * t * t))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Root of the quadratic, in the form without cancellation."""
        start, slope = self._rates()
        decay = decay_from(log_snr)
        return 2.0 * decay / (start + torch.sqrt(start * start + 2.0 * slope * decay))

    def _rates(self) -> tuple[float, float]:
        return 1000.0 * self.beta_start, 1000.0 * (self.beta_end - self.beta_start)


class ScaledLinearBeta(Schedule):
    """sqrt(beta_k) linear in k, as latent diffusion was trained (Rombach et al. 2022; diffusers' scaled_linear).

    Continuous limit: log alpha^2 = -1000 (a^2 t + a d t^2 + d^2 t^3/3), a = sqrt(beta_start), a + d = sqrt(beta_end).
    """

    kind: Literal["scaled_linear_beta"] = "scaled_linear_beta"
    beta_start: NoiseRate = 0.00085
    """First beta at 1000 steps."""
    beta_end: NoiseRate = 0.012
    """Last beta at 1000 steps."""
    rescale: bool = True
    """Scale the betas by 1000/steps; false: the same betas at any N (diffusers)."""

    @model_validator(mode="after")
    def _betas_below_one(self) -> ScaledLinearBeta:
        if self.beta_end <= self.beta_start:
            raise ValueError("beta_end must be larger than beta_start")
        if self.beta_end * self._scale(self.steps) >= 1.0:
            raise ValueError(
                f"the last beta is {self.beta_end * self._scale(self.steps):g} at steps: {self.steps}, "
                f"it must stay below 1: use steps > {math.floor(1000 * self.beta_end)}, or rescale: false"
            )
        return self

    def table(self, steps: int) -> Tensor:
        """cumprod(1 - beta_k), as a logit."""
        root = torch.linspace(
            math.sqrt(self.beta_start), math.sqrt(self.beta_end), steps, dtype=torch.float64
        )
        beta = root * root * self._scale(steps)
        return logit_from_log(torch.cumsum(torch.log1p(-beta), 0))

    def continuous(self, t: Tensor) -> Tensor:
        """The cubic of the class's formula."""
        start, rise = self._roots()
        cubic = t * (start * start + t * (start * rise + t * rise * rise / 3.0))
        return logit_from_log(-1000.0 * cubic)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Root of the cubic, in the form without cancellation."""
        start, rise = self._roots()
        decay = 3.0 * decay_from(log_snr) / 1000.0
        root = (start**3 + rise * decay) ** (1.0 / 3.0)
        return decay / (root * root + root * start + start * start)

    def _roots(self) -> tuple[float, float]:
        return math.sqrt(self.beta_start), math.sqrt(self.beta_end) - math.sqrt(self.beta_start)

    def _scale(self, steps: int | None) -> float:
        return 1000.0 / steps if steps and self.rescale else 1.0


class ConstantBeta(Schedule):
    """beta_k = 1 - terminal^(1/N), so alpha^2(t) = terminal^t (Diffsched's "constant")."""

    kind: Literal["constant_beta"] = "constant_beta"
    terminal: Annotated[float, Field(ge=1e-12, lt=1.0)] = 0.01
    """alpha^2 that is left at t = 1; generation starts from 0, so keep it small."""

    def continuous(self, t: Tensor) -> Tensor:
        """-log(terminal^-t - 1)."""
        return logit_from_log(t * math.log(self.terminal))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """log alpha^2 / log terminal."""
        return decay_from(log_snr) / -math.log(self.terminal)


class Hyperbolic(Schedule):
    """beta_k = 1/(N - k), so alpha^2(t) = 1 - t (Diffsched); the table clamps beta_k, which keeps 1/(2N) at its end."""

    kind: Literal["hyperbolic"] = "hyperbolic"
    min_beta: Annotated[float, Field(ge=0.0, lt=1.0)] = 1e-4
    """Discrete tables clip beta_k from below here."""
    max_beta: Annotated[float, Field(ge=1e-12, lt=1.0)] = 0.5
    """Discrete tables clip beta_k from above here: the last step would be 1."""

    @model_validator(mode="after")
    def _ordered(self) -> Hyperbolic:
        if self.min_beta >= self.max_beta:
            raise ValueError("min_beta must be smaller than max_beta")
        return self

    def table(self, steps: int) -> Tensor:
        """cumprod(1 - clip(1/(N - k))), as a logit."""
        beta = 1.0 / torch.arange(steps, 0, -1, dtype=torch.float64)
        return logit_from_log(
            torch.cumsum(torch.log1p(-beta.clamp(self.min_beta, self.max_beta)), 0)
        )

    def continuous(self, t: Tensor) -> Tensor:
        """log((1 - t)/t)."""
        return torch.log1p(-t) - torch.log(t)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """sigma^2."""
        return torch.sigmoid(-log_snr)


class Legacy(Schedule):
    """The product of 1 - beta in continuous time (v-diffusion's "legacy"): log alpha^2 = N int_0^t log(1 - beta) ds.

    With beta(s) = b0 + (b1 - b0) s and N = 1000; `linear_beta` keeps only the first order, -beta, in the logarithm.
    """

    finite_start: ClassVar[bool] = True
    kind: Literal["legacy"] = "legacy"
    beta_start: Annotated[float, Field(ge=1e-12, lt=0.5)] = 1e-4
    """b0."""
    beta_end: Annotated[float, Field(ge=1e-12, lt=0.5)] = 0.02
    """b1."""
    floor: NoiseRate = 1e-9
    """-log alpha^2 is raised by this where noise is computed: it bounds log-SNR at t = 0 (20.7)."""

    @model_validator(mode="after")
    def _rising(self) -> Legacy:
        if self.beta_end <= self.beta_start:
            raise ValueError("beta_end must be larger than beta_start")
        return self

    def continuous(self, t: Tensor) -> Tensor:
        """log alpha^2 - log(1 - alpha^2), the latter with the floor."""
        decay = self._decay(t)
        return -decay - torch.log(-torch.expm1(-(decay + self.floor)))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Newton's iteration from the root of the quadratic part; the integral is nearly quadratic."""
        decay = torch.log1p((torch.exp(-log_snr) + math.expm1(-self.floor)).clamp_min(0.0)) / 1000.0
        rise = self.beta_end - self.beta_start
        linear = -math.log1p(-self.beta_start)
        t = 2.0 * decay / (linear + torch.sqrt(linear**2 + 2.0 * rise * decay))
        for _ in range(4):
            slope = -torch.log1p(-self.beta_start - rise * t)
            t = (t - (self._decay(t) / 1000.0 - decay) / slope).clamp(0.0, 2.0)
        return t

    def continuous_slowness(self, log_snr: Tensor) -> Tensor:
        """By the chain rule over decay = -log alpha^2: d decay/dt = -1000 log(1 - beta)."""
        t = self.continuous_time(log_snr)
        rate = -1000.0 * torch.log1p(-self.beta_start - (self.beta_end - self.beta_start) * t)
        return 1.0 / (rate * (1.0 + 1.0 / torch.expm1(self._decay(t) + self.floor)))

    def _decay(self, t: Tensor) -> Tensor:
        """-log alpha^2 = -1000/d [x log x - x] from a to a - d t, as a series in z = d t / a < 0.5."""
        start, rise = 1.0 - self.beta_start, self.beta_end - self.beta_start
        z = rise * t / start
        series = torch.zeros_like(z)
        for n in range(30, 1, -1):
            series = series * z + 1.0 / (n * (n - 1))
        return 1000.0 * (start / rise * series * z * z - t * math.log(start))


BetaSchedules = LinearBeta | ScaledLinearBeta | ConstantBeta | Hyperbolic | Legacy
"""The members in this file. A new schedule is one class above and one name here."""

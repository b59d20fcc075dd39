"""How noisy is time t? A schedule maps t in [0, 1] (0 is data, 1 is noise) to log-SNR, and back.

With `steps: N` a schedule is its published discrete table: training visits only the N table
entries, table entry k standing at t = (k + 1) / N. With `steps: null` it is the continuous limit.
"""

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from trainer.spec import Spec

DISCRETE_MIN = 2
LOG_SNR_LIMIT = 30.0
"""Log-SNR is kept within +-30 (alpha or sigma 3e-7), so that both ends of every schedule are finite."""

SLOPE_STEP = 1e-3
"""Half-width in log-SNR of the central difference behind `Schedule.slowness`."""


class Schedule(Spec):
    """log_snr(t), strictly decreasing: the continuous curve and, if one was published, the table."""

    finite_start: ClassVar[bool] = False
    """Whether log_snr(0) is finite in the continuous limit, so that a grid may include t = 0."""

    steps: Annotated[int, Field(ge=DISCRETE_MIN)] | None = None
    """Number of discrete noise levels of the published table; null: the continuous limit."""

    def continuous(self, t: Tensor) -> Tensor:
        """log_snr at t in [0, 1] in the continuous limit; may be infinite at the ends."""
        raise NotImplementedError

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Inverse of `continuous`, within [0, 1]."""
        raise NotImplementedError

    def table(self, steps: int) -> Tensor:
        """log_snr of the `steps` discrete levels, float64 [steps]; entry k stands at t = (k + 1) / steps."""
        level = self.continuous(torch.arange(1, steps + 1, dtype=torch.float64) / steps)
        return level.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)

    def log_snr(self, t: Tensor) -> Tensor:
        """log_snr at t in [0, 1], any shape. Discrete: the table, joined by straight lines in t."""
        if self.steps is None:
            return self.continuous(t).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
        nodes, values = self._nodes(t)
        return _interpolate(t, nodes, values)

    def time(self, log_snr: Tensor) -> Tensor:
        """The t in [0, 1] at which the schedule has this log-SNR (clamped to its ends), any shape."""
        if self.steps is None:
            return self.continuous_time(log_snr).clamp(0.0, 1.0)
        nodes, values = self._nodes(log_snr)
        return _interpolate(-log_snr, -values, nodes).clamp(0.0, 1.0)

    def training_time(self, u: Tensor) -> Tensor:
        """Times that training visits for uniform u in (0, 1): the next table entry, or u itself."""
        if self.steps is None:
            return u
        return (torch.floor(u * self.steps) + 1.0).clamp(1.0, float(self.steps)) / self.steps

    def snap(self, log_snr: Tensor) -> Tensor:
        """The nearest table entry (in t); a continuous schedule returns `log_snr` as it is."""
        if self.steps is None:
            return log_snr
        return self.log_snr((self.time(log_snr) * self.steps).round().clamp(min=1.0) / self.steps)

    def slowness(self, log_snr: Tensor) -> Tensor:
        """-dt/dlog_snr >= 0: the density over log-SNR of a time drawn uniformly from [0, 1]."""
        ahead, behind = self.time(log_snr - SLOPE_STEP), self.time(log_snr + SLOPE_STEP)
        return (ahead - behind) / (2.0 * SLOPE_STEP)

    def grid(self, steps: int) -> Tensor:
        """Noise levels for `steps` solver steps, float64 [steps], from t = 1 towards data.

        The step after the last level goes to x0. Times are evenly spaced from 1 down to the first
        table entry, to 0 where log_snr(0) is finite, else to 1/steps.
        """
        if self.steps is not None and steps > self.steps:
            raise ValueError(
                f"{steps} solver steps on a schedule of {self.steps} levels: use steps <= {self.steps}"
            )
        first = 1.0 / (self.steps or steps)
        if self.steps is None and self.finite_start:
            first = 0.0
        t = (
            torch.linspace(1.0, first, steps, dtype=torch.float64)
            if steps > 1
            else torch.ones(1, dtype=torch.float64)
        )
        if self.steps is not None:
            t = (t * self.steps).round() / self.steps
        return self.log_snr(t)

    def ends(self) -> tuple[float, float]:
        """log_snr at the cleanest and at the noisiest level that training visits."""
        first = 0.0 if self.steps is None else 1.0 / self.steps
        clean, noise = self.log_snr(torch.tensor([first, 1.0], dtype=torch.float64)).tolist()
        return clean, noise

    def _nodes(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Knots of the piecewise-linear curve through the table, prolonged to t = 0 on its first slope."""
        assert self.steps is not None
        values = self.table(self.steps)
        values = torch.cat([2.0 * values[:1] - values[1:2], values])
        nodes = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        return nodes.to(like), values.to(like)


class LinearBeta(Schedule):
    """beta_k linear in k (Ho et al. 2020); ends scaled by 1000/N as improved-diffusion does.

    Continuous limit: log alpha^2(t) = -(b0 t + (b1 - b0) t^2 / 2), b0 = 1000 beta_start, b1 = 1000 beta_end.
    """

    kind: Literal["linear_beta"] = "linear_beta"
    beta_start: PositiveFloat = 1e-4
    """First beta at 1000 steps."""
    beta_end: PositiveFloat = 0.02
    """Last beta at 1000 steps."""
    rescale: bool = True
    """Scale the betas by 1000/steps (improved-diffusion); false: the same betas at any N (diffusers)."""

    @model_validator(mode="after")
    def _betas_below_one(self) -> "LinearBeta":
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
        return _logit_from_log(torch.cumsum(torch.log1p(-beta), 0))

    def continuous(self, t: Tensor) -> Tensor:
        """The variance-preserving SDE of the same betas (Song et al. 2021, eq. 11)."""
        start, slope = self._rates()
        return _logit_from_log(-(start * t + 0.5 * slope * t * t))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """Root of the quadratic, in the form without cancellation."""
        start, slope = self._rates()
        decay = torch.nn.functional.softplus(-log_snr)
        return 2.0 * decay / (start + torch.sqrt(start * start + 2.0 * slope * decay))

    def _rates(self) -> tuple[float, float]:
        return 1000.0 * self.beta_start, 1000.0 * (self.beta_end - self.beta_start)


class Cosine(Schedule):
    """alpha^2(t) = f(t)/f(0), f(t) = cos^2(pi/2 (t + s)/(1 + s)) (Nichol & Dhariwal 2021, eq. 17)."""

    kind: Literal["cosine"] = "cosine"
    offset: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.008
    """s of the paper: keeps the first noise level from vanishing."""
    max_beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999
    """Discrete tables clip beta_k here, which bounds the last noise level."""

    def table(self, steps: int) -> Tensor:
        """beta_k = min(1 - f((k+1)/N)/f(k/N), max_beta), accumulated."""
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = torch.cos(self._phase(t)) ** 2
        beta = (1.0 - f[1:] / f[:-1]).clamp(max=self.max_beta)
        return _logit_from_log(torch.cumsum(torch.log1p(-beta), 0))

    def continuous(self, t: Tensor) -> Tensor:
        """logit of cos^2(phase(t)) / cos^2(phase(0)); sin^2 difference keeps the clean end accurate."""
        start, phase = self._start(), self._phase(t)
        log_alpha_squared = 2.0 * (
            torch.log(torch.cos(phase).clamp_min(1e-30)) - math.log(math.cos(start))
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


class LogLinear(Schedule):
    """log_snr falls on a straight line from `log_snr_max` to `log_snr_min` (v-diffusion's "sigmoid")."""

    finite_start: ClassVar[bool] = True
    kind: Literal["log_linear"] = "log_linear"
    log_snr_max: float = 20.0
    """log-SNR at t = 0."""
    log_snr_min: float = -20.0
    """log-SNR at t = 1."""

    @model_validator(mode="after")
    def _falling(self) -> "LogLinear":
        if self.log_snr_min >= self.log_snr_max:
            raise ValueError("log_snr_min must be smaller than log_snr_max")
        return self

    def continuous(self, t: Tensor) -> Tensor:
        """log_snr_max - t (log_snr_max - log_snr_min)."""
        return self.log_snr_max - t * (self.log_snr_max - self.log_snr_min)

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """The same line, solved for t."""
        return (self.log_snr_max - log_snr) / (self.log_snr_max - self.log_snr_min)


class Interpolant(Schedule):
    """x_t = (1 - s) x0 + s eps, s = shift t / (1 + (shift - 1) t): the straight path of flow matching.

    edm_sigma = s/(1 - s), so log_snr = 2 log((1 - t) / (shift t)) (Liu et al. 2022; shift: SD3, eq. 23).
    """

    kind: Literal["interpolant"] = "interpolant"
    shift: PositiveFloat = 1.0
    """Multiplies edm_sigma at every t; more than 1 spends more time in noise, as larger images need."""

    def continuous(self, t: Tensor) -> Tensor:
        """2 log((1 - t) / (shift t))."""
        return 2.0 * (torch.log1p(-t) - torch.log(t) - math.log(self.shift))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        """1 / (1 + shift exp(log_snr / 2))."""
        return torch.sigmoid(-0.5 * log_snr - math.log(self.shift))


def _logit_from_log(log_alpha_squared: Tensor) -> Tensor:
    """log(a/(1-a)) from log a, accurate for a near 1: -log(expm1(-log a))."""
    return -torch.log(torch.expm1(-log_alpha_squared))


def _interpolate(x: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    """Piecewise-linear through increasing (nodes, values), prolonged on the end slopes."""
    right = torch.searchsorted(nodes, x.contiguous()).clamp(1, len(nodes) - 1)
    left = right - 1
    weight = (x - nodes[left]) / (nodes[right] - nodes[left])
    return values[left] + weight * (values[right] - values[left])


AnySchedule = Annotated[LinearBeta | Cosine | LogLinear | Interpolant, Field(discriminator="kind")]
"""The members of the family. A new schedule is one class above and one name here."""

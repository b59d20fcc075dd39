"""How much does a noise level count? w(log_snr), always stated on the epsilon-MSE.

The same w serves every prediction: loss = w SNR |x0 - x0_hat|^2, so a weighting published for another
space is converted here once: from the x0-MSE by 1/SNR, from velocity's by 1 + 1/SNR, from flow's by
(1 + edm_sigma)^2. SNR = exp(log_snr).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.bounds import Amount, Count, Exponent, Level, Scale
from trainer.diffusion.schedule import Schedule
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Weighting(Spec):
    """Per-example factor on |eps - eps_hat|^2 as a function of log-SNR."""

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """w(log_snr) >= 0, same shape, dtype and device; few members need the schedule (ValueError without it)."""
        raise NotImplementedError


class Simple(Weighting):
    """w = 1: the epsilon-MSE itself, L_simple (Ho et al. 2020, eq. 14)."""

    kind: Literal["simple"] = "simple"

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """One everywhere."""
        return torch.ones_like(log_snr)


class Data(Weighting):
    """w = 1/SNR: the plain x0-MSE (v-diffusion's "constant")."""

    kind: Literal["data"] = "data"

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """exp(-log_snr)."""
        return torch.exp(-log_snr)


class TruncatedSNR(Weighting):
    """w = max(1, 1/SNR): the larger of x0-MSE and epsilon-MSE (Salimans & Ho 2022, eq. 9)."""

    kind: Literal["truncated_snr"] = "truncated_snr"

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """max(1, SNR) on the x0-MSE."""
        return torch.exp(-log_snr).clamp_min(1.0)


class P2(Weighting):
    """w = scale / (k + SNR)^gamma (Choi et al. 2022, eq. 8)."""

    kind: Literal["p2"] = "p2"
    gamma: Exponent = 0.5
    """Strength; 0 is `simple`."""
    k: Amount = 1.0
    """SNR at which the weight begins to fall."""
    scale: Scale = 1.0
    """Constant factor; 1/mean(w) makes the loss comparable with `simple`."""

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """scale (k + exp(log_snr))^-gamma."""
        return self.scale * (self.k + torch.exp(log_snr)) ** -self.gamma


class MinSNR(Weighting):
    """w = min(SNR, gamma) / SNR (Hang et al. 2023, eq. 8: min(SNR, gamma) on the x0-MSE)."""

    kind: Literal["min_snr"] = "min_snr"
    gamma: Scale = 5.0
    """SNR above which a level counts no more than at gamma."""

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """min(1, gamma / SNR)."""
        return (self.gamma * torch.exp(-log_snr)).clamp(max=1.0)


class SoftMinSNR(Weighting):
    """w = gamma / (SNR + gamma): SNR gamma/(SNR + gamma) on the x0-MSE (Crowson et al. 2024, HDiT, section 4.4)."""

    kind: Literal["soft_min_snr"] = "soft_min_snr"
    gamma: Scale = 4.0
    """SNR around which the weight falls; k-diffusion's is 1/sigma_data^2."""

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """1 / (1 + SNR/gamma)."""
        return torch.sigmoid(math.log(self.gamma) - log_snr)


class Debias(Weighting):
    """w = 1/sqrt(SNR) (Yu et al. 2024, debiased estimation, eq. 12)."""

    kind: Literal["debias"] = "debias"

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """exp(-log_snr/2)."""
        return torch.exp(-0.5 * log_snr)


class Velocity(Weighting):
    """w = 1 + 1/SNR: the plain MSE of v = alpha eps - sigma x0 (Salimans & Ho 2022, section 4)."""

    kind: Literal["velocity"] = "velocity"

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """1 / alpha^2."""
        return 1.0 + torch.exp(-log_snr)


class EDM(Weighting):
    """lambda = (edm_sigma^2 + sigma_data^2) / (edm_sigma sigma_data)^2 on the x0-MSE (Karras et al. 2022, table 1)."""

    kind: Literal["edm"] = "edm"
    sigma_data: Scale = 0.5
    """Standard deviation of the data."""

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """1 + edm_sigma^2 / sigma_data^2."""
        return 1.0 + torch.exp(-log_snr) / self.sigma_data**2


class Elbo(Weighting):
    """The variational bound: -dlog_snr/dt / 2, or N/2 (SNR_s/SNR_t - 1) on a table (Kingma et al. 2021, eq. 14, 18).

    A bound for uniform time; a timestep sampler that looks elsewhere needs `unbiased: true`.
    """

    kind: Literal["elbo"] = "elbo"

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """1/(2 slowness), or the table's ratio; the first entry's s lies on the curve prolonged to t = 0."""
        return _bound(log_snr, _needed(schedule, "elbo"))


class DiffschedWeighted(Weighting):
    """One step's share of the bound, `elbo`/N: w = beta_t / (2 (1 - beta_t)(1 - alpha_s^2)) (Diffsched "weighted").

    Ho et al. 2020, eq. 12, with the posterior's variance.
    """

    kind: Literal["diffsched_weighted"] = "diffsched_weighted"
    nominal_steps: Count = 1000
    """N that is assumed on a continuous schedule."""

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """(SNR_s/SNR_t - 1)/2."""
        return _per_step(log_snr, _needed(schedule, "diffsched_weighted"), self.nominal_steps)


class Sigmoid(Weighting):
    """sigmoid(bias - log_snr) on the bound's integrand over log-SNR (Kingma & Gao 2023, section 4; bias 2)."""

    kind: Literal["sigmoid"] = "sigmoid"
    bias: Level = 2.0
    """log-SNR above which levels count less."""
    on_bound: bool = True
    """As published: times `elbo`, so that the schedule does not matter; false: on the epsilon-MSE of uniform time."""

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """sigmoid(bias - log_snr) x elbo."""
        shape = torch.sigmoid(self.bias - log_snr)
        return shape * _bound(log_snr, _needed(schedule, "sigmoid")) if self.on_bound else shape


class _OnFlow(Weighting):
    """A factor of the flow time s = sigma/(alpha + sigma)."""

    space: Literal["flow", "data"] = "flow"
    """The MSE that the factor multiplies: that of eps - x0, or that of x0."""

    def factor(self, s: Tensor, rest: Tensor) -> Tensor:
        """The published factor at s, with rest = 1 - s."""
        raise NotImplementedError

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        """The factor, times (1 + edm_sigma)^2 from flow or 1/SNR from x0."""
        s, rest = torch.sigmoid(-0.5 * log_snr), torch.sigmoid(0.5 * log_snr)
        change = rest**-2 if self.space == "flow" else torch.exp(-log_snr)
        return self.factor(s, rest) * change


class SigmaSqrt(_OnFlow):
    """s^-2 on the x0-MSE, which is the plain MSE of the flow (diffusers' SD3 training, "sigma_sqrt")."""

    kind: Literal["sigma_sqrt"] = "sigma_sqrt"
    space: Literal["flow", "data"] = "data"
    """The MSE that the factor multiplies: that of eps - x0, or that of x0 (diffusers' preconditioned output)."""

    def factor(self, s: Tensor, rest: Tensor) -> Tensor:
        """s^-2."""
        return s**-2


class CosMap(_OnFlow):
    """2 / (pi (1 - 2s + 2s^2)) on the flow's MSE: the density of `cosmap` as a weight (Esser et al. 2024, eq. 21)."""

    kind: Literal["cosmap"] = "cosmap"

    def factor(self, s: Tensor, rest: Tensor) -> Tensor:
        """2 / (pi (s^2 + (1 - s)^2))."""
        return (2.0 / math.pi) / (s * s + rest * rest)


def _needed(schedule: Schedule | None, kind: str) -> Schedule:
    if schedule is None:
        raise ValueError(f"weighting {kind} depends on the schedule: pass it to weight()")
    return schedule


def _bound(log_snr: Tensor, schedule: Schedule) -> Tensor:
    return (schedule.steps or 1) * _per_step(log_snr, schedule, 1)


def _per_step(log_snr: Tensor, schedule: Schedule, nominal_steps: int) -> Tensor:
    """(SNR_s/SNR_t - 1)/2 of a table's step, or its limit over nominal_steps; zero where the schedule never goes."""
    slowness = schedule.slowness(log_snr)
    if schedule.steps is None:
        value = 0.5 / (nominal_steps * slowness)
    else:
        before = schedule.log_snr(schedule.time(log_snr) - 1.0 / schedule.steps)
        value = 0.5 * torch.expm1(before - log_snr)
    return torch.where(slowness > 0.0, value, 0.0)


AnyWeighting = Annotated[
    Simple
    | Data
    | TruncatedSNR
    | Velocity
    | P2
    | MinSNR
    | SoftMinSNR
    | Debias
    | Sigmoid
    | EDM
    | Elbo
    | DiffschedWeighted
    | SigmaSqrt
    | CosMap,
    Field(discriminator="kind"),
]
"""The members of the family. A new weighting is one class above and one name here."""

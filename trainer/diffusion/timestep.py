"""Where does training look? A timestep sampler is a quantile: uniform u in (0, 1) to log-SNR.

u = 0 is the clean end and u = 1 the noisy end for every member, so that trials which share u
look at comparable noise. Density and importance weight are stated over log-SNR.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from trainer.diffusion.schedule import Schedule
from trainer.spec import Spec

QUANTILE_KNOTS = 4096
"""Intervals of the midpoint rule behind a continuous quantile; its error is below 1e-6 in u."""


class TimestepSampler(Spec):
    """Distribution of the training noise levels, relative to the schedule."""

    draw: Literal["independent", "stratified", "antithetic"] = "independent"
    """How u is drawn in a global batch: independently, one per equal slice of (0, 1), or in pairs u, 1 - u."""
    unbiased: bool = False
    """Weigh each example by uniform density / own density: the objective stays that of uniform time."""

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """Noise levels for u in (0, 1), any shape; on a discrete schedule always entries of its table."""
        raise NotImplementedError

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Probability density over log-SNR (a discrete schedule is read as its piecewise-linear curve)."""
        raise NotImplementedError

    def importance(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Loss weight that undoes the sampling: 1 if biased by choice, else uniform density / density."""
        if not self.unbiased:
            return torch.ones_like(log_snr)
        return schedule.slowness(log_snr) / self.density(log_snr, schedule)


class Uniform(TimestepSampler):
    """t uniform in [0, 1], or uniform over the table (Ho et al. 2020, algorithm 1)."""

    kind: Literal["uniform"] = "uniform"

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """log_snr(u) of the schedule."""
        return schedule.log_snr(schedule.training_time(u))

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """-dt/dlog_snr."""
        return schedule.slowness(log_snr)

    def importance(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Always one."""
        return torch.ones_like(log_snr)


class P2(TimestepSampler):
    """The under-sampler: p(t) proportional to 1/(k + SNR)^gamma, the P2 weight of Choi et al. 2022 (eq. 8).

    Biased on purpose, as its authors ran it: it optimizes the P2 objective by density instead of weight.
    """

    kind: Literal["p2"] = "p2"
    gamma: NonNegativeFloat = 0.5
    """Strength; 0 is uniform."""
    k: NonNegativeFloat = 1.0
    """SNR at which under-sampling sets in."""
    uniform_mix: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of draws taken uniformly; bounds the importance weights (0.1 keeps them below 10)."""

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """Inverse of the cumulative table, by bisection; linear between knots in continuous time."""
        probability = self.probability(schedule).to(u)
        knots = len(probability)
        upper = torch.cumsum(probability, 0)
        index = torch.searchsorted(upper, u.contiguous(), right=True).clamp(max=knots - 1)
        if schedule.steps is not None:
            return schedule.log_snr((index + 1.0).to(u) / knots)
        within = (u - (upper[index] - probability[index])) / probability[index]
        return schedule.log_snr((index + within.clamp(0.0, 1.0)) / knots)

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Uniform density times the normalized, mixed weight."""
        tilt = self._weight(log_snr) / self._mean_weight(schedule)
        return schedule.slowness(log_snr) * (self.uniform_mix + (1.0 - self.uniform_mix) * tilt)

    def importance(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """1 / (N p_t), exactly, without a density in between."""
        if not self.unbiased:
            return torch.ones_like(log_snr)
        tilt = self._weight(log_snr) / self._mean_weight(schedule)
        return 1.0 / (self.uniform_mix + (1.0 - self.uniform_mix) * tilt)

    def probability(self, schedule: Schedule) -> Tensor:
        """Probability of each table entry [N], or of each of the quantile's equal cells of t, float64."""
        weight = self._weight(_levels(schedule))
        return self.uniform_mix / len(weight) + (1.0 - self.uniform_mix) * weight / weight.sum()

    def _weight(self, log_snr: Tensor) -> Tensor:
        return (self.k + torch.exp(log_snr)) ** -self.gamma

    def _mean_weight(self, schedule: Schedule) -> float:
        return float(self._weight(_levels(schedule)).mean())


class LogNormal(TimestepSampler):
    """log(edm_sigma) normal with `mean` and `std` (Karras et al. 2022, table 1)."""

    kind: Literal["lognormal"] = "lognormal"
    mean: float = -1.2
    """P_mean of EDM."""
    std: PositiveFloat = 1.2
    """P_std of EDM."""

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """-2 (mean + std Phi^-1(u)), moved to the nearest level of a discrete schedule."""
        return schedule.snap(-2.0 * (self.mean + self.std * torch.special.ndtri(u)))

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Normal in log-SNR with mean -2 mean and deviation 2 std."""
        z = (log_snr + 2.0 * self.mean) / (2.0 * self.std)
        return torch.exp(-0.5 * z * z) / (2.0 * self.std * (2.0 * torch.pi) ** 0.5)

    def importance(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Uniform density / density; on a discrete schedule 1 / (N x probability of the table entry)."""
        if not self.unbiased or schedule.steps is None:
            return super().importance(log_snr, schedule)
        entry = (schedule.time(log_snr) * schedule.steps).round().clamp(1, schedule.steps)
        below = self._rank(schedule.log_snr((entry + 0.5) / schedule.steps))
        above = self._rank(schedule.log_snr((entry - 0.5) / schedule.steps))
        below = torch.where(entry == schedule.steps, 1.0, below)
        above = torch.where(entry == 1, 0.0, above)
        return 1.0 / (schedule.steps * (below - above)).clamp_min(1e-30)

    def _rank(self, log_snr: Tensor) -> Tensor:
        """The u that gives this log-SNR in continuous time."""
        return torch.special.ndtr((-0.5 * log_snr - self.mean) / self.std)


def spread(u: Tensor, index: Tensor, batch_size: int, draw: str) -> Tensor:
    """Turn independent u [B] of the examples `index` [B] into stratified or antithetic ones.

    stratified: u_j = (j + u_j) / batch_size for place j in the global batch. antithetic: every odd
    example takes 1 - u of the even one before it, which the caller draws for both. Functions of the
    global index only, so any division of the batch over ranks gives the same values.
    """
    if draw == "stratified":
        return ((index % batch_size).to(u) + u) / batch_size
    if draw == "antithetic":
        return torch.where(index % 2 == 0, u, 1.0 - u)
    return u


def _levels(schedule: Schedule) -> Tensor:
    """log_snr of the table, or at the midpoints of equal cells of t, float64."""
    if schedule.steps is not None:
        return schedule.table(schedule.steps)
    return schedule.log_snr(
        (torch.arange(QUANTILE_KNOTS, dtype=torch.float64) + 0.5) / QUANTILE_KNOTS
    )


AnyTimestepSampler = Annotated[Uniform | P2 | LogNormal, Field(discriminator="kind")]
"""The members of the family. A new timestep sampler is one class above and one name here."""

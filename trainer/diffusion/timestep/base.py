"""What is a timestep sampler? A quantile: uniform u in (0, 1) to log-SNR.

u = 0 is the clean end and u = 1 the noisy end for every member, so that trials which share u
look at comparable noise. Density and importance weight are stated over log-SNR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.diffusion.schedule import LOG_SNR_LIMIT, Schedule
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn


QUANTILE_KNOTS = 4096
"""Intervals of the midpoint rule behind a continuous quantile; its error is below 1e-6 in u."""
RARE = 1e-30
"""Floor of a relative density that is divided by."""


class TimestepSampler(Spec):
    """Distribution of the training noise levels, relative to the schedule."""

    learns: ClassVar[bool] = False
    """Whether it changes while it trains: its own methods are its start, those of `live` its present."""

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

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Density / density of uniform time; on a discrete schedule exactly N x probability of the table entry."""
        raise NotImplementedError

    def importance(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Loss weight that undoes the sampling: 1 if biased by choice, else 1 / relative."""
        if not self.unbiased:
            return torch.ones_like(log_snr)
        return 1.0 / self.relative(log_snr, schedule).clamp_min(RARE)

    def check(self, schedule: Schedule) -> None:
        """Raise ValueError, naming the field, if this sampler does not fit the schedule."""

    def build(self, schedule: Schedule) -> nn.Module | None:
        """What a sampler that learns remembers; it belongs to the checkpoint."""
        return None

    def live(self, memory: nn.Module) -> TimestepSampler:
        """This sampler on the module that `build` gave, as it stands at every call."""
        raise NotImplementedError


class LevelLaw(TimestepSampler):
    """A distribution of log-SNR itself, the same for every schedule; a discrete one takes its nearest entry."""

    def quantile(self, u: Tensor) -> Tensor:
        """log-SNR for u, falling."""
        raise NotImplementedError

    def rank(self, log_snr: Tensor) -> Tensor:
        """Inverse of `quantile`: the probability of cleaner levels."""
        raise NotImplementedError

    def law(self, log_snr: Tensor) -> Tensor:
        """Density over log-SNR, -d rank/d log_snr."""
        raise NotImplementedError

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The quantile, moved to the nearest level of a discrete schedule."""
        return schedule.snap(self.quantile(u).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT))

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """The law."""
        return self.law(log_snr)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Density / slowness, or N x probability of the levels that are nearest to the entry."""
        if schedule.steps is None:
            return self.density(log_snr, schedule) / schedule.slowness(log_snr).clamp_min(RARE)
        entry = (schedule.time(log_snr) * schedule.steps).round().clamp(1, schedule.steps)
        below = self.probability_cleaner(schedule.log_snr((entry + 0.5) / schedule.steps), schedule)
        above = self.probability_cleaner(schedule.log_snr((entry - 0.5) / schedule.steps), schedule)
        below = torch.where(entry == schedule.steps, 1.0, below)
        above = torch.where(entry == 1, 0.0, above)
        return schedule.steps * (below - above)

    def importance(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Uniform density / own; zero where the schedule never goes."""
        if not self.unbiased or schedule.steps is not None:
            return super().importance(log_snr, schedule)
        return schedule.slowness(log_snr) / self.density(log_snr, schedule).clamp_min(RARE)

    def probability_cleaner(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Share of the draws that are cleaner than log_snr."""
        return self.rank(log_snr)


class TimeLaw(TimestepSampler):
    """A distribution of the schedule's time t, so that noise levels follow the schedule."""

    def time_quantile(self, u: Tensor) -> Tensor:
        """t for u, rising."""
        raise NotImplementedError

    def time_rank(self, t: Tensor) -> Tensor:
        """Inverse of `time_quantile`."""
        raise NotImplementedError

    def time_density(self, t: Tensor) -> Tensor:
        """Density over t, d rank/dt."""
        raise NotImplementedError

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """log_snr(t(u)); on a discrete schedule of the next table entry."""
        t = self.time_quantile(u).clamp(0.0, 1.0)
        return schedule.log_snr(schedule.training_time(t))

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Density over t x slowness."""
        return schedule.slowness(log_snr) * self.time_density(schedule.time(log_snr))

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Density over t, or N x the probability of the entry's cell."""
        t = schedule.time(log_snr)
        if schedule.steps is None:
            return self.time_density(t)
        entry = (t * schedule.steps).round().clamp(1, schedule.steps)
        below, above = entry / schedule.steps, (entry - 1.0) / schedule.steps
        return schedule.steps * (self.time_rank(below) - self.time_rank(above))


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


def cell_levels(schedule: Schedule) -> Tensor:
    """log_snr of the table, or at the midpoints of equal cells of t, float64."""
    if schedule.steps is not None:
        return schedule.table(schedule.steps)
    t = (torch.arange(QUANTILE_KNOTS, dtype=torch.float64) + 0.5) / QUANTILE_KNOTS
    return schedule.log_snr(t)


def cell_quantile(u: Tensor, probability: Tensor, schedule: Schedule) -> Tensor:
    """log_snr for u when `probability` [N] is given to the table entries or to equal cells of t."""
    knots = len(probability)
    upper = torch.cumsum(probability, 0)
    index = torch.searchsorted(upper, u.contiguous(), right=True).clamp(max=knots - 1)
    if schedule.steps is not None:
        return schedule.log_snr((index + 1.0).to(u) / knots)
    # Inside its cell u is spread evenly over t.
    within = (u - (upper[index] - probability[index])) / probability[index]
    return schedule.log_snr((index + within.clamp(0.0, 1.0)) / knots)

"""Which timestep sampler draws by the P2 weight? The under-sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.bounds import Amount, Exponent
from trainer.diffusion.constant import constant
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep.base import TimestepSampler, cell_levels, cell_quantile
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class P2(TimestepSampler):
    """The under-sampler: p(t) proportional to 1/(k + SNR)^gamma, the P2 weight of Choi et al. 2022 (eq. 8).

    Biased on purpose, as its authors ran it: it optimizes the P2 objective by density instead of weight.
    `unbiased` keeps the objective; together with the P2 weight of the same gamma and k each example then has
    one constant weight (P2 by importance sampling).
    """

    kind: Literal["p2"] = "p2"
    gamma: Exponent = 0.5
    """Strength; 0 is uniform."""
    k: Amount = 1.0
    """SNR at which under-sampling sets in."""
    uniform_mix: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of draws taken uniformly; bounds the importance weights (0.1 keeps them below 10)."""

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """Inverse of the cumulative table, by bisection; linear between knots in continuous time."""
        return cell_quantile(u, _probability(self, schedule, like=u), schedule)

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Uniform density times the normalized, mixed weight."""
        return schedule.slowness(log_snr) * self.relative(log_snr, schedule)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """N p_t, exactly, without a density in between."""
        tilt = self._weight(log_snr) / _mean_weight(self, schedule, like=log_snr)
        return self.uniform_mix + (1.0 - self.uniform_mix) * tilt

    def probability(self, schedule: Schedule) -> Tensor:
        """Probability of each table entry [N], or of each of the quantile's equal cells of t, float64."""
        weight = self._weight(cell_levels(schedule))
        return self.uniform_mix / len(weight) + (1.0 - self.uniform_mix) * weight / weight.sum()

    def _weight(self, log_snr: Tensor) -> Tensor:
        return (self.k + torch.exp(log_snr)) ** -self.gamma


@constant
def _probability(sampler: P2, schedule: Schedule) -> Tensor:
    return sampler.probability(schedule)


@constant
def _mean_weight(sampler: P2, schedule: Schedule) -> Tensor:
    return sampler._weight(cell_levels(schedule)).mean()

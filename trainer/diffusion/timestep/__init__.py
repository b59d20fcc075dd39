"""Where does training look? A timestep sampler is a quantile: uniform u in (0, 1) to log-SNR.

Each file lists its members at its bottom; here the lists are joined. Two members that stand here combine others.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor

from trainer.diffusion import weighting
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep.adaptive import LossHistory as LossHistory
from trainer.diffusion.timestep.adaptive import LossSecondMoment as LossSecondMoment
from trainer.diffusion.timestep.adaptive import entry_index as entry_index
from trainer.diffusion.timestep.base import RARE, cell_levels, cell_quantile
from trainer.diffusion.timestep.base import LevelLaw as LevelLaw
from trainer.diffusion.timestep.base import TimeLaw as TimeLaw
from trainer.diffusion.timestep.base import TimestepSampler as TimestepSampler
from trainer.diffusion.timestep.base import spread as spread
from trainer.diffusion.timestep.level import *  # noqa: F403
from trainer.diffusion.timestep.level import LevelLaws, LogNormal
from trainer.diffusion.timestep.time import *  # noqa: F403
from trainer.diffusion.timestep.time import TimeLaws, Uniform


class P2(TimestepSampler):
    """The under-sampler: p(t) proportional to 1/(k + SNR)^gamma, the P2 weight of Choi et al. 2022 (eq. 8).

    Biased on purpose, as its authors ran it: it optimizes the P2 objective by density instead of weight.
    `unbiased` keeps the objective; together with the P2 weight of the same gamma and k each example then has
    one constant weight (P2 by importance sampling).
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
        return cell_quantile(u, self.probability(schedule).to(u), schedule)

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Uniform density times the normalized, mixed weight."""
        return schedule.slowness(log_snr) * self.relative(log_snr, schedule)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """N p_t, exactly, without a density in between."""
        tilt = self._weight(log_snr) / self._mean_weight(schedule)
        return self.uniform_mix + (1.0 - self.uniform_mix) * tilt

    def probability(self, schedule: Schedule) -> Tensor:
        """Probability of each table entry [N], or of each of the quantile's equal cells of t, float64."""
        weight = self._weight(cell_levels(schedule))
        return self.uniform_mix / len(weight) + (1.0 - self.uniform_mix) * weight / weight.sum()

    def _weight(self, log_snr: Tensor) -> Tensor:
        return (self.k + torch.exp(log_snr)) ** -self.gamma

    def _mean_weight(self, schedule: Schedule) -> Tensor:
        return self._weight(cell_levels(schedule)).mean()


Law = P2 | TimeLaws | LevelLaws
"""The members of the family, each listed once, at the bottom of the file where it is written."""


class Tilted(TimestepSampler):
    """The objective of another sampler and of a weighting, all of it in the density: p = p_of x by / against.

    Drawing more often what `by` would have weighed more: the general form of the under-sampler.
    """

    kind: Literal["tilted"] = "tilted"
    of: Annotated[Law, Field(discriminator="kind")] = Uniform()
    """Sampler whose density is tilted."""
    by: weighting.AnyWeighting = weighting.P2()
    """Weighting that goes into the density."""
    against: weighting.AnyWeighting = weighting.Simple()
    """Weighting that stays in the loss, so that only the rest goes into the density."""

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """Inverse of the cumulative table; linear between knots in continuous time."""
        return cell_quantile(u, self.probability(schedule).to(u), schedule)

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Uniform density times the normalized tilt."""
        return schedule.slowness(log_snr) * self.relative(log_snr, schedule)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """N p_t."""
        return self._tilt(log_snr, schedule) / self._tilt(cell_levels(schedule), schedule).mean()

    def probability(self, schedule: Schedule) -> Tensor:
        """Probability of each table entry [N], or of each of the quantile's equal cells of t, float64."""
        tilt = self._tilt(cell_levels(schedule), schedule)
        return tilt / tilt.sum()

    def _tilt(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        drawn = self.of.relative(log_snr, schedule) * self.of.importance(log_snr, schedule)
        by, against = (w.weight(log_snr, schedule) for w in (self.by, self.against))
        return drawn * by / against.clamp_min(RARE)


class Importance(TimestepSampler):
    """Draw from `proposal`, weigh by target density / proposal density: the target's objective, another variance."""

    kind: Literal["importance"] = "importance"
    proposal: Annotated[Law, Field(discriminator="kind")] = Uniform()
    """Where training looks."""
    target: Annotated[Law, Field(discriminator="kind")] = LogNormal()
    """Whose expected loss it estimates."""

    @model_validator(mode="after")
    def _weighs_once(self) -> "Importance":
        if self.unbiased or self.proposal.unbiased:
            raise ValueError(
                "unbiased: leave it false here and in `proposal`, `target` says what the weights restore"
            )
        return self

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """As of the proposal."""
        return self.proposal.log_snr(u, schedule)

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """As of the proposal."""
        return self.proposal.density(log_snr, schedule)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """As of the proposal."""
        return self.proposal.relative(log_snr, schedule)

    def importance(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Target / proposal; zero where the proposal never looks."""
        wanted = self.target.relative(log_snr, schedule) * self.target.importance(log_snr, schedule)
        drawn = self.proposal.relative(log_snr, schedule)
        looks = self.proposal.density(log_snr, schedule) > 0.0
        return torch.where(looks, wanted / drawn.clamp_min(RARE), 0.0)


AnyTimestepSampler = Annotated[
    Law | Tilted | Importance | LossSecondMoment, Field(discriminator="kind")
]
"""Everything a YAML may call a timestep sampler; the last one has a memory and stands for itself alone."""

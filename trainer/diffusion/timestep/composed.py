"""Which timestep samplers combine others: tilted by a weighting, or corrected by importance weights?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from trainer.diffusion import weighting
from trainer.diffusion.constant import constant
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep.base import RARE, TimestepSampler, cell_levels, cell_quantile
from trainer.diffusion.timestep.level import LevelLaws, LogNormal
from trainer.diffusion.timestep.p2 import P2
from trainer.diffusion.timestep.time import TimeLaws, Uniform
from trainer.diffusion.timestep.truncated import TruncatedLaws
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


Law = P2 | TimeLaws | LevelLaws | TruncatedLaws
"""What may be combined: every sampler that stands for itself, listed at the bottom of its file."""


class Tilted(TimestepSampler):
    """The objective of another sampler and of a weighting, all of it in the density: p = p_of x by / against.

    Drawing more often what `by` would have weighed more: the general form of the under-sampler. Every example has the
    weight that normalizes the density, so that with weighting `against` the expected loss is that of `of` with `by`.
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
        return cell_quantile(u, _probability(self, schedule, like=u), schedule)

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Uniform density times the normalized tilt."""
        return schedule.slowness(log_snr) * self.relative(log_snr, schedule)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """N p_t."""
        return self._tilt(log_snr, schedule) / _mean_tilt(self, schedule, like=log_snr)

    def importance(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """The tilt's mean over uniform time, one number."""
        if self.unbiased:
            return super().importance(log_snr, schedule)
        return torch.ones_like(log_snr) * _mean_tilt(self, schedule, like=log_snr)

    def probability(self, schedule: Schedule) -> Tensor:
        """Probability of each table entry [N], or of each of the quantile's equal cells of t, float64."""
        tilt = self._tilt(cell_levels(schedule), schedule)
        return tilt / tilt.sum()

    def _tilt(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        drawn = self.of.relative(log_snr, schedule) * self.of.importance(log_snr, schedule)
        by, against = (w.weight(log_snr, schedule) for w in (self.by, self.against))
        return drawn * by / against.clamp_min(RARE)


@constant
def _probability(sampler: Tilted, schedule: Schedule) -> Tensor:
    return sampler.probability(schedule)


@constant
def _mean_tilt(sampler: Tilted, schedule: Schedule) -> Tensor:
    return sampler._tilt(cell_levels(schedule), schedule).mean()


class Importance(TimestepSampler):
    """Draw from `proposal`, weigh by target density / proposal density: the target's objective, another variance."""

    kind: Literal["importance"] = "importance"
    proposal: Annotated[Law, Field(discriminator="kind")] = Uniform()
    """Where training looks."""
    target: Annotated[Law, Field(discriminator="kind")] = LogNormal()
    """Whose expected loss it estimates."""

    @model_validator(mode="after")
    def _weighs_once(self) -> Importance:
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


ComposedSamplers = Tilted | Importance
"""The members in this file."""

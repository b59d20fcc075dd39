"""Which timestep sampler learns, while it trains, where the loss is large?

A spec that learns is a formula for its start; `build` gives the module that remembers, `live` the sampler on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from trainer.bounds import Count
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep.base import TimestepSampler, cell_quantile
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.diffusion.timestep.history import LossHistory


class LossSecondMoment(TimestepSampler):
    """p_t proportional to sqrt(E[L_t^2]), importance-weighted (Nichol & Dhariwal 2021, eq. 18).

    The second moment is that of the last unweighted losses of each entry of the table, of all workers. Uniform until
    every entry has its history: about 24,000 images for 1,000 entries, 100,000 for 4,000; `train/warmup` says how
    much of it is there. It changes between batches, never within one.
    """

    learns: ClassVar[bool] = True
    kind: Literal["loss_second_moment"] = "loss_second_moment"
    unbiased: bool = True
    """Always true: the objective stays that of uniform time."""
    history_per_term: Count = 10
    """Losses remembered of each entry of the table."""
    uniform_prob: Annotated[float, Field(ge=0.0, le=1.0)] = 0.001
    """Share of draws taken uniformly; importance weights stay below its inverse."""

    @model_validator(mode="after")
    def _weighs(self) -> LossSecondMoment:
        if not self.unbiased:
            raise ValueError(
                "unbiased: must be true, without importance weights the objective would change all the time"
            )
        return self

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """That of its start: uniform."""
        return schedule.log_snr(schedule.training_time(u))

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """That of its start: uniform."""
        return schedule.slowness(log_snr)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """That of its start: one."""
        return torch.ones_like(log_snr)

    def check(self, schedule: Schedule) -> None:
        """There must be a table."""
        if schedule.steps is None:
            raise ValueError(
                "timesteps: loss_second_moment remembers losses per entry of a table; give schedule.steps"
            )

    def build(self, schedule: Schedule) -> LossHistory:
        """The memory, empty."""
        from trainer.diffusion.timestep.history import LossHistory

        assert schedule.steps is not None
        return LossHistory(schedule.steps, self.history_per_term, self.uniform_prob)

    def live(self, memory: nn.Module) -> Remembering:
        """The sampler on this memory, as it fills."""
        from trainer.diffusion.timestep.history import LossHistory

        assert isinstance(memory, LossHistory)
        sampler = Remembering(draw=self.draw, unbiased=True)
        sampler._memory = memory
        return sampler


class Remembering(TimestepSampler):
    """`loss_second_moment` as its memory stands; not a member, made by `live`."""

    _memory: LossHistory = PrivateAttr()

    def log_snr(self, u: Tensor, schedule: Schedule) -> Tensor:
        """Inverse of the cumulative table; exactly the uniform sampler's until warm."""
        drawn = cell_quantile(u, self._memory.probability().to(u), schedule)
        uniform = schedule.log_snr(schedule.training_time(u))
        return torch.where(self._memory.warm(), drawn, uniform)

    def density(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """Uniform density times that of the nearest entry."""
        return schedule.slowness(log_snr) * self.relative(log_snr, schedule)

    def relative(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """N p_t; exactly one until warm."""
        probability = self._memory.probability()
        relative = len(probability) * probability[entry_index(log_snr, schedule)]
        return torch.where(self._memory.warm(), relative, 1.0).to(log_snr)


def entry_index(log_snr: Tensor, schedule: Schedule) -> Tensor:
    """Index of the table's entry nearest to log_snr, any shape."""
    assert schedule.steps is not None
    entry = (schedule.time(log_snr) * schedule.steps).round().long()
    return entry.clamp(1, schedule.steps) - 1

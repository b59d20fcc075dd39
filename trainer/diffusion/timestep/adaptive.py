"""Which timestep sampler learns, while it trains, where the loss is large?

A spec that learns is a formula for its start; `build` gives the module that remembers, `live` the sampler on it.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt, PrivateAttr, model_validator
from torch import Tensor, nn

from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep.base import TimestepSampler, cell_quantile


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
    history_per_term: PositiveInt = 10
    """Losses remembered of each entry of the table."""
    uniform_prob: Annotated[float, Field(ge=0.0, le=1.0)] = 0.001
    """Share of draws taken uniformly; importance weights stay below its inverse."""

    @model_validator(mode="after")
    def _weighs(self) -> "LossSecondMoment":
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

    def build(self, schedule: Schedule) -> "LossHistory":
        """The memory, empty."""
        assert schedule.steps is not None
        return LossHistory(schedule.steps, self.history_per_term, self.uniform_prob)

    def live(self, memory: nn.Module) -> "Remembering":
        """The sampler on this memory, as it fills."""
        assert isinstance(memory, LossHistory)
        sampler = Remembering(draw=self.draw, unbiased=True)
        sampler._memory = memory
        return sampler


class LossHistory(nn.Module):
    """The last losses of each of N entries: a ring [N, H] and how many were ever seen [N]."""

    losses: Tensor
    seen: Tensor

    def __init__(self, entries: int, history: int, uniform_prob: float) -> None:
        super().__init__()
        self.uniform_prob = uniform_prob
        self.register_buffer("losses", torch.zeros(entries, history, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(entries, dtype=torch.int64))

    def observe(self, entry: Tensor, loss: Tensor) -> None:
        """Remember the losses [B] of the entries [B], in this order; the oldest are forgotten."""
        count, history = self.losses.shape
        order = torch.argsort(entry, stable=True)
        entry, loss = entry[order], loss[order]
        size = torch.bincount(entry, minlength=count)
        rank = torch.arange(len(entry), device=entry.device) - (torch.cumsum(size, 0) - size)[entry]
        slot = (self.seen[entry] + rank) % history
        # All but the last H of an entry would be overwritten at once: they go to a row that is thrown away.
        row = torch.where(rank >= size[entry] - history, entry, count)
        padded = torch.cat([self.losses, self.losses[:1]])
        padded[row, slot] = loss.to(padded.dtype)
        self.losses.copy_(padded[:count])
        self.seen.add_(size)

    def warm(self) -> Tensor:
        """Whether every entry has its history (bool [])."""
        return self.seen.amin() >= self.losses.shape[1]

    def warmup(self) -> Tensor:
        """The share of all histories that is filled, in [0, 1]."""
        return (self.seen.clamp(max=self.losses.shape[1]).sum() / self.losses.numel()).double()

    def probability(self) -> Tensor:
        """p of each entry [N], float64; uniform until warm."""
        uniform = torch.full_like(self.losses[:, 0], 1.0 / len(self.losses))
        weight = self.losses.square().mean(1).sqrt()
        share = weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
        mixed = (1.0 - self.uniform_prob) * share + self.uniform_prob * uniform
        return torch.where(self.warm(), mixed, uniform)


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

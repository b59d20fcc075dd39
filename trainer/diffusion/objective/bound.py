"""What does the variational bound on the likelihood cost at one noise level, in bits per dimension?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.bounds import MANY, Amount
from trainer.diffusion.log_snr import expand
from trainer.diffusion.objective.base import SQUARED_ERROR, Objective, Part, Terms
from trainer.diffusion.reverse import (
    between,
    bits,
    chain,
    chain_index,
    chain_step,
    decoder_nll,
    normal_kl,
)
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.weighting import Elbo
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


LearnedVariance = Literal["learned_range", "learned"]


class _Chained(Objective):
    """An objective over the steps of a discrete chain."""

    steps: Annotated[int, Field(ge=2, le=MANY)] | None = None
    """Steps of the chain; null: the schedule's own table."""

    def chain_steps(self, schedule: Schedule) -> int | None:
        """Steps of the chain on this schedule; None in the continuous limit."""
        return self.steps or schedule.steps

    def decodes(self, schedule: Schedule) -> bool:
        """On a chain: its last step ends at the data."""
        return self.chain_steps(schedule) is not None

    def levels(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """The chain's next noisier level."""
        steps = self.chain_steps(schedule)
        if steps is None or steps == schedule.steps:
            return log_snr
        return chain(schedule, steps, log_snr)[chain_index(schedule, steps, log_snr)]

    def check(self, schedule: Schedule) -> None:
        """A chain must be the schedule's own where it has one."""
        if self.steps and schedule.steps and self.steps != schedule.steps:
            raise ValueError(
                f"objective.steps: {self.steps} is not the schedule's {schedule.steps}; leave it out"
            )

    def _term(self, terms: Terms, variance: float | LearnedVariance, *, detached: bool) -> Tensor:
        """KL of one reverse step, or the decoder's cost of the data, in bits per dimension [B]."""
        steps = self.chain_steps(terms.schedule)
        assert steps is not None
        # Where in the chain the example stands, and what q(x_s | x_t, x0) is there.
        index = chain_index(terms.schedule, steps, terms.log_snr)
        step = chain_step(terms.schedule, steps, index)
        x0_hat = terms.x0_hat(detached=detached)
        model = self._model_log_variance(terms, variance, step.first, step.small, step.large)
        # Both means share their part of x_t: they differ by gain (x0_hat - x0) (Ho et al. 2020, eq. 8).
        gap = expand(step.gain, x0_hat) * (x0_hat - terms.x0)
        kl = bits(normal_kl(gap, expand(step.small, x0_hat), model))
        # L_0: at the cleanest level the step ends at the data themselves (Ho et al. 2020, eq. 13).
        decoder = bits(decoder_nll(terms.x0, x0_hat, model.expand_as(x0_hat), terms.half_bin))
        return torch.where(step.first, decoder.to(kl.dtype), kl)

    def _model_log_variance(
        self,
        terms: Terms,
        variance: float | LearnedVariance,
        first: Tensor,
        small: Tensor,
        large: Tensor,
    ) -> Tensor:
        if isinstance(variance, float):
            at_data = terms.schedule.steps is not None or not terms.schedule.finite_start
            fraction = torch.where(first & at_data, 0.0, variance)
            return expand(small + fraction * (large - small), terms.x0)
        assert terms.extra is not None, "the network lacks the channels of a learned variance"
        extra = terms.extra.to(terms.x0.dtype)
        return extra if variance == "learned" else between(small, large, 0.5 * (extra + 1.0))


class VLB(_Chained):
    """The variational bound: KL(q(x_s | x_t, x0) || p(x_s | x_t)), at the last step the decoder's -log p(x0 | x_1).

    Ho et al. 2020, eq. 5; in the continuous limit |eps - eps_hat|^2 (-dlog_snr/dt)/2 (Kingma et al. 2021, eq. 17).
    """

    weighs_itself: ClassVar[bool] = True
    kind: Literal["vlb"] = "vlb"
    variance: Annotated[float, Field(ge=0.0, le=1.0)] | LearnedVariance = 0.0
    """Of the reverse step: 0 small, 1 large, between in the logarithm; or learned, between both or freely."""
    per_step: bool = False
    """Leave out the factor N that makes one step's term an estimate of the whole bound."""

    def loss(self, terms: Terms) -> Tensor:
        """Estimate of the bound [B], without the constant prior term, in bits per dimension."""
        steps = self.chain_steps(terms.schedule)
        if steps is not None:
            scale = 1.0 if self.per_step else float(steps)
            term = self._term(terms, self.variance, detached=False)
            return scale * terms.importance.to(term.dtype) * term
        density = terms.schedule.slowness(terms.log_snr)
        factor = terms.importance * 0.5 * torch.exp(terms.log_snr) / density
        error = (terms.x0_hat() - terms.x0).square()
        return factor.to(error.dtype) * bits(error)

    def parts(self, schedule: Schedule) -> tuple[Part, ...]:
        """In the continuous limit a weighted square; on a chain a form of its own, of about the same weight."""
        steps = self.chain_steps(schedule)

        def weight(log_snr: Tensor) -> Tensor:
            share = steps if steps is not None and self.per_step else 1
            return Elbo().weight(log_snr, schedule) / (share * math.log(2.0))

        form = f"bound of {steps} steps, variance {self.variance}"
        return (Part(SQUARED_ERROR if steps is None else form, weight),)

    def extra_channels(self, channels: int) -> int:
        """As many as the data's for a learned variance."""
        return 0 if isinstance(self.variance, float) else channels

    def check(self, schedule: Schedule) -> None:
        """A learned variance needs steps."""
        super().check(schedule)
        if self.chain_steps(schedule) is None and (self.per_step or self.variance != 0.0):
            raise ValueError(
                "objective.steps: the continuous bound has neither steps nor their variance; "
                "give objective.steps or schedule.steps, or leave variance and per_step out"
            )


class Hybrid(_Chained):
    """L_simple + lambda L_vlb with a learned variance; the bound's gradient does not reach the mean.

    Nichol & Dhariwal 2021, eq. 16. The weighting applies to L_simple only.
    """

    kind: Literal["hybrid"] = "hybrid"
    vlb_weight: Amount = 0.001
    """lambda, on the whole bound in bits per dimension: N times the term of the step that was drawn."""
    variance: LearnedVariance = "learned_range"
    """`learned_range`: log variance between small and large; `learned`: the output itself."""

    def loss(self, terms: Terms) -> Tensor:
        """Weighted mean squared error + lambda N term [B]."""
        steps = self.chain_steps(terms.schedule)
        assert steps is not None
        error = terms.output.to(terms.target.dtype) - terms.target
        simple = terms.weight.to(error.dtype) * error.square().flatten(1).mean(1)
        term = self._term(terms, self.variance, detached=True)
        return simple + self.vlb_weight * steps * terms.importance.to(term.dtype) * term

    def parts(self, schedule: Schedule) -> tuple[Part, ...]:
        """The weighted square, and lambda times the bound, whatever the weighting; its gradient stops at the mean."""
        steps = self.chain_steps(schedule)

        def weight(log_snr: Tensor) -> Tensor:
            return torch.full_like(log_snr, self.vlb_weight * (steps or 1))

        form = f"bound of {steps} steps, variance {self.variance}, of the variance alone"
        return Part(SQUARED_ERROR), Part(form, weight)

    def extra_channels(self, channels: int) -> int:
        """As many as the data's."""
        return channels

    def check(self, schedule: Schedule) -> None:
        """There must be a chain."""
        super().check(schedule)
        if self.chain_steps(schedule) is None:
            raise ValueError(
                "objective.steps: hybrid needs a chain; give objective.steps or schedule.steps"
            )


BoundObjectives = Hybrid | VLB
"""The members in this file. A new objective is one class above and one name here."""

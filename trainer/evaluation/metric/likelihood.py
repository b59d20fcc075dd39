"""How likely does the network think real images are? In bits per dimension: lower is better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainer.bounds import Count, Level
from trainer.data import Codec
from trainer.diffusion.process import Diffusion
from trainer.errors import UserError
from trainer.evaluation.likelihood import bits_per_dimension, flow_log_likelihood
from trainer.evaluation.metric.base import ModelMetric, Shown
from trainer.lazily import torch
from trainer.randomness import Stream

if TYPE_CHECKING:
    from torch import Tensor


class BitsPerDimension(ModelMetric):
    """The variational bound: every term of the reverse chain, the prior and the decoder (Nichol & Dhariwal 2021).

    As many passes of the network as the chain has steps. The noise of an image at a level is a function of its row.
    """

    title: ClassVar[str] = "bits per dimension"
    parts: ClassVar[tuple[str, ...]] = ("prior", "steps", "decoder")

    kind: Literal["bpd"] = "bpd"
    steps: Annotated[int, Field(ge=2, le=100_000)] | None = None
    """Steps of the chain; null: the schedule's own, or 1000 where it is continuous."""
    variance: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Of the reverse steps, unless the network learned it: 0 the posterior's, 1 beta, between in the logarithm."""
    clip: bool = True
    """Clip x0_hat to [-1, 1] at every step, as published."""

    def check(self, codec: Codec) -> None:
        """Whole values: a decoder gives probabilities to bins."""
        if codec.levels is None:
            raise UserError(
                "evaluation.metrics: bpd needs images of whole values: use nll for points"
            )

    def values(self, shown: Shown) -> Tensor:
        """The bound of each image [B]."""
        return self.explained(shown)[0]

    def explained(self, shown: Shown) -> tuple[Tensor, dict[str, Tensor]]:
        """The bound, and its prior, the sum over the steps of the chain, and the decoder."""
        assert shown.codec.levels is not None, "checked"
        diffusion = shown.diffusion
        learned = getattr(diffusion.objective, "variance", None)

        def eps(k: int) -> Tensor:
            stream = Stream(shown.seed, f"likelihood/bound/{k}")
            return stream.normal(shown.rows, tuple(shown.x0.shape[1:]))

        with torch.inference_mode():
            found = bits_per_dimension(
                diffusion,
                shown.network,
                shown.x0,
                eps,
                steps=self.passes(diffusion),
                levels=shown.codec.levels,
                variance=learned if learned in ("learned", "learned_range") else self.variance,
                clip=self.clip,
            )
            steps, decoder = found.terms[:, :-1].sum(1), found.terms[:, -1]
            return found.total, {"prior": found.prior, "steps": steps, "decoder": decoder}

    def passes(self, diffusion: Diffusion) -> int:
        """One for each step of the chain."""
        return self.steps or diffusion.schedule.steps or 1000


class NLL(ModelMetric):
    """Exact likelihood by the probability-flow ODE (Song et al. 2021), in bits per dimension.

    Images are dequantized uniformly, so that their density bounds a probability; points are taken as they are.
    """

    title: ClassVar[str] = "NLL"
    unit: ClassVar[str] = "bits per dimension"
    ratio: ClassVar[bool] = False

    kind: Literal["nll"] = "nll"
    steps: Count = 64
    """Steps of Runge and Kutta, of four derivatives each, equal in log-SNR and for all images."""
    probes: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Random signs by which Hutchinson estimates each trace; as many as dimensions, or more: the exact trace."""
    log_snr_max: Level = 9.0
    """Where the data are taken to lie: they are read as noised to this level."""
    log_snr_min: Level = -9.0
    """Where the flow ends, in a normal distribution."""

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.log_snr_min >= self.log_snr_max:
            raise ValueError("log_snr_min: must be below log_snr_max")
        return self

    def values(self, shown: Shown) -> Tensor:
        """Minus log2 of the density of each example, over its dimensions [B]."""
        x, shape = shown.x0, tuple(shown.x0.shape[1:])
        count, bin_bits = math.prod(shape), 0.0
        if shown.codec.levels is not None:
            places = shown.rows[:, None] * count + torch.arange(count, device=x.device)
            u = Stream(shown.seed, "likelihood/dequantize").uniform(places).reshape(x.shape)
            x = x + ((u - 0.5) * 2.0 / shown.codec.levels).to(x)
            bin_bits = math.log2(shown.codec.levels / 2.0)
        log_density = flow_log_likelihood(
            shown.diffusion.denoiser(shown.network),
            x,
            None if self.probes >= count else self._signs(shown, shape),
            steps=self.steps,
            edm_sigma_min=math.exp(-0.5 * self.log_snr_max),
            edm_sigma_max=math.exp(-0.5 * self.log_snr_min),
        )
        return bin_bits - log_density / (count * math.log(2.0))

    def passes(self, diffusion: Diffusion) -> int:
        """Four derivatives a step."""
        return 4 * self.steps

    def work(self, diffusion: Diffusion) -> float:
        """Each probe is a backward pass, of two forward ones."""
        return self.passes(diffusion) * (1.0 + 2.0 * self.probes)

    def _signs(self, shown: Shown, shape: tuple[int, ...]) -> Tensor:
        """Independent signs [P, B, ...], the same for an image in every trial and at every step."""
        count = math.prod(shape)
        places = shown.rows[:, None] * count + torch.arange(count, device=shown.rows.device)
        coins = [
            Stream(shown.seed, f"likelihood/probe/{k}").coin(places).reshape(-1, *shape)
            for k in range(self.probes)
        ]
        return torch.stack(coins).to(shown.x0) * 2.0 - 1.0


LikelihoodMetrics = BitsPerDimension | NLL
"""The members of this file: a new metric of the network alone is one class above and one name here."""

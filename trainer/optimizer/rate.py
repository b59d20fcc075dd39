"""How does the learning rate change over the budget? Warm-ups and decays, all in images seen."""

import math
from typing import Annotated, Literal

from pydantic import Field

from trainer.bounds import Count, Kimg, Wait
from trainer.spec import Spec


class LearningRate(Spec):
    """Factor on the learning rate of one update: a warm-up times a decay.

    A decay counts the images seen before the update, so that the first one has the full rate and the last one is not
    lost (improved-diffusion, diffusers, k-diffusion). A warm-up counts those of the update too, so that the first one
    moves (v-diffusion, k-diffusion), except `linear_from_zero` (diffusers).
    """

    warmup_kimg: Wait = 0.0
    """Thousands of images over which the factor rises linearly, or its time constant if exponential."""
    warmup: Literal["linear", "exponential", "linear_from_zero"] = "linear"
    """`linear`: images/warmup; `exponential`: 1 - exp(-images/warmup), k-diffusion's 1 - w^updates; `linear_from_zero`:
    images/warmup without those of the update, diffusers' warm-up, whose first update moves nothing."""

    def factor(self, images: float, total: float, batch: float = 0.0) -> float:
        """Of the update on the next `batch` images after `images` of `total` were seen."""
        return self.warm(images, batch) * self.decayed(images, total)

    def warm(self, images: float, batch: float = 0.0) -> float:
        """The warm-up alone, from 0 to 1."""
        if self.warmup_kimg == 0.0:
            return 1.0
        counted = images if self.warmup == "linear_from_zero" else images + batch
        progress = counted / (1000.0 * self.warmup_kimg)
        return -math.expm1(-progress) if self.warmup == "exponential" else min(1.0, progress)

    def decayed(self, images: float, total: float) -> float:
        """The decay alone, `images` of `total` having been seen before the update."""
        return self.decay(min(1.0, images / total))

    def decay(self, progress: float) -> float:
        """Factor at progress in [0, 1] of the budget, before warm-up."""
        raise NotImplementedError


class ConstantRate(LearningRate):
    """The same rate to the end."""

    kind: Literal["constant"] = "constant"

    def decay(self, progress: float) -> float:
        """One."""
        return 1.0


class _Ending(LearningRate):
    """A decay from 1 to `final` over the budget."""

    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Factor at the end of the budget."""
    decay_from: Literal["start", "warmup"] = "start"
    """Where the decay begins: with the training, or where a linear warm-up ends (diffusers)."""

    def decayed(self, images: float, total: float) -> float:
        """The decay over the budget, or over what the warm-up leaves of it."""
        before = 1000.0 * self.warmup_kimg if self.decay_from == "warmup" else 0.0
        return self.decay(min(1.0, max(0.0, images - before) / max(total - before, 1.0)))


class CosineRate(_Ending):
    """Half a cosine from 1 down to `final` (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    cycles: Count = 1
    """How many such half waves, each starting again from 1 ("warm restarts")."""

    def decay(self, progress: float) -> float:
        """final + (1 - final)(1 + cos(pi progress))/2."""
        place = 1.0 if progress >= 1.0 else self.cycles * progress % 1.0
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * place))


class LinearRate(_Ending):
    """A straight line from 1 down to `final` (improved-diffusion's annealing)."""

    kind: Literal["linear"] = "linear"

    def decay(self, progress: float) -> float:
        """1 - (1 - final) progress."""
        return 1.0 - (1.0 - self.final) * progress


class PolynomialRate(_Ending):
    """A power of what is left of the budget, from 1 down to `final` (diffusers' "polynomial")."""

    kind: Literal["polynomial"] = "polynomial"
    power: Annotated[float, Field(ge=0.001, le=1000.0)] = 2.0
    """1 is `linear`."""

    def decay(self, progress: float) -> float:
        """final + (1 - final)(1 - progress)^power."""
        return self.final + (1.0 - self.final) * (1.0 - progress) ** self.power


class _Endless(LearningRate):
    """A decay that does not know the budget, down to `least`."""

    least: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Factor below which the decay never falls (k-diffusion's min_lr / lr)."""

    def decayed(self, images: float, total: float) -> float:
        """max(least, multiplier); the budget plays no part."""
        return max(self.least, self.multiplier(images / 1000.0))

    def multiplier(self, kimg: float) -> float:
        """The published multiplier after kimg thousands of images."""
        raise NotImplementedError


class InverseRate(_Endless):
    """(1 + kimg/inv_gamma_kimg)^-power (k-diffusion's InverseLR)."""

    kind: Literal["inverse"] = "inverse"
    inv_gamma_kimg: Kimg = 1000.0
    """Thousands of images after which the factor is 2^-power."""
    power: Annotated[float, Field(ge=0.001, le=1000.0)] = 1.0
    """1/2 is the Transformer's and EDM2's inverse square root."""

    def multiplier(self, kimg: float) -> float:
        """Falls forever, ever more slowly."""
        return (1.0 + kimg / self.inv_gamma_kimg) ** -self.power


class ExponentialRate(_Endless):
    """2^(-kimg/half_life_kimg) (k-diffusion's ExponentialLR, whose decay^(step/num_steps) it restates)."""

    kind: Literal["exponential"] = "exponential"
    half_life_kimg: Kimg = 1000.0
    """Thousands of images that halve the factor."""

    def multiplier(self, kimg: float) -> float:
        """Halves and halves again."""
        return float(0.5 ** (kimg / self.half_life_kimg))


AnyLearningRate = Annotated[
    ConstantRate | CosineRate | LinearRate | PolynomialRate | InverseRate | ExponentialRate,
    Field(discriminator="kind"),
]
"""The members of the family."""

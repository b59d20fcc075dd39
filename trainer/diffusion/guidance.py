"""How does a condition steer generation? Classifier-free guidance, and the dropout that makes it possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from trainer.bounds import Exponent, Level
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Guidance(Spec):
    """x0 = (1 + scale) x0(condition) - scale x0(no condition) (Ho & Salimans 2022, eq. 6, on x0_hat)."""

    scale: Exponent = 0.0
    """w of the paper; 0 uses the condition alone. (k-diffusion's and diffusers' guidance scale is 1 + w.)"""
    rescale: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """How far each image's deviation is brought back to that of the unguided x0_hat (Lin et al. 2023, eq. 16)."""
    log_snr_min: Level | None = None
    """No guidance at noisier levels (Kynkaanniemi et al. 2024); null: no bound."""
    log_snr_max: Level | None = None
    """No guidance at cleaner levels; null: no bound."""

    @model_validator(mode="after")
    def _interval(self) -> Guidance:
        low, high = self.log_snr_min, self.log_snr_max
        if low is not None and high is not None and low >= high:
            raise ValueError("log_snr_min must be smaller than log_snr_max")
        return self

    def active(self, log_snr: Tensor) -> bool:
        """Whether the level log_snr [] is guided; outside, the network without condition need not run."""
        level = float(log_snr)
        above = self.log_snr_min is None or level >= self.log_snr_min
        below = self.log_snr_max is None or level <= self.log_snr_max
        return self.scale > 0.0 and above and below

    def combine(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        """Guided x0_hat [B, ...] from both estimates; not clipped again."""
        guided = conditional + self.scale * (conditional - unconditional)
        if self.rescale == 0.0:
            return guided
        dims = tuple(range(1, guided.ndim))
        before, after = conditional.std(dims, keepdim=True), guided.std(dims, keepdim=True)
        ratio = before / after.clamp_min(torch.finfo(after.dtype).tiny)
        return guided * (1.0 + self.rescale * (ratio - 1.0))

    def denoiser(
        self,
        conditional: Callable[[Tensor, Tensor], Tensor],
        unconditional: Callable[[Tensor, Tensor], Tensor],
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """(x_t, log_snr []) -> guided x0_hat from two denoisers; each clips its own estimate if it wants to."""

        def guided(x: Tensor, log_snr: Tensor) -> Tensor:
            estimate = conditional(x, log_snr)
            if not self.active(log_snr):
                return estimate
            return self.combine(estimate, unconditional(x, log_snr))

        return guided


class LabelDropout(Spec):
    """Replace labels by "no label" at random in training, so that one network learns both (Ho & Salimans 2022)."""

    rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Probability of hiding a label."""

    def apply(self, labels: Tensor, u: Tensor, null: int) -> Tensor:
        """Labels [B] with `null` where the uniform u [B] falls below the rate. Before the network sees them."""
        return torch.where(u < self.rate, torch.full_like(labels, null), labels)

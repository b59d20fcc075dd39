"""Is there anything to learn? Noise levels that are numbers, and weights that float32 holds and that are not all zero.

Every value of a spec may lie within its own bounds, and together they leave nothing: P2 with gamma 1000 weighs by
(k + SNR)^-1000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.diffusion.passport.expected import weigher
from trainer.diffusion.process import Diffusion, training_levels
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


_DRAWS = 512
"""Evenly spaced quantiles of what training draws."""


def untrainable(diffusion: Diffusion) -> str | None:
    """Why nothing can be learned, after the path of the part at fault (`diffusion.schedule: has ...`); else None."""
    if (why := _no_levels(diffusion)) is not None:
        return why
    u = (torch.arange(_DRAWS, dtype=torch.float64) + 0.5) / _DRAWS
    drawn = training_levels(diffusion, u)
    return _no_draws(diffusion, drawn) or _no_loss(diffusion, drawn)


def _no_levels(diffusion: Diffusion) -> str | None:
    schedule = diffusion.schedule
    count = schedule.steps or _DRAWS
    t = torch.arange(1, count + 1, dtype=torch.float64) / count
    level = schedule.log_snr(t if schedule.steps else t - 0.5 / count)
    lost = torch.nonzero(~level.isfinite())
    if len(lost) == 0:
        return None
    where = (
        f"step {int(lost[0]) + 1} of {count}"
        if schedule.steps
        else f"t = {(int(lost[0]) + 0.5) / count:.3g}"
    )
    return (
        f"diffusion.schedule: has no noise level from {where} on: so little signal is left that its SNR is no number "
        "any more; write smaller betas, fewer steps or `rescale: true`, where it has them"
    )


def _no_draws(diffusion: Diffusion, drawn: Tensor) -> str | None:
    schedule, sampler = diffusion.schedule, diffusion.timesteps
    density = (
        sampler.density(drawn, schedule)
        if schedule.steps is None
        else sampler.relative(schedule.table(schedule.steps), schedule)
    )
    if drawn.isfinite().all() and not density.isnan().any():
        return None
    return (
        f"diffusion.timesteps: `{sampler.label()}` draws noise levels that are no numbers: all of its "
        "density is lost to rounding; write values that are less extreme"
    )


def _no_loss(diffusion: Diffusion, drawn: Tensor) -> str | None:
    scalars = diffusion.scalars(drawn)
    if not scalars.weight.to(torch.float32).isfinite().all():
        return (
            "diffusion: weighs some of the noise levels that are drawn beyond what float32 holds, so the loss is "
            f"infinite: weighting `{diffusion.weighting.label()}`, timesteps `{diffusion.timesteps.label()}`; "
            "write values that are less extreme"
        )
    counts = [
        weigher(part, diffusion)(drawn) * scalars.importance
        for part in diffusion.objective.parts(diffusion.schedule)
    ]
    if not any(weight.to(torch.float32).any() for weight in counts):
        return (
            "diffusion: weighs every noise level that is drawn with 0 in float32, so nothing is learned: weighting "
            f"`{diffusion.weighting.label()}`, timesteps `{diffusion.timesteps.label()}`; "
            "write values that are less extreme"
        )
    return None

"""Is there anything to learn? Noise levels that are numbers, and weights that float32 holds and that are not all zero.

Every value of a spec may lie within its own bounds, and together they leave nothing: P2 with gamma 1000 weighs by
(k + SNR)^-1000.
"""

from __future__ import annotations

from trainer.diffusion.process import Diffusion, training_levels
from trainer.lazily import torch

_DRAWS = 512
"""Evenly spaced quantiles of what training draws."""


def untrainable(diffusion: Diffusion) -> str | None:
    """Why nothing can be learned, after the path of the part at fault (`diffusion.schedule: has ...`); else None."""
    return _no_levels(diffusion) or _no_draws(diffusion) or _no_loss(diffusion)


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


def _no_draws(diffusion: Diffusion) -> str | None:
    u = (torch.arange(_DRAWS, dtype=torch.float64) + 0.5) / _DRAWS
    level, schedule, sampler = (
        training_levels(diffusion, u),
        diffusion.schedule,
        diffusion.timesteps,
    )
    density = (
        sampler.density(level, schedule)
        if schedule.steps is None
        else sampler.relative(schedule.table(schedule.steps), schedule)
    )
    if level.isfinite().all() and not density.isnan().any():
        return None
    return (
        f"diffusion.timesteps: `{diffusion.timesteps.label()}` draws noise levels that are no numbers: all of its "
        "density is lost to rounding; write values that are less extreme"
    )


def _no_loss(diffusion: Diffusion) -> str | None:
    u = (torch.arange(_DRAWS, dtype=torch.float64) + 0.5) / _DRAWS
    level = training_levels(diffusion, u)
    scalars, schedule = diffusion.scalars(level), diffusion.schedule
    if not scalars.weight.to(torch.float32).isfinite().all():
        return (
            "diffusion: weighs some of the noise levels that are drawn beyond what float32 holds, so the loss is "
            f"infinite: weighting `{diffusion.weighting.label()}`, timesteps `{diffusion.timesteps.label()}`; "
            "write values that are less extreme"
        )
    of_terms = [
        part.weight(level)
        if part.weight is not None
        else diffusion.weighting.weight(level, schedule)
        for part in diffusion.objective.parts(schedule)
    ]
    if not any((w * scalars.importance).to(torch.float32).any() for w in of_terms):
        return (
            "diffusion: weighs every noise level that is drawn with 0 in float32, so nothing is learned: weighting "
            f"`{diffusion.weighting.label()}`, timesteps `{diffusion.timesteps.label()}`; "
            "write values that are less extreme"
        )
    return None

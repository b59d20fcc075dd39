"""How is the same objective realized the other way, by density instead of weight or back?

A twin has the cell's expected loss, every term of it and its scale: only where training looks differs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trainer.bounds import MAX_SCALE, MIN_SCALE
from trainer.diffusion import timestep, weighting
from trainer.diffusion.passport.card import SAME_OBJECTIVE
from trainer.diffusion.passport.expected import loss_distance, total_variation
from trainer.diffusion.process import Diffusion, training_levels
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


ROUND = 1e-6
"""A factor this near to one is one: scales are stored with as many digits."""
COMPOSED = (timestep.Tilted, timestep.Importance, timestep.LossSecondMoment)


def equal_objective_twin(cell: Diffusion, baseline: Diffusion) -> dict[str, Any] | None:
    """Overrides of `cell` that move its objective from density to weight or back, or None if there is no twin.

    Under-sampling becomes uniform timesteps with the P2 weight, and back, both scaled to the same expected loss. In
    general a changed sampler becomes the baseline's with importance weights, a changed weighting goes into the
    density. Keys are dotted paths in a trial. Why there is none, `twin_refusal` says.
    """
    if not _differs(cell, baseline) or twin_refusal(cell, baseline):
        return None
    twin = _twin(cell, baseline) or {}
    return {
        f"diffusion.{name}": part.model_dump(mode="json") for name, part in twin.items()
    } or None


def twin_refusal(cell: Diffusion, baseline: Diffusion) -> str | None:
    """Why a cell that moved density or weighting has no twin, or None if it has one or needs none."""
    if not _differs(cell, baseline):
        return None
    if cell.schedule.learns or baseline.schedule.learns:
        return "a learned schedule itself says where training looks"
    if cell.timesteps == baseline.timesteps and not _one_mean_square(cell):
        return (
            f"objective {cell.objective.kind} does not weigh its whole loss by the weighting, so the weighting "
            "cannot go into the density"
        )
    twin = _twin(cell, baseline)
    if twin is None:
        return None if _same(cell, baseline) else "its timestep sampler combines others already"
    if not loss_distance(cell.model_copy(update=twin), cell) < SAME_OBJECTIVE:
        return "the baseline's timesteps never look where this cell does, or too rarely to be weighed up"
    return None


def _differs(cell: Diffusion, baseline: Diffusion) -> bool:
    return cell.timesteps != baseline.timesteps or cell.weighting != baseline.weighting


def _same(cell: Diffusion, baseline: Diffusion) -> bool:
    return total_variation(cell, baseline) < SAME_OBJECTIVE


def _one_mean_square(cell: Diffusion) -> bool:
    """Whether weight and density of the cell's whole loss count by their product alone."""
    parts = cell.objective.parts(cell.schedule)
    return len(parts) == 1 and parts[0].linear and parts[0].weight is None


def _twin(cell: Diffusion, baseline: Diffusion) -> dict[str, Spec] | None:
    by_weight = _p2_twin(cell) if _one_mean_square(cell) else None
    return by_weight or _undone_twin(cell) or _general_twin(cell, baseline)


def _p2_twin(cell: Diffusion) -> dict[str, Spec] | None:
    sampler, weight = cell.timesteps, cell.weighting
    if isinstance(sampler, timestep.P2) and isinstance(weight, weighting.P2 | weighting.Simple):
        if sampler.unbiased or sampler.uniform_mix or _constant(weight) is None:
            return None
        moved = weighting.P2(gamma=sampler.gamma, k=sampler.k)
        mean = _mean_weight(moved, cell)
        factor = (_constant(weight) or 1.0) / mean if mean > 0.0 else math.inf
        if not _is_scale(factor):
            return None
        return {
            "timesteps": timestep.Uniform(draw=sampler.draw),
            "weighting": moved.model_copy(update={"scale": _rounded(factor)}),
        }
    if isinstance(sampler, timestep.Uniform) and isinstance(weight, weighting.P2):
        factor = _mean_weight(weight, cell)
        one = abs(factor - 1.0) < ROUND
        if not _is_scale(factor):
            return None
        return {
            "timesteps": timestep.P2(gamma=weight.gamma, k=weight.k, draw=sampler.draw),
            "weighting": weighting.Simple()
            if one
            else weighting.P2(gamma=0.0, scale=_rounded(factor)),
        }
    return None


def _is_scale(factor: float) -> bool:
    """Whether a weighting may have it; the general twins need none."""
    return MIN_SCALE <= factor <= MAX_SCALE


def _constant(weight: Spec) -> float | None:
    """The weight itself if it is the same for all noise levels."""
    if isinstance(weight, weighting.P2):
        return weight.scale if weight.gamma == 0.0 else None
    return 1.0 if isinstance(weight, weighting.Simple) else None


def _undone_twin(cell: Diffusion) -> dict[str, Spec] | None:
    """A cell that is itself written as a twin goes back to the plain form."""
    sampler = cell.timesteps
    if isinstance(sampler, timestep.Importance):
        return {"timesteps": sampler.target.model_copy(update={"draw": sampler.draw})}
    if isinstance(sampler, timestep.Tilted) and sampler.against == cell.weighting:
        if sampler.unbiased or not _one_mean_square(cell):
            return None
        plain = sampler.of.model_copy(update={"draw": sampler.draw})
        return {"timesteps": plain, "weighting": sampler.by}
    return None


def _general_twin(cell: Diffusion, baseline: Diffusion) -> dict[str, Spec] | None:
    sampler, reference = cell.timesteps, baseline.timesteps
    if isinstance(sampler, COMPOSED) or isinstance(reference, COMPOSED) or _same(cell, baseline):
        return None
    if sampler == reference:
        tilted = timestep.Tilted(
            of=sampler, by=cell.weighting, against=baseline.weighting, draw=sampler.draw
        )
        return {"timesteps": tilted, "weighting": baseline.weighting}
    proposal = reference.model_copy(update={"unbiased": False})
    return {"timesteps": timestep.Importance(proposal=proposal, target=sampler, draw=sampler.draw)}


def _mean_weight(weight: weighting.P2, cell: Diffusion) -> float:
    """Mean of the weight over uniform time on the cell's schedule."""
    uniform = cell.model_copy(update={"timesteps": timestep.Uniform()})
    return float(weight.weight(_uniform_levels(uniform)).mean())


def _uniform_levels(cell: Diffusion) -> Tensor:
    count = cell.schedule.steps or 65536
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return training_levels(cell, u)


def _rounded(factor: float) -> float:
    return float(f"{factor:.8g}")

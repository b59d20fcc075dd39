"""How is the same objective realized the other way, by density instead of weight or back?"""

from typing import Any

import torch

from trainer.diffusion import timestep, weighting
from trainer.diffusion.passport.card import SAME_OBJECTIVE, total_variation
from trainer.diffusion.process import Diffusion, training_levels
from trainer.spec import Spec


def equal_objective_twin(cell: Diffusion, baseline: Diffusion) -> dict[str, Any] | None:
    """Overrides of `cell` that move its objective from density to weight or back, or None if there is no twin.

    Under-sampling becomes uniform timesteps with the P2 weight, scaled to the same expected loss, and back. In
    general a changed sampler becomes the baseline's with importance weights, a changed weighting goes into the
    density (up to a constant factor of the loss). Keys are dotted paths in a trial.
    """
    if cell.timesteps == baseline.timesteps and cell.weighting == baseline.weighting:
        return None
    if cell.schedule.learns or baseline.schedule.learns:
        return None
    twin = _p2_twin(cell) or _undone_twin(cell) or _general_twin(cell, baseline)
    if twin is None:
        return None
    other = cell.model_copy(update=twin)
    if not total_variation(other, cell) < SAME_OBJECTIVE:
        return None
    return {f"diffusion.{name}": part.model_dump(mode="json") for name, part in twin.items()}


def _p2_twin(cell: Diffusion) -> dict[str, Spec] | None:
    sampler, weight = cell.timesteps, cell.weighting
    if isinstance(sampler, timestep.P2) and isinstance(weight, weighting.Simple):
        if sampler.unbiased or sampler.uniform_mix:
            return None
        moved = weighting.P2(gamma=sampler.gamma, k=sampler.k)
        scale = float(f"{1.0 / _mean_weight(moved, cell):.6g}")
        return {
            "timesteps": timestep.Uniform(draw=sampler.draw),
            "weighting": moved.model_copy(update={"scale": scale}),
        }
    if isinstance(sampler, timestep.Uniform) and isinstance(weight, weighting.P2):
        return {
            "timesteps": timestep.P2(gamma=weight.gamma, k=weight.k, draw=sampler.draw),
            "weighting": weighting.Simple(),
        }
    return None


def _undone_twin(cell: Diffusion) -> dict[str, Spec] | None:
    """A cell that is itself written as a twin goes back to the plain form."""
    sampler = cell.timesteps
    if isinstance(sampler, timestep.Importance):
        return {"timesteps": sampler.target.model_copy(update={"draw": sampler.draw})}
    if isinstance(sampler, timestep.Tilted) and sampler.against == cell.weighting:
        if sampler.unbiased:
            return None
        plain = sampler.of.model_copy(update={"draw": sampler.draw})
        return {"timesteps": plain, "weighting": sampler.by}
    return None


def _general_twin(cell: Diffusion, baseline: Diffusion) -> dict[str, Spec] | None:
    sampler, reference = cell.timesteps, baseline.timesteps
    if total_variation(cell, baseline) < SAME_OBJECTIVE:
        return None
    composed = (timestep.Tilted, timestep.Importance, timestep.LossSecondMoment)
    if isinstance(sampler, composed) or isinstance(reference, composed):
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
    count = cell.schedule.steps or 65536
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return float(weight.weight(training_levels(uniform, u)).mean())

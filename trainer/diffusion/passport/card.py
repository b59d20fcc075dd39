"""The passport's curves and numbers: density, weight and their product over log-SNR."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from trainer.diffusion.passport.expected import grid, normalizer, spacing, terms
from trainer.diffusion.process import Diffusion, training_levels
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep import Importance, TimestepSampler, Uniform
from trainer.lazily import torch

RARELY = 5e-4
"""Share of the draws beyond the trained range at either end."""
SAME_OBJECTIVE = 0.005
"""Total-variation distance below which two cells are called the same objective."""


@dataclass(frozen=True)
class Passport:
    """Curves over log-SNR and the numbers that follow from them. Lists are plain floats, for JSON."""

    log_snr: list[float]
    density: list[float]
    """Training density over log-SNR."""
    weight: list[float]
    """Weight on the epsilon-MSE in the objective's first term, importance included."""
    product: list[float]
    """density x weight, normalized to integrate to one: the objective's first term."""
    t: list[float]
    schedule: list[float]
    """log_snr(t)."""
    initial_snr: float
    """SNR of the cleanest level that training visits."""
    terminal_snr: float
    """SNR of the noisiest level; generation starts from SNR 0."""
    effective_sample_size: float
    """(E w)^2 / E w^2 of the per-example weights on the network's output: the share of a batch that counts."""
    vlb_distortion: tuple[float, float]
    """Least and largest factor by which timestep sampler and importance rescale a term made for uniform times."""
    terms: list[dict[str, Any]]
    """Every term of the expected loss: `form`, and its `product` on the first one's scale."""
    unseen: float
    """Share of the loss that importance weights claim to estimate, at levels that are never drawn."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and figures; the lists are its own, since copies would take longer than all of it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def passport(diffusion: Diffusion) -> Passport:
    """Compile a diffusion spec to its passport."""
    log_snr, parts = grid(), terms(diffusion)
    density = diffusion.timesteps.density(log_snr, diffusion.schedule)
    weight = parts[0].weight * diffusion.timesteps.importance(log_snr, diffusion.schedule)
    to_one = normalizer(parts[0].product) / spacing()
    t = torch.linspace(0.0, 1.0, 201, dtype=torch.float64)
    clean, noisy = diffusion.schedule.ends()
    return Passport(
        log_snr=log_snr.tolist(),
        density=density.tolist(),
        weight=weight.tolist(),
        product=(parts[0].product * to_one).tolist(),
        t=t.tolist(),
        schedule=diffusion.schedule.log_snr(t).tolist(),
        initial_snr=float(torch.tensor(clean).exp()),
        terminal_snr=float(torch.tensor(noisy).exp()),
        effective_sample_size=_effective_sample_size(diffusion),
        vlb_distortion=vlb_distortion(diffusion.timesteps, diffusion.schedule),
        terms=[
            {"form": term.part.form, "product": (term.product * to_one).tolist()} for term in parts
        ],
        unseen=unseen(diffusion.timesteps, diffusion.schedule),
    )


def vlb_distortion(sampler: TimestepSampler, schedule: Schedule) -> tuple[float, float]:
    """Least and largest density x importance against uniform time, over the table or 1,000 even times."""
    count = schedule.steps or 1000
    t = torch.arange(1, count + 1, dtype=torch.float64) / count
    level = schedule.log_snr(t if schedule.steps else t - 0.5 / count)
    ratio = sampler.relative(level, schedule) * sampler.importance(level, schedule)
    return float(ratio.min()), float(ratio.max())


def unseen(sampler: TimestepSampler, schedule: Schedule) -> float:
    """Share of the loss that importance weights claim to estimate, at levels that the sampler never draws."""
    of = sampler.target if isinstance(sampler, Importance) else Uniform()
    if not (sampler.unbiased or isinstance(sampler, Importance)):
        return 0.0
    if schedule.steps is None:
        level = grid()
        drawn, claimed = sampler.density(level, schedule), of.density(level, schedule)
    else:
        level = schedule.table(schedule.steps)
        drawn, claimed = sampler.relative(level, schedule), of.relative(level, schedule)
    claimed = claimed * of.importance(level, schedule) * (schedule.slowness(level) > 0.0)
    return float(torch.where(drawn > 0.0, 0.0, claimed).sum() / claimed.sum())


def trained_range(diffusion: Diffusion) -> tuple[float, float]:
    """log_snr of the noisiest and the cleanest level that training visits, but for one draw in 2,000 at either end."""
    u = torch.tensor([1.0 - RARELY, RARELY], dtype=torch.float64)
    noisy, clean = training_levels(diffusion, u).tolist()
    return noisy, clean


def _effective_sample_size(diffusion: Diffusion) -> float:
    """(E w)^2 / E w^2 with w on the network's output: over the table, or by quadrature over log-SNR."""
    schedule, sampler = diffusion.schedule, diffusion.timesteps
    if schedule.steps is None:
        level = grid()
        share = sampler.density(level, schedule)
    else:
        level = schedule.table(schedule.steps)
        share = sampler.relative(level, schedule)
    first = terms(diffusion, table=schedule.steps is not None)[0]
    on_output = first.weight * sampler.importance(level, schedule)
    on_output = on_output * diffusion.prediction.residual_weight(level)
    weight = torch.where(share > 0.0, on_output, 0.0)
    weight = weight / weight.max().clamp_min(1e-300)  # squares of large ones would overflow
    share = share / share.sum()
    return float((share * weight).sum() ** 2 / (share * weight.square()).sum())

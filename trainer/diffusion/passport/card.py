"""The passport's curves and numbers: density, weight and their product over log-SNR."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.diffusion.process import Diffusion
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep import TimestepSampler

GRID_MIN, GRID_MAX, GRID_SIZE = -25.0, 25.0, 2001
SAME_OBJECTIVE = 0.005
"""Total-variation distance below which two cells are called the same objective."""


@dataclass(frozen=True)
class Passport:
    """Curves over log-SNR and the numbers that follow from them. Lists are plain floats, for JSON."""

    log_snr: list[float]
    density: list[float]
    """Training density over log-SNR."""
    weight: list[float]
    """Weight on the epsilon-MSE, importance included."""
    product: list[float]
    """density x weight, normalized to integrate to one: the objective."""
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and figures."""
        return asdict(self)


def passport(diffusion: Diffusion) -> Passport:
    """Compile a diffusion spec to its passport."""
    log_snr = _grid()
    density = diffusion.timesteps.density(log_snr, diffusion.schedule)
    weight = _weight(diffusion, log_snr)
    t = torch.linspace(0.0, 1.0, 201, dtype=torch.float64)
    clean, noisy = diffusion.schedule.ends()
    return Passport(
        log_snr=log_snr.tolist(),
        density=density.tolist(),
        weight=weight.tolist(),
        product=_product(diffusion).tolist(),
        t=t.tolist(),
        schedule=diffusion.schedule.log_snr(t).tolist(),
        initial_snr=float(torch.tensor(clean).exp()),
        terminal_snr=float(torch.tensor(noisy).exp()),
        effective_sample_size=_effective_sample_size(diffusion),
        vlb_distortion=vlb_distortion(diffusion.timesteps, diffusion.schedule),
    )


def total_variation(a: Diffusion, b: Diffusion) -> float:
    """Half the L1 distance of the two normalized objectives, in [0, 1]; 0 means the same minimum.

    Over the entries of a table that both share, else over log-SNR.
    """
    if a.schedule == b.schedule and a.schedule.steps is not None:
        return float(0.5 * (_table_product(a) - _table_product(b)).abs().sum())
    return float(0.5 * (_product(a) - _product(b)).abs().sum() * _step())


def vlb_distortion(sampler: TimestepSampler, schedule: Schedule) -> tuple[float, float]:
    """Least and largest density x importance against uniform time, over the table or 1,000 even times."""
    count = schedule.steps or 1000
    t = torch.arange(1, count + 1, dtype=torch.float64) / count
    level = schedule.log_snr(t if schedule.steps else t - 0.5 / count)
    ratio = sampler.relative(level, schedule) * sampler.importance(level, schedule)
    return float(ratio.min()), float(ratio.max())


def _grid() -> Tensor:
    return torch.linspace(GRID_MIN, GRID_MAX, GRID_SIZE, dtype=torch.float64)


def _step() -> float:
    return (GRID_MAX - GRID_MIN) / (GRID_SIZE - 1)


def _weight(diffusion: Diffusion, log_snr: Tensor) -> Tensor:
    weight = diffusion.weighting.weight(log_snr, diffusion.schedule)
    return weight * diffusion.timesteps.importance(log_snr, diffusion.schedule)


def _product(diffusion: Diffusion) -> Tensor:
    """density x weight on the grid, integrating to one; zero where training never looks."""
    log_snr = _grid()
    density = diffusion.timesteps.density(log_snr, diffusion.schedule)
    product = torch.where(density > 0.0, density * _weight(diffusion, log_snr), 0.0)
    return product / (product.sum() * _step())


def _table_product(diffusion: Diffusion) -> Tensor:
    """Probability x weight of each table entry, summing to one."""
    schedule = diffusion.schedule
    assert schedule.steps is not None
    level = schedule.table(schedule.steps)
    product = diffusion.timesteps.relative(level, schedule) * _weight(diffusion, level)
    return product / product.sum()


def _effective_sample_size(diffusion: Diffusion) -> float:
    """(E w)^2 / E w^2 with w on the network's output: over the table, or by quadrature over log-SNR."""
    schedule, sampler = diffusion.schedule, diffusion.timesteps
    if schedule.steps is None:
        level = _grid()
        share = sampler.density(level, schedule)
    else:
        level = schedule.table(schedule.steps)
        share = sampler.relative(level, schedule)
    weight = torch.where(share > 0.0, diffusion.loss_weight(level), 0.0)
    share = share / share.sum()
    return float((share * weight).sum() ** 2 / (share * weight.square()).sum())

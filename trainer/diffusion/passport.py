"""What does a configuration really optimize? Its objective passport, from the spec alone, in milliseconds.

Only the product density x weight over log-SNR decides the expected loss; how the product is split
between looking often and counting much changes its variance, not its minimum.
"""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from trainer.diffusion import timestep, weighting
from trainer.diffusion.process import Diffusion, training_levels

GRID_MIN, GRID_MAX, GRID_SIZE = -25.0, 25.0, 2001
SAME_OBJECTIVE = 0.005
"""Total-variation distance below which two cells are called the same objective."""
LEAKING_SNR = 1e-2
"""Terminal SNR above which sampling from pure noise starts off the training distribution."""
POOR_SAMPLE_SIZE = 0.3
"""Relative effective sample size below which importance weights waste most of a batch."""


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
    """(E w)^2 / E w^2 of the per-example weights: the share of a batch that counts."""

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
    levels = training_levels(diffusion, (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096)
    drawn = _weight(diffusion, levels)
    return Passport(
        log_snr=log_snr.tolist(),
        density=density.tolist(),
        weight=weight.tolist(),
        product=_product(diffusion).tolist(),
        t=t.tolist(),
        schedule=diffusion.schedule.log_snr(t).tolist(),
        initial_snr=float(torch.tensor(clean).exp()),
        terminal_snr=float(torch.tensor(noisy).exp()),
        effective_sample_size=float(drawn.mean() ** 2 / drawn.square().mean()),
    )


def total_variation(a: Diffusion, b: Diffusion) -> float:
    """Half the L1 distance of the two normalized objectives, in [0, 1]; 0 means the same minimum."""
    return float(0.5 * (_product(a) - _product(b)).abs().sum() * _step())


def findings(cells: dict[str, Diffusion]) -> list[str]:
    """Sentences a person should read before spending compute on these cells."""
    lines = [line for name, cell in cells.items() for line in _own_findings(name, cell)]
    for (name, cell), (other, twin) in combinations(cells.items(), 2):
        distance = total_variation(cell, twin)
        if distance < SAME_OBJECTIVE:
            lines.append(
                f"`{name}` and `{other}` are the same objective (TV {distance:.3f}): the expected loss has one "
                "minimum, only the variance of its estimate differs"
            )
    return lines


def equal_objective_twin(cell: Diffusion, baseline: Diffusion) -> dict[str, Any] | None:
    """Overrides of `cell` that move its objective from density to weight or back, or None if there is no twin.

    A cell that samples by P2 gets uniform timesteps and the P2 weight, scaled to the same expected loss;
    a cell that weighs by P2 gets the P2 sampler. Keys are dotted paths in a trial.
    """
    if cell.timesteps == baseline.timesteps and cell.weighting == baseline.weighting:
        return None
    sampler, weight = cell.timesteps, cell.weighting
    if isinstance(sampler, timestep.P2) and isinstance(weight, weighting.Simple):
        if sampler.unbiased or sampler.uniform_mix:
            return None
        moved = weighting.P2(gamma=sampler.gamma, k=sampler.k)
        scale = float(f"{1.0 / _mean_weight(moved, cell):.6g}")
        return {
            "diffusion.timesteps": timestep.Uniform(draw=sampler.draw).model_dump(mode="json"),
            "diffusion.weighting": moved.model_copy(update={"scale": scale}).model_dump(
                mode="json"
            ),
        }
    if isinstance(sampler, timestep.Uniform) and isinstance(weight, weighting.P2):
        return {
            "diffusion.timesteps": timestep.P2(
                gamma=weight.gamma, k=weight.k, draw=sampler.draw
            ).model_dump(mode="json"),
            "diffusion.weighting": weighting.Simple().model_dump(mode="json"),
        }
    return None


def _own_findings(name: str, cell: Diffusion) -> list[str]:
    card = passport(cell)
    lines = []
    if isinstance(cell.timesteps, timestep.P2) and isinstance(cell.weighting, weighting.P2):
        both = cell.timesteps.gamma + cell.weighting.gamma
        if not cell.timesteps.unbiased and cell.timesteps.k == cell.weighting.k:
            lines.append(
                f"`{name}` applies P2 twice, by density and by weight: together this is gamma {both:g}"
            )
    if card.terminal_snr > LEAKING_SNR:
        steps = cell.schedule.steps
        lines.append(
            f"`{name}` leaves SNR {card.terminal_snr:.2g} at t = 1"
            f"{f' (steps: {steps})' if steps else ''}: generation starts from pure noise, which it never saw"
        )
    if card.effective_sample_size < POOR_SAMPLE_SIZE:
        lines.append(
            f"`{name}` weighs its examples so unevenly that {card.effective_sample_size:.0%} of a batch counts "
            "(effective sample size)"
        )
    return lines


def _grid() -> Tensor:
    return torch.linspace(GRID_MIN, GRID_MAX, GRID_SIZE, dtype=torch.float64)


def _step() -> float:
    return (GRID_MAX - GRID_MIN) / (GRID_SIZE - 1)


def _weight(diffusion: Diffusion, log_snr: Tensor) -> Tensor:
    weight = diffusion.weighting.weight(log_snr)
    return weight * diffusion.timesteps.importance(log_snr, diffusion.schedule)


def _product(diffusion: Diffusion) -> Tensor:
    """density x weight on the grid, integrating to one; zero where training never looks."""
    log_snr = _grid()
    density = diffusion.timesteps.density(log_snr, diffusion.schedule)
    product = torch.where(density > 0.0, density * _weight(diffusion, log_snr), 0.0)
    return product / (product.sum() * _step())


def _mean_weight(weight: weighting.P2, cell: Diffusion) -> float:
    """Mean of the weight over uniform time on the cell's schedule."""
    uniform = cell.model_copy(update={"timesteps": timestep.Uniform()})
    count = cell.schedule.steps or 65536
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return float(weight.weight(training_levels(uniform, u)).mean())

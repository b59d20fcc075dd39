"""What does a configuration really optimize? Its objective passport, from the spec alone, in milliseconds.

Only the product density x weight over log-SNR decides the expected loss; how the product is split
between looking often and counting much changes its variance, not its minimum.
"""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from trainer.diffusion import prediction, timestep, weighting
from trainer.diffusion.process import Diffusion, training_levels
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.timestep import TimestepSampler
from trainer.spec import Spec

GRID_MIN, GRID_MAX, GRID_SIZE = -25.0, 25.0, 2001
SAME_OBJECTIVE = 0.005
"""Total-variation distance below which two cells are called the same objective."""
LEAKING_SNR = 1e-2
"""Terminal SNR above which sampling from pure noise starts off the training distribution."""
ZERO_SNR = 1e-12
"""Terminal SNR below which x_T holds nothing of the data, not even in float32."""
POOR_SAMPLE_SIZE = 0.3
"""Relative effective sample size below which importance weights waste most of a batch."""
UNEVEN = 1.5
"""Ratio of the largest to the smallest weight on the network's own output that is worth a sentence."""
WITH_BOUND = frozenset({"hybrid", "vlb", "kl"})
"""Objectives with a term of the variational bound, which assumes uniform times."""


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

    Under-sampling becomes uniform timesteps with the P2 weight, scaled to the same expected loss, and back. In
    general a changed sampler becomes the baseline's with importance weights, a changed weighting goes into the
    density (up to a constant factor of the loss). Keys are dotted paths in a trial.
    """
    if cell.timesteps == baseline.timesteps and cell.weighting == baseline.weighting:
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
    composed = (timestep.Tilted, timestep.Importance)
    if isinstance(sampler, composed) or isinstance(reference, composed):
        return None
    if sampler == reference:
        tilted = timestep.Tilted(
            of=sampler, by=cell.weighting, against=baseline.weighting, draw=sampler.draw
        )
        return {"timesteps": tilted, "weighting": baseline.weighting}
    proposal = reference.model_copy(update={"unbiased": False})
    return {"timesteps": timestep.Importance(proposal=proposal, target=sampler, draw=sampler.draw)}


def _own_findings(name: str, cell: Diffusion) -> list[str]:
    card = passport(cell)
    checks = (
        _double_p2(cell),
        _other_space(cell),
        _other_sigma_data(cell),
        _terminal(cell, card.terminal_snr),
        _rescaled_bound(cell, card.vlb_distortion),
        f"weighs its examples so unevenly that {card.effective_sample_size:.0%} of a batch counts "
        "(effective sample size)"
        if card.effective_sample_size < POOR_SAMPLE_SIZE
        else None,
    )
    return [f"`{name}` {line}" for line in checks if line is not None]


def _double_p2(cell: Diffusion) -> str | None:
    sampler, weight = cell.timesteps, cell.weighting
    if not isinstance(sampler, timestep.P2) or not isinstance(weight, weighting.P2):
        return None
    if sampler.unbiased or sampler.gamma == 0.0 or weight.gamma == 0.0:
        return None
    together = sampler.gamma + weight.gamma
    total = f"gamma {together:g}" if sampler.k == weight.k else f"about gamma {together:g}"
    return f"applies P2 twice, by density and by weight: together this is {total}"


PLAIN = {
    "simple": "epsilon",
    "data": "data",
    "velocity": "velocity",
    "edm": "preconditioned",
    "sigma_sqrt": "flow",
}
"""Weighting: the prediction whose plain output MSE it is."""


def _other_space(cell: Diffusion) -> str | None:
    """A weighting that is the plain MSE of another prediction's output."""
    kind, meaning = cell.weighting.kind, cell.prediction.kind
    if kind not in PLAIN or PLAIN[kind] == meaning:
        return None
    own = next((k for k, of in PLAIN.items() if of == meaning), None)
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    level = training_levels(cell, u)
    factor = cell.weighting.weight(level, cell.schedule) * cell.prediction.residual_weight(level)
    low, high = float(factor.min()), float(factor.max())
    if own is None or high < UNEVEN * low:
        return None
    return (
        f"has the weighting `{kind}`, the plain MSE of `{PLAIN[kind]}`, on a network that predicts `{meaning}`: "
        f"its own output is weighed from {low:.2g} to {high:.2g}; its plain MSE is the weighting `{own}`"
    )


def _other_sigma_data(cell: Diffusion) -> str | None:
    parts = {
        "timesteps": cell.timesteps,
        "weighting": cell.weighting,
        "prediction": cell.prediction,
    }
    stated = {n: part.sigma_data for n, part in parts.items() if hasattr(part, "sigma_data")}
    if len(set(stated.values())) < 2:
        return None
    said = ", ".join(f"{n} {value:g}" for n, value in stated.items())
    return f"states different sigma_data ({said}): it is one property of the data"


def _terminal(cell: Diffusion, snr: float) -> str | None:
    if snr > LEAKING_SNR:
        steps = cell.schedule.steps
        return (
            f"leaves SNR {snr:.2g} at t = 1"
            f"{f' (steps: {steps})' if steps else ''}: generation starts from pure noise, which it never saw"
        )
    if snr < ZERO_SNR and isinstance(cell.prediction, prediction.Epsilon):
        return (
            "predicts epsilon at zero terminal SNR, where epsilon says nothing about the data: "
            "x0 = (x - sigma eps)/alpha divides by zero at the first step; predict velocity or data"
        )
    return None


def _rescaled_bound(cell: Diffusion, distortion: tuple[float, float]) -> str | None:
    low, high = distortion
    if cell.objective.kind not in WITH_BOUND or high < (1.0 + SAME_OBJECTIVE) * low:
        return None
    return (
        f"rescales the VLB term {low:.3g}-{high:.3g}x by its timestep sampler: the bound assumes uniform times; "
        "`unbiased: true` keeps it"
    )


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


def _mean_weight(weight: weighting.P2, cell: Diffusion) -> float:
    """Mean of the weight over uniform time on the cell's schedule."""
    uniform = cell.model_copy(update={"timesteps": timestep.Uniform()})
    count = cell.schedule.steps or 65536
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return float(weight.weight(training_levels(uniform, u)).mean())

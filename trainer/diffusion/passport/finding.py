"""What should a person read about these cells before spending compute on them?"""

from __future__ import annotations

from trainer.diffusion import prediction, timestep, weighting
from trainer.diffusion.passport.card import SAME_OBJECTIVE, passport
from trainer.diffusion.passport.expected import Expected
from trainer.diffusion.process import Diffusion, training_levels
from trainer.lazily import torch

LEAKING_SNR = 1e-2
"""Terminal SNR above which sampling from pure noise starts off the training distribution."""
ZERO_SNR = 1e-12
"""Terminal SNR below which x_T holds nothing of the data, not even in float32."""
POOR_SAMPLE_SIZE = 0.3
"""Relative effective sample size below which importance weights waste most of a batch."""
UNEVEN = 1.5
"""Ratio of the largest to the smallest weight on the network's own output that is worth a sentence."""
WITH_BOUND = frozenset({"hybrid", "vlb"})
"""Objectives with a term of the variational bound, which assumes uniform times."""


def findings(cells: dict[str, Diffusion]) -> list[str]:
    """Sentences a person should read before spending compute on these cells."""
    lines = [line for name, cell in cells.items() for line in _own_findings(name, cell)]
    return [*lines, *(_equal(members, distance) for members, distance in _classes(cells))]


def _classes(cells: dict[str, Diffusion]) -> list[tuple[dict[str, Diffusion], float]]:
    """Cells of one expected loss, two or more, and how far the farthest is from the one that it joined."""
    classes: list[tuple[dict[str, Expected], float]] = []
    for name, cell in cells.items():
        if cell.schedule.learns:
            continue
        mine = Expected(cell)
        for place, (members, far) in enumerate(classes):
            near = min(member.distance(mine, up_to_scale=True) for member in members.values())
            if near < SAME_OBJECTIVE:
                classes[place] = ({**members, name: mine}, max(far, near))
                break
        else:
            classes.append(({name: mine}, 0.0))
    several = [(members, far) for members, far in classes if len(members) > 1]
    return [({n: one.cell for n, one in members.items()}, far) for members, far in several]


def _equal(members: dict[str, Diffusion], distance: float) -> str:
    """What cells of one expected loss still differ in."""
    *others, last = [f"`{name}`" for name in members]
    who, first = f"{', '.join(others)} and {last}", next(iter(members.values()))
    changed = [
        f"{part} {' and '.join(dict.fromkeys(_said(cell, part) for cell in members.values()))}"
        for part in ("prediction", "conditioning")
        if any(getattr(cell, part) != getattr(first, part) for cell in members.values())
    ]
    if changed:
        return (
            f"{who} have the same expected loss for the same denoiser (TV {distance:.3f}), in another parametrization "
            f"({', '.join(changed)}): what a network learns of it differs"
        )
    if all(cell == first for cell in members.values()):
        return f"{who} are the same objective, drawn and weighed alike"
    return (
        f"{who} are the same objective (TV {distance:.3f}): the expected loss has one minimum, only the variance of "
        "its estimate differs"
    )


def _said(cell: Diffusion, part: str) -> str:
    value = getattr(cell, part)
    return value if isinstance(value, str) else str(value.label())


def _own_findings(name: str, cell: Diffusion) -> list[str]:
    card = passport(cell)
    checks = (
        _double_p2(cell),
        _other_space(cell),
        _other_sigma_data(cell),
        _terminal(cell, card.terminal_snr),
        _rescaled_bound(cell, card.vlb_distortion),
        _start_only(cell),
        _learns_by_another_objective(cell),
        f"never looks where {card.unseen:.2g} of the loss lies that its importance weights claim to estimate"
        if card.unseen > SAME_OBJECTIVE
        else None,
        f"weighs its examples so unevenly that {card.effective_sample_size:.0%} of a batch counts "
        "(effective sample size)"
        if not card.effective_sample_size >= POOR_SAMPLE_SIZE
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
    values = ", ".join(f"{n} {value:g}" for n, value in stated.items())
    return f"states different sigma_data ({values}): it is one property of the data"


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


def _start_only(cell: Diffusion) -> str | None:
    named = (("schedule", cell.schedule), ("timesteps", cell.timesteps))
    learning = [f"{name} {part.kind}" for name, part in named if part.learns]
    if not learning:
        return None
    return f"changes while it trains ({', '.join(learning)}): its passport is that of its start"


def _learns_by_another_objective(cell: Diffusion) -> str | None:
    if not cell.schedule.learns or cell.objective.kind in WITH_BOUND:
        return None
    if isinstance(cell.weighting, weighting.Elbo):
        return None
    return (
        f"learns its schedule by the variational bound, its network by `{cell.objective.kind}` with weighting "
        f"`{cell.weighting.kind}`: the schedule moves without serving what is minimized; objective vlb is the bound"
    )


def _rescaled_bound(cell: Diffusion, distortion: tuple[float, float]) -> str | None:
    low, high = distortion
    if cell.objective.kind not in WITH_BOUND or high < (1.0 + SAME_OBJECTIVE) * low:
        return None
    return (
        f"rescales the VLB term {low:.3g}-{high:.3g}x by its timestep sampler: the bound assumes uniform times; "
        "`unbiased: true` keeps it"
    )

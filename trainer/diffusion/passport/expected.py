"""What enters the expected loss of a cell, and how far are two cells' expected losses apart?

A term is the mean of importance x f(weight x |eps - eps_hat|^2) over the noise levels drawn. If f is linear, only the
product density x importance x weight counts; else what is seen and how it is weighed count each on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from trainer.diffusion.objective import Part
from trainer.diffusion.process import Diffusion
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


GRID_MIN, GRID_MAX, GRID_SIZE = -25.0, 25.0, 2001


class Term(NamedTuple):
    """One term of the expected loss over the levels of a grid or table [L]."""

    part: Part
    seen: Tensor
    """Share of the draws x importance of each level; sums to about one."""
    weight: Tensor
    """On the epsilon-MSE; zero where training never looks."""

    @property
    def product(self) -> Tensor:
        """What the level counts."""
        return self.seen * self.weight


def grid() -> Tensor:
    """Evenly spaced log-SNR, float64."""
    return torch.linspace(GRID_MIN, GRID_MAX, GRID_SIZE, dtype=torch.float64)


def spacing() -> float:
    """Distance of the grid's neighbours."""
    return (GRID_MAX - GRID_MIN) / (GRID_SIZE - 1)


def terms(cell: Diffusion, *, table: bool = False) -> list[Term]:
    """The cell's terms over log-SNR, or over the entries of its schedule's table."""
    schedule, sampler = cell.schedule, cell.timesteps
    if table:
        assert schedule.steps is not None
        level = schedule.table(schedule.steps)
        share = sampler.relative(level, schedule) / schedule.steps
    else:
        level = grid()
        share = sampler.density(level, schedule) * spacing()
    looks = share > 0.0
    seen = torch.where(looks, share * sampler.importance(level, schedule), 0.0)
    listed = []
    for part in cell.objective.parts(schedule):
        listed.append(Term(part, seen, torch.where(looks, weigher(part, cell)(level), 0.0)))
    return listed


def weigher(part: Part, cell: Diffusion) -> Callable[[Tensor], Tensor]:
    """Weight of a term on the epsilon-MSE as a function of log-SNR: its own, else the cell's."""
    return part.weight or (lambda log_snr: cell.weighting.weight(log_snr, cell.schedule))


class Expected:
    """A cell's expected loss, to be held against others: its terms are computed once."""

    def __init__(self, cell: Diffusion) -> None:
        self.cell = cell
        self._terms: dict[bool, list[Term]] = {}
        self._form = [part.form for part in cell.objective.parts(cell.schedule)]

    def distance(self, other: Expected, *, up_to_scale: bool) -> float:
        """How far the two are apart, in [0, 1]; see `total_variation`."""
        if self._form != other._form:
            return 1.0
        schedule = self.cell.schedule
        table = schedule.steps is not None and schedule == other.cell.schedule
        mine, theirs = self._over(table), other._over(table)
        scales = [1.0, 1.0]
        if up_to_scale and all(term.part.linear for term in mine):
            scales = [normalizer(side[0].product) for side in (mine, theirs)]
        gaps = [0.0]
        for one, other_term in zip(mine, theirs, strict=True):
            gaps.append(_apart(scales[0] * one.product, scales[1] * other_term.product))
            if not one.part.linear:
                gaps.append(_apart(one.seen, other_term.seen))
        return max(gaps)

    def _over(self, table: bool) -> list[Term]:
        if table not in self._terms:
            self._terms[table] = terms(self.cell, table=table)
        return self._terms[table]


def total_variation(a: Diffusion, b: Diffusion) -> float:
    """How far two expected losses are apart, in [0, 1]: 0 is the same minimum, 1 nothing in common.

    Half the L1 distance of the normalized products of the first term, or more if another term is farther, measured on
    the same scale. 1 for objectives of different form. The prediction plays no part: the same denoiser has the same
    loss. Over the entries of a table that both share, else over log-SNR.
    """
    return Expected(a).distance(Expected(b), up_to_scale=True)


def distances(cells: Sequence[Diffusion]) -> list[list[float]]:
    """`total_variation` of each to each, the terms of each computed once."""
    losses = [Expected(cell) for cell in cells]
    lower = [
        [one.distance(b, up_to_scale=True) for b in losses[:n]] for n, one in enumerate(losses)
    ]
    return [
        [*row, 0.0, *(lower[m][n] for m in range(n + 1, len(losses)))]
        for n, row in enumerate(lower)
    ]


def loss_distance(a: Diffusion, b: Diffusion) -> float:
    """The same without forgiving a constant factor: 0 is the same expected loss for every denoiser."""
    return Expected(a).distance(Expected(b), up_to_scale=False)


def normalizer(product: Tensor) -> float:
    """What makes its sum one; zero where all of it is beyond the levels that are looked at."""
    total = float(product.sum())
    return 1.0 / total if total > 0.0 else 0.0


def _apart(x: Tensor, y: Tensor) -> float:
    """The L1 distance over the sum of both."""
    total = float((x + y).sum())
    return float((x - y).abs().sum()) / total if total > 0.0 else 0.0

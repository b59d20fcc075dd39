"""How does a predictor-corrector with one evaluation per step look? UniPC (Zhao et al. 2023), data prediction.

In log-SNR with h = ln(sigma/sigma') the exact step is x' = (sigma'/sigma) x + expm1-weighted D; predictor and
corrector interpolate D through past levels, the corrector also through the new one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from trainer.diffusion.solver.base import (
    Denoiser,
    Exploding,
    Solver,
    exploding_levels,
    to_exploding,
    to_preserving,
)
from trainer.diffusion.solver.noise import NoiseSource
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class UniPC(Solver):
    """UniPC-p: a multistep predictor (UniP) and a corrector (UniC) that reuses the next step's evaluation."""

    kind: Literal["unipc"] = "unipc"
    order: Annotated[int, Field(ge=1, le=4)] = 3
    """p of the predictor; with the corrector the order of accuracy is p + 1. The first steps use less."""
    variant: Literal["bh1", "bh2"] = "bh2"
    """B(h): h, or exp(h) - 1, which the authors recommend."""
    lower_order_end: bool = True
    """Lower the order over the last steps, which steadies small budgets (below about 15 steps)."""

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """Evaluate, correct the step that led here, predict the next; the last step ends at D."""
        levels = exploding_levels(grid)
        model, state = Exploding(denoise, x), to_exploding(x, levels[0])
        past = [_Estimate(-math.log(levels[0]), model(state, levels[0]))]
        for i, level in enumerate(levels[1:], start=1):
            order = min(self.order, len(past))
            if self.lower_order_end:
                order = min(order, len(levels) - i + to_data)
            step = _Step(state, past[:order], -math.log(level), self.variant)
            # UniP: from past estimates to the new level.
            predicted = step.predicted()
            last = i == len(levels) - 1
            if last and not to_data:
                return to_preserving(predicted, level, x)
            # UniC: the estimate there also corrects the step that led there, and costs nothing more.
            fresh = model(predicted, level)
            state = predicted if last else step.corrected(fresh)
            past = [_Estimate(-math.log(level), fresh), *past[: self.order - 1]]
        return past[0].x0.to(x.dtype) if to_data else x


class _Estimate(NamedTuple):
    """D and where it was evaluated, as -ln(edm_sigma)."""

    time: float
    x0: Tensor


class _Step:
    """One step from past[0].time to `end` by interpolation through `past`, newest first (paper, eq. 3 and 9)."""

    def __init__(self, x: Tensor, past: list[_Estimate], end: float, variant: str) -> None:
        start, newest = past[0]
        h = end - start
        self.newest, self.order = newest, len(past)
        self.changes = [(p.x0 - newest) * (h / (p.time - start)) for p in past[1:]]
        places = [(p.time - start) / h for p in past[1:]] + [1.0]
        self.scale = -h if variant == "bh1" else math.expm1(-h)
        self.matrix = torch.tensor(
            [[place**k for place in places] for k in range(self.order)], dtype=torch.float64
        )
        self.moments = torch.tensor(_moments(h, self.order), dtype=torch.float64) / self.scale
        self.base = math.exp(-h) * x - math.expm1(-h) * newest

    def predicted(self) -> Tensor:
        """UniP: past estimates only."""
        if self.order == 1:
            return self.base
        if self.order == 2:
            return self._moved([0.5], self.changes)
        inner = torch.linalg.solve(self.matrix[:-1, :-1], self.moments[:-1])
        return self._moved(inner.tolist(), self.changes)

    def corrected(self, fresh: Tensor) -> Tensor:
        """UniC: the estimate at the step's end as well."""
        rho = [0.5] if self.order == 1 else torch.linalg.solve(self.matrix, self.moments).tolist()
        return self._moved(rho, [*self.changes, fresh - self.newest])

    def _moved(self, rho: list[float], changes: list[Tensor]) -> Tensor:
        total = sum((r * change for r, change in zip(rho, changes, strict=True)), torch.zeros(()))
        return self.base - self.scale * total


def _moments(h: float, order: int) -> list[float]:
    """k! phi_(k+1)(-h) (-h) for k = 1 ... order: phi_(k+1) = (phi_k - 1/k!)/(-h), by its series for small h."""
    if h < 0.3 and h > -0.3:
        return [
            math.factorial(k) * -h * sum((-h) ** n / math.factorial(n + k + 1) for n in range(16))
            for k in range(1, order + 1)
        ]
    values, phi = [], math.expm1(-h) / -h
    for k in range(1, order + 1):
        phi = (phi - 1.0 / math.factorial(k)) / -h
        values.append(math.factorial(k) * phi * -h)
    return values

"""How are DPM-Solver's single steps of order 1 to 3 planned: by a budget, or by an error estimate?

Lu et al. 2022 (DPM-Solver), in k-diffusion's form: time t is -ln(edm_sigma), the unknown is eps_hat.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from trainer.bounds import MANY, Exponent, Gain, Scale
from trainer.diffusion.solver.base import (
    Denoiser,
    Exploding,
    NoisySolver,
    exploding_levels,
    to_exploding,
    to_preserving,
)
from trainer.diffusion.solver.noise import NoiseSource
from trainer.diffusion.solver.ode import ancestral_step
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


AT_END = 1e-5
"""Distance in ln(edm_sigma) at which an adaptive walk has arrived."""


class _Span:
    """One step from t to `end`: eps_hat at its start is shared by the methods of every order."""

    def __init__(self, model: Exploding, x: Tensor, t: float, end: float) -> None:
        self.model, self.x, self.t, self.h = model, x, t, end - t
        self.scale = math.exp(-end)
        self.eps = self._eps(x, t)
        self._changes: dict[float, Tensor] = {}

    def step(self, order: int, r: float = 0.5) -> Tensor:
        """The method of this order; r is the place of order 2's evaluation."""
        if order == 3:
            return self.third()
        return self.second(r) if order == 2 else self.first()

    def first(self) -> Tensor:
        """No evaluation beyond the one at the start."""
        return self._drift(1.0)

    def second(self, r: float = 0.5) -> Tensor:
        """One further evaluation, at the fraction r."""
        return self._drift(1.0) - self.scale * math.expm1(self.h) / (2.0 * r) * self._change(r)

    def third(self, r1: float = 1 / 3, r2: float = 2 / 3) -> Tensor:
        """Two further evaluations, at the fractions r1 and r2."""
        # DPM-Solver-3 (Lu et al. 2022, algorithm 2): eps at r1, from there x at r2, eps there, then the end.
        early = self._change(r1)
        middle = self.t + r2 * self.h
        bend = math.exp(-middle) * (r2 / r1) * _excess(r2 * self.h)
        later = self._eps(self._drift(r2) - bend * early, middle) - self.eps
        return self._drift(1.0) - self.scale / r2 * _excess(self.h) * later

    def _drift(self, r: float) -> Tensor:
        return self.x - math.exp(-(self.t + r * self.h)) * math.expm1(r * self.h) * self.eps

    def _change(self, r: float) -> Tensor:
        if r not in self._changes:
            self._changes[r] = self._eps(self._drift(r), self.t + r * self.h) - self.eps
        return self._changes[r]

    def _eps(self, x: Tensor, t: float) -> Tensor:
        edm_sigma = math.exp(-t)
        return (x - self.model(x, edm_sigma)) / edm_sigma


class DPMFast(NoisySolver):
    """DPM-Solver-fast: as many third-order steps as the budget of `steps` evaluations allows, then 2 and 1.

    Spends one evaluation per grid level. The step boundaries divide the grid evenly by level, so a grid
    even in log-SNR gives the published plan.
    """

    kind: Literal["dpm_fast"] = "dpm_fast"
    eta: Exponent = 0.0
    """Share of the posterior's standard deviation that is fresh noise; 0 is deterministic."""

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """Orders [3, ..., 3, 2, 1] or [3, ..., 3, n % 3] over the budget n."""
        orders = _plan(len(grid) - 1)
        times = _divided([0.5 * level for level in grid.tolist()], len(orders))
        model, state = Exploding(denoise, x), to_exploding(x, math.exp(-times[0]))
        for i, order in enumerate(orders):
            t, ahead = times[i], times[i + 1]
            target, up = _noise_plan(t, ahead, times[-1], self.eta)
            state = _Span(model, state, t, target).step(order)
            state = self.noised(state, up, noise, i, math.exp(-t), math.exp(-ahead))
        last = math.exp(-times[-1])
        return model(state, last).to(x.dtype) if to_data else to_preserving(state, last, x)


class DPMAdaptive(NoisySolver):
    """DPM-Solver-12/23 with step sizes chosen by a PID controller from the error of a lower order.

    Only the grid's ends count. The error is taken over the whole batch, as published, so a sample depends
    on its batch within the tolerance; and it is taken relative to x before the step, so from high noise a
    long step may pass with an error that is large beside the data: `max_step` 1 is the cautious choice.
    Raises ValueError when the tolerance cannot be met.
    """

    adaptive: ClassVar[bool] = True
    kind: Literal["dpm_adaptive"] = "dpm_adaptive"
    order: Literal[2, 3] = 3
    """Order of the accepted solution; the error is its difference from one order less."""
    rtol: Exponent = 0.05
    """Tolerance relative to the size of x (in the variance-exploding gauge)."""
    atol: Annotated[float, Field(ge=1e-15, le=1e6)] = 0.0078
    """Absolute tolerance; 1/128 is one grey level of 8-bit images in [-1, 1]."""
    first_step: Scale = 0.05
    """First step size in ln(edm_sigma)."""
    max_step: Scale = 4.0
    """Largest step in ln(edm_sigma); keeps the tolerance meaningful on grids that begin at pure noise."""
    proportional: Gain = 0.0
    """P coefficient of the controller."""
    integral: Gain = 1.0
    """I coefficient of the controller."""
    derivative: Gain = 0.0
    """D coefficient of the controller."""
    accept_safety: Annotated[float, Field(ge=1e-6, lt=1.0)] = 0.81
    """A step is accepted if the proposed growth is at least this."""
    eta: Exponent = 0.0
    """Share of the posterior's standard deviation that is fresh noise; 0 is deterministic."""
    max_evaluations: Annotated[int, Field(ge=4, le=MANY)] = 2000
    """Network evaluations after which the walk counts as stalled."""

    @model_validator(mode="after")
    def _controller_reacts(self) -> DPMAdaptive:
        if self.proportional + self.integral + self.derivative <= 0.0:
            raise ValueError("proportional + integral + derivative must be positive")
        return self

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """Propose, compare orders, accept or shrink, until the last level; then x0_hat there."""
        t, end = 0.5 * float(grid[0]), 0.5 * float(grid[-1])
        model, state = Exploding(denoise, x), to_exploding(x, math.exp(-t))
        direction = 1.0 if end > t else -1.0
        control = Controller(self)
        previous, spent, accepted = state, 0, 0
        while direction * (end - t) > AT_END:
            self._still_moving(spent + self.order + 1, control.h, t)
            step = min(control.h, self.max_step)
            ahead = t + direction * step if step < direction * (end - t) else end
            # Propose: one step by two orders, which share their evaluations.
            target, up = _noise_plan(t, ahead, end, self.eta)
            span = _Span(model, state, t, target)
            low, high = span.step(self.order - 1, r=1 / 3), span.step(self.order)
            spent += self.order
            # Accept the higher order, or stay and try a shorter step; either way `control.h` changes.
            if control.accept(self._error(low, high, previous)):
                previous = low
                state = self.noised(high, up, noise, accepted, math.exp(-t), math.exp(-ahead))
                t, accepted = ahead, accepted + 1
        last = exploding_levels(grid)[-1]
        return model(state, last).to(x.dtype) if to_data else to_preserving(state, last, x)

    def _error(self, low: Tensor, high: Tensor, previous: Tensor) -> float:
        size = torch.maximum(low.abs(), previous.abs())
        allowed = (self.rtol * size).clamp_min(self.atol)
        return float(((low - high) / allowed).square().mean().sqrt())

    def _still_moving(self, needed: int, h: float, t: float) -> None:
        if needed > self.max_evaluations or not h > AT_END * 1e-4:
            raise ValueError(
                f"solver dpm_adaptive stalled at edm_sigma {math.exp(-t):.3g} with step {h:.2g}: rtol {self.rtol:g} "
                f"and atol {self.atol:g} cannot be met within max_evaluations {self.max_evaluations}; "
                "raise the tolerances, or use a solver of fixed steps"
            )

    def evaluations(self, steps: int) -> int:
        """At most this many; how many it takes depends on the data."""
        return self.max_evaluations


class Controller:
    """PID control of the step size (Soederlind 2003, as in k-diffusion): h times inv^b1 prev^b2 prevprev^b3."""

    def __init__(self, solver: DPMAdaptive) -> None:
        p, i, d = solver.proportional, solver.integral, solver.derivative
        order = solver.order if solver.eta == 0.0 else 1.5
        self.powers = ((p + i + d) / order, -(p + 2.0 * d) / order, d / order)
        self.h, self.accept_safety = solver.first_step, solver.accept_safety
        self.inverses: list[float] = []

    def accept(self, error: float) -> bool:
        """Whether the step with this error stands; changes `h` either way. An infinite or NaN error never does."""
        if not math.isfinite(error):
            self.h *= 0.1
            return False
        inverse = 1.0 / (error + 1e-8)
        if not self.inverses:
            self.inverses = [inverse] * 3
        self.inverses[0] = inverse
        raw = math.prod(v**b for v, b in zip(self.inverses, self.powers, strict=True))
        factor = 1.0 + math.atan(raw - 1.0)
        stands = factor >= self.accept_safety
        if stands:
            self.inverses = [inverse, self.inverses[0], self.inverses[1]]
        self.h *= factor
        return stands


def _noise_plan(t: float, ahead: float, end: float, eta: float) -> tuple[float, float]:
    """Time to step to, at or beyond `ahead`, and the noise that leads back up to `ahead`."""
    if eta == 0.0:
        return ahead, 0.0
    down, _ = ancestral_step(math.exp(-t), math.exp(-ahead), eta)
    target = min(end, -math.log(down)) if down > 0.0 else end
    return target, math.sqrt(max(0.0, math.exp(-2.0 * ahead) - math.exp(-2.0 * target)))


def _plan(evaluations: int) -> list[int]:
    if evaluations == 0:
        return []
    thirds, rest = divmod(evaluations, 3)
    return [3] * (thirds - 1) + [2, 1] if rest == 0 else [3] * thirds + [rest]


def _divided(values: list[float], parts: int) -> list[float]:
    """parts + 1 values at even distances of index, linear in between; the ends exactly."""
    if parts == 0:
        return values[-1:]
    last = len(values) - 1
    places = [last * i / parts for i in range(parts)]
    inner = [values[int(p)] + (p - int(p)) * (values[int(p) + 1] - values[int(p)]) for p in places]
    return [*inner, values[-1]]


def _excess(h: float) -> float:
    """expm1(h)/h - 1, by its series where that would cancel."""
    if abs(h) < 1e-3:
        return h / 2.0 + h * h / 6.0 + h**3 / 24.0
    return math.expm1(h) / h - 1.0


DPMSolvers = DPMFast | DPMAdaptive
"""The members in this file. A new solver is one class above and one name here."""

"""What is a solver? It walks a grid of log-SNR with a denoiser, from noise to data or back.

Two gauges occur: x_t = alpha x0 + sigma eps (variance preserving, what every caller sees) and
x = x0 + edm_sigma eps (variance exploding, in which k-diffusion's solvers are written).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, runtime_checkable

from trainer.bounds import Exponent
from trainer.diffusion.log_snr import alpha
from trainer.diffusion.solver.noise import BrownianPath, NoiseSource, PathNoise, draw
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


Denoiser: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""(x_t [B, ...], log_snr []) -> x0_hat [B, ...]."""


@runtime_checkable
class SpreadDenoiser(Protocol):
    """A denoiser whose network also says how wide the reverse step is."""

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """x0_hat [B, ...]."""
        ...

    def with_log_variance(
        self, x: Tensor, log_snr: Tensor, cleaner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x0_hat and log variance of p(x_cleaner | x), both [B, ...]."""
        ...


class Solver(Spec):
    """denoiser, grid -> sample."""

    adaptive: ClassVar[bool] = False
    """Whether the solver chooses its own steps; `evaluations` is then an upper bound."""

    def sample(self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource) -> Tensor:
        """Walk `grid` [S], log-SNR rising from noise to data, from x [B, ...] at grid[0]; returns x0_hat.

        `x` is variance preserving (standard normal at pure noise). Coefficients are computed in float64;
        the denoiser sees, and the result has, the dtype of x. Raises ValueError on a grid that is empty, not
        finite or not rising.
        """
        _check(grid, rising=True)
        return self.walk(denoise, grid, x, noise, to_data=True)

    def transport(self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource) -> Tensor:
        """x_t [B, ...] at grid[-1] from x_t at grid[0], without a last step to the data.

        A falling grid walks from data to noise, which a stochastic solver refuses with a ValueError.
        """
        falling = len(grid) > 1 and bool(grid[-1] < grid[0])
        _check(grid, rising=not falling)
        if falling and self.stochastic:
            raise ValueError(f"solver {self.label()}: only a deterministic solver can encode")
        return self.walk(denoise, grid, x, noise, to_data=False)

    def encode(self, denoise: Denoiser, grid: Tensor, x0: Tensor) -> Tensor:
        """The x_t [B, ...] at grid[0] from which the same grid leads back to x0 (approximately: both discretize).

        x0 stands for the mean of x_t at the cleanest level, alpha x0.
        """
        return self.transport(
            denoise, grid.flip(0), alpha(grid[-1]).to(x0) * x0, _no_noise(self.label())
        )

    def walk(
        self, denoise: Denoiser, grid: Tensor, x: Tensor, noise: NoiseSource, *, to_data: bool
    ) -> Tensor:
        """The method itself, on a checked grid: to x0 if `to_data`, else to x_t at grid[-1]."""
        raise NotImplementedError

    @property
    def stochastic(self) -> bool:
        """Whether noise is added on the way."""
        return False

    def evaluations(self, steps: int) -> int:
        """Network evaluations (NFE) that `sample` spends on `steps` grid levels."""
        return steps


class NoisySolver(Solver):
    """A solver whose steps go below the target level and return to it by noise."""

    eta: Exponent = 1.0
    """Strength of the noise: 1 is that of the reverse SDE, 0 the deterministic probability-flow ODE."""
    noise_scale: Exponent = 1.0
    """s_noise: scale of the added noise; only 1 keeps the marginals."""
    brownian: bool = False
    """Read the noise off one Brownian path per image, the same for every number of steps; false: each step's
    noise is drawn by its number. Equal in distribution; a path costs about forty draws per step."""

    @property
    def stochastic(self) -> bool:
        """With eta above 0."""
        return self.eta > 0.0

    def source(self, noise: NoiseSource) -> NoiseSource:
        """The noise as this solver wants it: as given, or as a path."""
        return BrownianPath(noise) if self.brownian and not isinstance(noise, PathNoise) else noise

    def noised(
        self, x: Tensor, up: float, noise: NoiseSource, number: int, upper: float, lower: float
    ) -> Tensor:
        """Add `up` times noise for the interval of edm_sigma; asks for none where `up` is 0."""
        if up == 0.0:
            return x
        z = draw(self.source(noise), number, upper, lower)
        return x + self.noise_scale * up * z.to(x)


class Exploding:
    """A denoiser seen in the variance-exploding gauge; the state is carried in float64."""

    def __init__(self, denoise: Denoiser, like: Tensor) -> None:
        self.denoise = denoise
        self.dtype, self.device = like.dtype, like.device

    def __call__(self, x: Tensor, edm_sigma: float) -> Tensor:
        """D(x; edm_sigma) in float64."""
        log_snr = torch.tensor(-2.0 * math.log(edm_sigma), dtype=torch.float64, device=self.device)
        return self.denoise((x / math.hypot(1.0, edm_sigma)).to(self.dtype), log_snr).to(x.dtype)


def exploding_levels(grid: Tensor) -> list[float]:
    """edm_sigma of the grid as Python floats: scalar arithmetic then costs the device nothing."""
    return [math.exp(-0.5 * level) for level in grid.tolist()]


def to_exploding(x: Tensor, edm_sigma: float) -> Tensor:
    """x_t / alpha in float64."""
    return x.to(torch.float64) * math.hypot(1.0, edm_sigma)


def to_preserving(x: Tensor, edm_sigma: float, like: Tensor) -> Tensor:
    """alpha x in the dtype of `like`; edm_sigma 0 is the data itself."""
    return (x / math.hypot(1.0, edm_sigma)).to(like.dtype)


def _no_noise(label: str) -> NoiseSource:
    def refuse(step: int) -> Tensor:
        raise AssertionError(f"{label} is deterministic, yet asked for noise at step {step}")

    return refuse


def _check(grid: Tensor, *, rising: bool) -> None:
    if grid.ndim != 1 or len(grid) == 0:
        raise ValueError("grid: a solver needs at least one level (steps >= 1)")
    if not bool(torch.isfinite(grid).all()):
        raise ValueError("grid: every log-SNR must be finite")
    gaps = grid.diff() if rising else -grid.diff()
    if not bool((gaps > 0).all()):
        raise ValueError(
            "grid: log-SNR must be strictly monotone; with fewer distinct levels than steps, use fewer steps"
        )

"""Closed-form denoisers, scripted noise and golden vectors shared by the tests of solvers and objectives."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[2] / "golden"


@functools.cache
def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def entries(name: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in golden(name)["entries"]}


def tensor(values: Any) -> Tensor:
    """Nested lists in float64; the golden files write infinities as strings."""
    if isinstance(values, str):
        return torch.tensor(float(values), dtype=torch.float64)
    return torch.tensor(values, dtype=torch.float64)


class Mixture:
    """x0_hat of a Gaussian mixture with diagonal covariances, in the variance-preserving gauge; counts its calls."""

    def __init__(
        self, weights: Any, means: Any, stds: Any, shift: float | list[float] = 0.0
    ) -> None:
        self.weights, self.stds = tensor(weights), tensor(stds)
        self.means = tensor(means)
        self.shift = shift
        self.levels: list[float] = []

    def exploding(self, x: Tensor, edm_sigma: float) -> Tensor:
        """D(x; sigma) for x = x0 + sigma n."""
        flat = x.double().flatten(1)
        if isinstance(self.shift, float):
            means = (self.means + self.shift).expand(len(flat), *self.means.shape)
        else:
            means = self.means + tensor(self.shift)[:, None, None]
        variance = self.stds**2 + edm_sigma**2
        gap = flat[:, None] - means
        log_likelihood = -0.5 * (gap**2 / variance + variance.log()).sum(2) + self.weights.log()
        share = torch.softmax(log_likelihood, 1)
        posterior = means + self.stds**2 / variance * gap
        return (share[..., None] * posterior).sum(1).reshape(x.shape).to(x.dtype)

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        edm_sigma = math.exp(-0.5 * float(log_snr))
        self.levels.append(edm_sigma)
        return self.exploding(x * math.hypot(1.0, edm_sigma), edm_sigma)


class Gaussian:
    """x0_hat of normal data with the given mean and deviation; counts its calls."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std, self.calls = mean, std, 0

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        self.calls += 1
        alpha, variance = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + variance)
        return self.mean + (gain.to(x) * (x - alpha.to(x) * self.mean)).to(x.dtype)

    def deviation(self, log_snr: float) -> float:
        """Standard deviation of x_t."""
        snr = 1.0 / (1.0 + math.exp(-log_snr))
        return math.sqrt(snr * self.std**2 + 1.0 - snr)

    def flow(self, x: Tensor, start: float, end: float) -> Tensor:
        """The probability-flow ODE's answer: quantiles are kept."""
        before, after = (math.sqrt(1.0 / (1.0 + math.exp(-level))) for level in (start, end))
        ratio = self.deviation(end) / self.deviation(start)
        return after * self.mean + ratio * (x - before * self.mean)


class Bank:
    """Given noise, handed out in the order of the calls or by step; remembers the intervals asked for."""

    def __init__(self, noises: Any, intervals: bool = True) -> None:
        self.noises = tensor(noises)
        self.asked: list[tuple[float, float]] = []

    def __call__(self, step: int) -> Tensor:
        return self.noises[step]

    def between(self, upper: float, lower: float) -> Tensor:
        self.asked.append((upper, lower))
        return self.noises[len(self.asked) - 1]


def no_noise(step: int) -> Tensor:
    raise AssertionError(f"a deterministic solver asked for noise at step {step}")


def edm_log_snr(sigmas: list[float]) -> Tensor:
    return -2.0 * torch.log(tensor(sigmas))


def mixture(shift: float | list[float] = 0.0) -> Mixture:
    given = golden("solver_kdiff")["denoiser"]
    return Mixture(given["weights"], given["means"], given["stds"], shift)

"""What does a Frechet distance cost in Inception's 2048 dimensions, and how far is it from the exact number?

Each peer gets means and covariances, ours the moments and, of fewer images than dimensions, their features; the root
of the real images' covariance is there, as it is from a trial's second evaluation on. In the first case the other
covariance is T S T of a known T, so the trace of (S T S T)^1/2 is that of S T; in the others it is the sum of the
singular values of one centred set of features times the other.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.side_by_side import (
    Report,
    Result,
    Unit,
    compared,
    gate,
    installed,
    one_thread,
)
from trainer.evaluation.metric import Moments, Reference, frechet_distance

ROW = 6
WIDTH, MANY, FEW = 2048, 3000, 1000
ROUNDS = 3
MOST_ERROR = 1e-8
UNIT = Unit("s", 1.0)
GOALS = {
    "full": {"pytorch-fid": 9.0, "torch-fidelity": 2.5},
    "few": {"pytorch-fid": 40.0, "torch-fidelity": 8.0},
}


@dataclass(frozen=True)
class Case:
    """Two sets of images with a distance that is known."""

    name: str
    goals: dict[str, float]
    exact: float
    real: Moments
    generated: Moments
    features: Tensor | None = None
    """Of the generated images."""


def moments(count: int, mean: Tensor, covariance: Tensor) -> Moments:
    """Sums that have this mean [D] and covariance [D, D]."""
    outer = (count - 1) * covariance + count * torch.outer(mean, mean)
    return Moments(torch.tensor(float(count), dtype=torch.float64), count * mean, outer)


def spectrum(width: int, power: float, trace: float, seed: int) -> Tensor:
    """A covariance [width, width] whose eigenvalues fall by a power law, in random directions."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(width, width, generator=generator, dtype=torch.float64)
    values = torch.arange(1, width + 1, dtype=torch.float64) ** -power
    vectors = torch.linalg.qr(noise).Q
    return (vectors * (values * trace / values.sum())) @ vectors.T


def full_rank(width: int = WIDTH) -> Case:
    """S and T S T, as of more images than dimensions; features as Inception's: mean .4, trace 150."""
    generator = torch.Generator().manual_seed(2)
    first = spectrum(width, 1.3, 150.0, 0)
    stretch = spectrum(width, 0.15, float(width), 1)
    second = stretch @ first @ stretch
    second = 0.5 * (second + second.T)
    mean = 0.4 + 0.1 * torch.randn(width, generator=generator, dtype=torch.float64)
    offset = 0.02 * torch.randn(width, generator=generator, dtype=torch.float64)
    exact = offset @ offset + first.trace() + second.trace() - 2.0 * (first * stretch).sum()
    return Case(
        "full rank", GOALS["full"], float(exact),
        moments(50 * width, mean, first), moments(50 * width, mean + offset, second),
    )  # fmt: skip


def few_images(real: int, generated: int, width: int = WIDTH) -> Case:
    """Features of so many images."""
    sets = []
    for seed, count in ((3, real), (4, generated)):
        generator = torch.Generator().manual_seed(seed)
        root = torch.linalg.cholesky(spectrum(width, 1.3, 150.0, seed))
        noise = torch.randn(count, width, generator=generator, dtype=torch.float64)
        sets.append(0.4 + 0.01 * (seed - 3) + noise @ root.T)
    centred = [(x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in sets]
    offset = sets[0].mean(0) - sets[1].mean(0)
    cross = torch.linalg.svdvals(centred[1] @ centred[0].T).sum()
    exact = float(offset @ offset - 2.0 * cross) + sum(float(x.square().sum()) for x in centred)
    added = [Moments.empty(width), Moments.empty(width)]
    for one, x in zip(added, sets, strict=True):
        one.add(x)
    return Case(f"{real} and {generated} images", GOALS["few"], exact, *added, sets[1])


def cases(width: int = WIDTH, many: int = MANY, few: int = FEW) -> list[Callable[[], Case]]:
    """To be made one after the other: each takes some matrices of memory."""
    return [
        lambda: full_rank(width),
        lambda: few_images(many, few, width),
        lambda: few_images(few, few, width),
    ]


def ours(case: Case, reference: Reference) -> float:
    """As FID measures it."""
    return frechet_distance(case.generated, reference, case.features)


def arrays(case: Case) -> tuple[np.ndarray, ...]:
    """Mean and covariance of both, as peers take them."""
    both = (case.generated, case.real)
    return tuple(x.numpy() for one in both for x in (one.mean(), one.covariance()))


def peers() -> dict[str, Callable[..., float] | None]:
    """The distance of each, of means and covariances; None where it is not installed."""
    found: dict[str, Callable[..., float] | None] = {"pytorch-fid": None, "torch-fidelity": None}
    if installed("pytorch_fid"):
        from pytorch_fid.fid_score import calculate_frechet_distance

        def pytorch_fid(*given: np.ndarray) -> float:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                return float(calculate_frechet_distance(*given))

        found["pytorch-fid"] = pytorch_fid
    if installed("torch_fidelity"):
        from torch_fidelity.metric_fid import fid_statistics_to_metric

        def fidelity(mu: np.ndarray, sigma: np.ndarray, mu_r: np.ndarray, sigma_r: np.ndarray) -> float:  # fmt: skip
            given = ({"mu": mu, "sigma": sigma}, {"mu": mu_r, "sigma": sigma_r})
            return float(fid_statistics_to_metric(*given, False)["frechet_inception_distance"])

        found["torch-fidelity"] = fidelity
    return found


def exact_enough(report: Report, case: Case, reference: Reference) -> None:
    """Ours is the exact number."""
    error = abs(ours(case, reference) - case.exact)
    gate(report, f"{case.name}: error of {case.exact:.3f}", error, MOST_ERROR)


def main(report: Report = print, rounds: int = ROUNDS) -> list[Result]:
    """Print every case beside every peer."""
    one_thread()
    found = []
    for made in cases():
        case = made()
        reference, given = Reference.of_moments(case.real), arrays(case)
        exact_enough(report, case, reference)
        off: dict[str, float] = {}

        def work(name: str, distance: Callable[..., float]) -> Callable[[], float]:
            def once() -> float:
                with redirect_stdout(io.StringIO()):
                    off[name] = distance(*given) - case.exact  # noqa: B023
                return 1.0

            return once

        beside = {
            name: (None if peer is None else work(name, peer), case.goals[name])
            for name, peer in peers().items()
        }
        found += compared(
            ROW, f"Frechet distance, {case.name}", lambda: ours(case, reference) and 1.0,  # noqa: B023
            beside, UNIT, rounds, warm=0,
        )  # fmt: skip
        for one in found[-len(beside) :]:
            report(str(one))
        report("  errors: " + ", ".join(f"{name} {error:+.1e}" for name, error in off.items()))
    return found

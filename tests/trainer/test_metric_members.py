"""Proves the members beside FID and KID: closed forms, definitions, and memory that does not grow with the pairs."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from trainer.evaluation.metric import KINDS, Manifold, Moments, Reference, frechet_distance
from trainer.evaluation.metric.base import Real, Statistics
from trainer.evaluation.metric.classes import InceptionScore, inception_score
from trainer.evaluation.metric.frechet import FIDInfinity, extrapolated
from trainer.evaluation.metric.kernel import cubic_kernel, kernel_distance
from trainer.evaluation.metric.manifold import coverage, density
from trainer.evaluation.metric.sliced import MIND, sliced_distance, transport_cost, unit_vectors


def normal(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def statistics(rows: torch.Tensor) -> Statistics:
    moments = Moments.empty(rows.shape[1])
    moments.add(rows)
    return Statistics(moments, rows, lambda features: features.double().softmax(1))


def measured(kind: str, generated: torch.Tensor, real: torch.Tensor) -> float:
    metric = KINDS[kind]()
    return metric.measure(statistics(generated), Real(metric.prepare(statistics(real)), real))


# KID


def test_blocks_of_pairs_give_what_all_pairs_at_once_give() -> None:
    """More rows than a block on both sides, in unequal numbers."""
    x, y = normal(2500, 20, 0), 1.1 * normal(1300, 20, 1) + 0.1
    a, b = x.double(), y.double()
    within = [
        (k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in map(cubic_kernel, (a, b), (a, b))
    ]
    whole = within[0] + within[1] - 2.0 * cubic_kernel(a, b).mean()
    # sums of the same float64 terms in another order
    assert kernel_distance(x, y) == pytest.approx(float(whole), rel=1e-12)


MEMORY = """
import resource, torch
torch.set_num_threads(1)
from trainer.evaluation.metric import KINDS
from trainer.evaluation.metric.base import Moments, Real, Statistics

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def run(kind, n):
    rows = torch.randn(n, 16)
    moments = Moments.empty(16)
    metric, found = KINDS[kind](), Statistics(moments, rows)
    metric.measure(found, Real(metric.prepare(found), rows))

for kind in ("kid", "precision", "coverage"):
    run(kind, 2048)
before = peak()
for kind in ("kid", "precision", "coverage"):
    run(kind, 8192)
print((peak() - before) / (8 * 8192**2))
"""


def test_memory_is_bounded_by_blocks_not_by_pairs() -> None:
    """Once blocks were compared, four times the images take less than a twentieth of their matrix of pairs."""
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(ran.stdout) < 0.05


# Inception Score


def test_inception_score_of_sure_and_of_ignorant_classifiers() -> None:
    sure = torch.eye(5, dtype=torch.float64).repeat(8, 1)
    assert inception_score(sure, 1) == pytest.approx(5.0, rel=1e-12)
    assert inception_score(sure, 8) == pytest.approx(5.0, rel=1e-12)
    assert inception_score(torch.full((40, 5), 0.2).double(), 4) == pytest.approx(1.0, rel=1e-12)
    one = torch.eye(5, dtype=torch.float64)[:1].repeat(40, 1)
    assert inception_score(one, 4) == pytest.approx(1.0, rel=1e-12), (
        "the same thing again and again"
    )


def test_inception_score_wants_an_image_in_every_split() -> None:
    assert InceptionScore(splits=30).fewest == 30


# Density and coverage


def test_density_and_coverage_by_definition() -> None:
    fake, real = normal(30, 3, 3).double(), normal(40, 3, 4).double()
    radius = [sorted(float((x - y).norm()) for y in real)[5] for x in real]
    inside = np.array(
        [[float((x - y).norm()) <= r for y, r in zip(real, radius, strict=True)] for x in fake]
    )
    assert measured("density", fake, real) == pytest.approx(inside.sum() / (5 * 30), rel=1e-12)
    assert measured("coverage", fake, real) == pytest.approx(inside.any(0).mean(), rel=1e-12)


def test_an_outlier_among_the_real_raises_precision_but_not_density() -> None:
    """Figure 3 of Naeem et al.: one real outlier has a huge ball, in which strays count as precise."""
    real = torch.cat([normal(100, 2, 0), torch.full((1, 2), 60.0)])
    strays = 0.1 * normal(50, 2, 1) + 30.0
    assert measured("precision", strays, real) == 1.0
    # each stray lies in the outlier's ball alone: 1/k
    assert measured("density", strays, real) == pytest.approx(0.2)
    assert measured("coverage", strays, real) == pytest.approx(1 / 101)


def test_coverage_of_equal_distributions_is_as_the_paper_derives_it() -> None:
    """E coverage = 1 - (N - 1)...(N - k) / ((M + N - 1)...(M + N - k)), lemma 2; E density = 1."""
    n, m, k, found, dense = 200, 100, 5, [], []
    for seed in range(30):
        real, fake = normal(n, 2, 2 * seed), normal(m, 2, 2 * seed + 1)
        balls = Manifold.of(real, k)
        found.append(coverage(fake, balls))
        dense.append(density(fake, balls, k))
    expected = 1.0 - math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    for values, truth in ((found, expected), (dense, 1.0)):
        assert abs(np.mean(values) - truth) < 4 * np.std(values) / len(values) ** 0.5


# FID-infinity


def test_a_line_in_one_over_n_is_extrapolated_exactly() -> None:
    sizes = [100, 150, 400, 1000]
    assert extrapolated(sizes, [2.5 + 30.0 / n for n in sizes]) == pytest.approx(2.5, rel=1e-12)


def test_fid_infinity_is_that_line_through_fids_of_nested_subsets() -> None:
    fake, real = normal(400, 6, 0) * 1.2, normal(500, 6, 1)
    metric = FIDInfinity(points=4)
    assert metric.sizes(400) == [40, 160, 280, 400]
    fids = [
        frechet_distance(statistics(fake[:n]).moments, Reference.of(real))
        for n in metric.sizes(400)
    ]
    slope, intercept = np.polyfit([1 / n for n in metric.sizes(400)], fids, 1)
    found = metric.measure(statistics(fake), Real(metric.prepare(statistics(real)), real))
    assert found == pytest.approx(intercept, rel=1e-9)  # moments summed otherwise
    assert slope > 0


def test_fid_infinity_takes_most_of_the_bias_away() -> None:
    """One distribution, 32 dimensions: FID of 2,000 images is positive, its limit is zero."""
    real, reference = normal(40_000, 32, 0), None
    reference = Reference.of(real)
    plain, limit = [], []
    for seed in range(1, 6):
        fake = normal(2000, 32, seed)
        plain.append(frechet_distance(statistics(fake).moments, reference))
        limit.append(FIDInfinity().measure(statistics(fake), Real(reference._asdict(), real)))
    assert abs(np.mean(limit)) < 0.2 * np.mean(plain)


# MIND


def test_transport_between_sets_of_unequal_size_is_exact() -> None:
    """(0, 1) against (0, 1, 2): on thirds and a half; and repeating every image changes nothing."""
    x, y = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[0.0], [1.0], [2.0]]).double()
    # quantiles differ by 1 on (1/3, 1/2) and on (2/3, 1)
    assert float(transport_cost(x, y)) == pytest.approx(1 / 6 + 1 / 3, rel=1e-12)
    a, b = normal(7, 1, 0).double().sort(0).values, normal(7, 1, 1).double().sort(0).values
    twice, thrice = a.repeat_interleave(2, 0), b.repeat_interleave(3, 0)
    torch.testing.assert_close(
        transport_cost(twice, thrice), transport_cost(a, b), rtol=1e-12, atol=0.0
    )


def test_a_shift_and_a_scale_have_known_distances() -> None:
    """W2^2 along u of x and x + s is (u.s)^2; of x and c x it is (1 - c)^2 mean (u.x)^2."""
    x, shift, lines = normal(300, 8, 0).double(), torch.arange(8).double(), unit_vectors(500, 8)
    assert sliced_distance(x, x + shift, lines) == pytest.approx(
        float((lines @ shift).square().mean()), rel=1e-9
    )
    expected = 0.25 * float((x @ lines.T).square().mean())
    assert sliced_distance(x, 1.5 * x, lines) == pytest.approx(expected, rel=1e-9)


def test_mind_is_by_its_published_formula() -> None:
    """alpha/(n M) sum_i sum_j (sort(u_i X)_j - sort(u_i Y)_j)^2 with alpha = 3 d."""
    x, y = normal(50, 6, 0).double(), normal(50, 6, 1).double() + 0.5
    lines = unit_vectors(1000, 6).numpy()
    gaps = np.sort(x.numpy() @ lines.T, 0) - np.sort(y.numpy() @ lines.T, 0)
    assert measured("mind", x, y) == pytest.approx(3 * 6 * (gaps**2).sum() / (50 * 1000), rel=1e-9)


def test_mind_of_far_shifted_sets_is_three_times_the_squared_shift() -> None:
    """E (u.s)^2 = |s|^2/d over the sphere, so 3 d E (u.s)^2 = 3 |s|^2 in expectation over directions."""
    x, shift = normal(100, 4, 0), torch.tensor([3.0, 0.0, -4.0, 0.0])
    metric = MIND(directions=20_000)
    rows = x + shift
    found = metric.measure(statistics(rows), Real({}, x))
    # the mean of 20,000 (u.s)^2 has a relative standard error of sqrt(2 (d - 1)/(d + 2)/20,000) = 0.7 %
    assert found == pytest.approx(75.0, rel=0.03)


def test_directions_are_unit_vectors_that_never_change() -> None:
    lines = unit_vectors(3, 5)
    torch.testing.assert_close(lines.norm(dim=1), torch.ones(3).double())
    assert torch.equal(unit_vectors(10, 5)[:3], lines)

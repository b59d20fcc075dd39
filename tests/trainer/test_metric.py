"""Proves the Frechet distance, KID, precision and recall against closed forms, algorithms and definitions."""

import numpy as np
import pytest
import torch
from scipy import linalg

from trainer.evaluation.metric import (
    Manifold,
    Moments,
    Reference,
    frechet,
    frechet_distance,
    kernel_distance,
    manifold,
    precision,
    recall,
)


def moments_of(features: torch.Tensor, batch: int = 100) -> Moments:
    moments = Moments.empty(features.shape[1])
    for part in features.split(batch):
        moments.add(part)
    return moments


def features(count: int, width: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    raw = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return scale * (raw @ mixing) + seed


def test_streamed_moments_equal_the_whole() -> None:
    x = features(1000, 16, 0)
    moments = moments_of(x, batch=37)
    # float64 sums of 1000 terms of size ~10
    torch.testing.assert_close(moments.mean(), x.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.covariance(), torch.cov(x.T), rtol=1e-10, atol=1e-10)


def test_distance_equals_the_textbook_formula() -> None:
    a, b = features(2000, 12, 1), features(2000, 12, 2)
    mine = frechet_distance(moments_of(a), Reference.of(b))
    ca, cb = np.cov(a.T.numpy()), np.cov(b.T.numpy())
    offset = (a.mean(0) - b.mean(0)).numpy()
    root = linalg.sqrtm(ca @ cb).real
    # sqrtm of a non-symmetric product is good to about 1e-8 here
    assert mine == pytest.approx(offset @ offset + np.trace(ca + cb - 2 * root), rel=1e-7)


def test_distance_of_scaled_data_is_known() -> None:
    """Covariances S and c^2 S: the trace part is (1 - c)^2 tr S exactly."""
    x = features(500, 8, 0)
    x = x - x.mean(0)
    expected = 0.25 * float(torch.cov(x.T).trace())
    assert frechet_distance(moments_of(1.5 * x), Reference.of(x)) == pytest.approx(
        expected, rel=1e-10
    )


def test_distance_to_itself_is_zero_also_when_rank_deficient() -> None:
    x = features(30, 64, 0)
    scale = float(torch.cov(x.T).trace())
    # sums of 64 terms; the 35 null directions count nothing, or each would be the root of a rounding, 1e-8
    assert abs(frechet_distance(moments_of(x), Reference.of(x))) < 1e-12 * scale
    assert abs(frechet_distance(moments_of(x), Reference.of(x), x)) < 1e-12 * scale


@pytest.mark.parametrize("sizes", [(40, 300), (40, 30), (30, 40), (300, 40), (40, 40), (2, 2)])
def test_distance_of_few_images_is_the_nuclear_norm_of_both(sizes: tuple[int, int]) -> None:
    """tr (S_r^1/2 S S_r^1/2)^1/2 = sum of singular values of X X_r^T, which squares nothing; both ways."""
    x, y = (features(count, 64, seed) for seed, count in enumerate(sizes))
    centred = [(z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y)]
    cross = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    offset = x.mean(0) - y.mean(0)
    squares = sum(float(z.square().sum()) for z in centred)
    expected = float(offset @ offset - 2.0 * cross) + squares
    reference = Reference.of(y)
    for found in (moments_of(x), reference), (moments_of(x), reference, x):
        assert frechet_distance(*found) == pytest.approx(expected, rel=1e-11)


def test_a_symmetric_product_has_the_triangle_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(50, 70, 0)
    monkeypatch.setattr(frechet, "_BAND", 16)
    torch.testing.assert_close(frechet._symmetric(x, x.T).tril(), (x @ x.T).tril())


def test_distance_of_float32_features_is_that_of_their_moments() -> None:
    x, reference = features(40, 64, 3).float(), Reference.of(features(90, 64, 4))
    few = frechet_distance(moments_of(x), reference, x)
    assert few == pytest.approx(frechet_distance(moments_of(x), reference), rel=1e-11)
    more = features(90, 64, 3)
    assert frechet_distance(moments_of(more), reference, more) == frechet_distance(
        moments_of(more), reference
    ), "features are asked only where they are fewer than their dimensions"


def test_distance_equals_singular_values_of_features_times_root() -> None:
    """tr (S_r^1/2 S S_r^1/2)^1/2 = nuclear norm of X R, without forming a covariance of X."""
    x, reference = features(200, 32, 3), Reference.of(features(300, 32, 4))
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    cross = torch.linalg.svdvals(centred @ reference.root).sum()
    offset = x.mean(0) - reference.mean
    expected = offset @ offset + centred.square().sum() + reference.trace - 2.0 * cross
    assert frechet_distance(moments_of(x), reference) == pytest.approx(float(expected), rel=1e-9)


def test_kernel_distance_is_the_unbiased_mmd_by_definition() -> None:
    x, y = features(7, 3, 0, 0.1), features(5, 3, 1, 0.1)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(a @ b / 3 + 1.0) ** 3

    xx = [k(x[i], x[j]) for i in range(7) for j in range(7) if i != j]
    yy = [k(y[i], y[j]) for i in range(5) for j in range(5) if i != j]
    xy = [k(a, b) for a in x for b in y]
    expected = np.mean(xx) + np.mean(yy) - 2 * np.mean(xy)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_is_unbiased() -> None:
    """Two halves of one sample: the mean over splits is zero within its standard error."""
    values = []
    for seed in range(40):
        x = torch.randn(200, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        values.append(kernel_distance(x[:100], x[100:]))
    assert abs(np.mean(values)) < 4 * np.std(values) / len(values) ** 0.5


def line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


def test_balls_reach_the_kth_other_point() -> None:
    assert Manifold.of(line(0.0, 1.0, 3.0, 7.0), k=1).radius.tolist() == [1.0, 1.0, 2.0, 4.0]
    assert Manifold.of(line(0.0, 1.0, 3.0, 7.0), k=2).radius.tolist() == [3.0, 2.0, 3.0, 6.0]
    with pytest.raises(ValueError, match="more than 3 images, not 3"):
        Manifold.of(line(0.0, 1.0, 2.0))


def test_precision_sees_bad_samples_and_recall_missing_modes() -> None:
    """Two modes: samples of one of them and nowhere; a mode apart costs recall, a stray sample precision."""
    real = torch.cat([features(60, 3, 0, 0.1), features(60, 3, 1, 0.1) + 100.0])
    manifold, one_mode = Manifold.of(real), real[:60]
    assert precision(one_mode, manifold) == 1.0
    assert recall(one_mode, manifold) == 0.5
    strays = torch.cat([real, features(40, 3, 2, 0.1) - 500.0])
    assert precision(strays, manifold) == pytest.approx(120 / 160)
    assert recall(strays, manifold) == 1.0


def test_precision_and_recall_by_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, real = features(50, 3, 3, 0.3), features(40, 3, 4, 0.3)
    radius = [sorted(float((x - y).norm()) for y in real)[3] for x in real]
    inside = [
        any(float((x - y).norm()) <= r for y, r in zip(real, radius, strict=True)) for x in fake
    ]
    monkeypatch.setattr(manifold, "BLOCK", 100)  # a few rows at a time
    assert precision(fake, Manifold.of(real)) == pytest.approx(np.mean(inside))

"""Proves the learning-rate schedules at their ends and in the middle."""

import pytest

from trainer.optimizer import ConstantRate, CosineRate, LinearRate


def test_warmup_rises_linearly_then_stays() -> None:
    rate = ConstantRate(warmup_kimg=10.0)
    assert [rate.factor(images, 1e6) for images in (1000, 5000, 10_000, 900_000)] == [
        0.1,
        0.5,
        1.0,
        1.0,
    ]


def test_cosine_ends_at_final() -> None:
    rate = CosineRate(final=0.05)
    assert rate.factor(0, 100) == 1.0
    assert rate.factor(50, 100) == pytest.approx(0.525)
    assert rate.factor(100, 100) == pytest.approx(0.05)
    assert rate.factor(200, 100) == pytest.approx(0.05)


def test_linear_is_linear() -> None:
    assert [LinearRate().factor(x, 100) for x in (0, 25, 100)] == [1.0, 0.75, 0.0]

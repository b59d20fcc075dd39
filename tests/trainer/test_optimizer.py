"""Proves the learning-rate schedules at their ends and in the middle, and which rates a real training applies.

The ancestors' rates are in test_golden_training.
"""

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from tests.trainer.rates import applied_rates
from trainer.learner import build_network
from trainer.optimizer import (
    AnyLearningRate,
    ConstantRate,
    CosineRate,
    ExponentialRate,
    InverseRate,
    LearningRate,
    LinearRate,
    PolynomialRate,
)

RATE: TypeAdapter[LearningRate] = TypeAdapter(AnyLearningRate)
MEMBERS: list[type[LearningRate]] = list(get_args(get_args(AnyLearningRate)[0]))


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_falls_from_one(member: type[LearningRate]) -> None:
    """Round trip, 1 at the start, never rising, never negative; the warm-up multiplies it."""
    rate = member()
    assert RATE.validate_json(rate.model_dump_json()) == rate
    values = [rate.factor(images, 1e6) for images in range(0, 2_000_000, 50_000)]
    assert values[0] == 1.0
    assert values == sorted(values, reverse=True)
    assert values[-1] >= 0.0
    for shape, first in (
        ("linear", 0.1),
        ("exponential", -math.expm1(-0.1)),
        ("linear_from_zero", 0),
    ):
        warmed = member(warmup_kimg=10.0, warmup=shape)
        assert warmed.factor(0, 1e6, 1_000) == pytest.approx(first)
        assert 0.0 < warmed.factor(5_000, 1e6, 1_000) < rate.factor(5_000, 1e6)


def test_warmup_rises_linearly_then_stays() -> None:
    rate = ConstantRate(warmup_kimg=10.0)
    before = (0, 4_000, 9_000, 900_000)
    assert [rate.factor(images, 1e6, 1_000) for images in before] == [0.1, 0.5, 1.0, 1.0]
    without = ConstantRate(warmup_kimg=10.0, warmup="linear_from_zero")
    assert [without.factor(images, 1e6, 1_000) for images in before] == [0.0, 0.4, 0.9, 1.0]


def test_cosine_ends_at_final() -> None:
    rate = CosineRate(final=0.05)
    assert rate.factor(0, 100) == 1.0
    assert rate.factor(50, 100) == pytest.approx(0.525)
    assert rate.factor(100, 100) == pytest.approx(0.05)
    assert rate.factor(200, 100) == pytest.approx(0.05)


def test_linear_is_linear() -> None:
    assert [LinearRate().factor(x, 100) for x in (0, 25, 100)] == [1.0, 0.75, 0.0]


def test_exponential_warmup_has_its_time_constant() -> None:
    rate = ConstantRate(warmup_kimg=10.0, warmup="exponential")
    assert rate.factor(9_000, 1e6, 1_000) == pytest.approx(1.0 - math.exp(-1.0))
    assert rate.factor(1_000_000, 1e6, 1_000) == 1.0


def test_restarts_begin_again_at_one() -> None:
    rate = CosineRate(cycles=2)
    assert rate.factor(0, 100) == 1.0
    assert rate.factor(25, 100) == pytest.approx(0.5)
    assert rate.factor(50, 100) == 1.0
    assert rate.factor(100, 100) == 0.0


def test_polynomial_of_power_one_is_linear() -> None:
    for images in (0, 25, 80, 100):
        ours = PolynomialRate(power=1.0, final=0.2).factor(images, 100)
        assert ours == pytest.approx(LinearRate(final=0.2).factor(images, 100))
    assert PolynomialRate().factor(50, 100) == pytest.approx(0.25)


def test_decay_may_wait_for_the_warmup() -> None:
    rate = LinearRate(warmup_kimg=20.0, decay_from="warmup")
    factors = [rate.factor(images, 100_000) for images in (10_000, 20_000, 60_000, 100_000)]
    assert factors == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_endless_decays_know_no_budget_but_a_floor() -> None:
    inverse, halving = InverseRate(inv_gamma_kimg=2.0), ExponentialRate(half_life_kimg=2.0)
    for total in (10.0, 1e9):
        assert inverse.factor(2_000, total) == pytest.approx(0.5)
        assert inverse.factor(6_000, total) == pytest.approx(0.25)
        assert halving.factor(2_000, total) == pytest.approx(0.5)
        assert halving.factor(6_000, total) == pytest.approx(0.125)
    assert InverseRate(inv_gamma_kimg=2.0, least=0.3).factor(6_000, 1.0) == 0.3


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"kind": "cosine", "cycles": 0}, "cycles"),
        ({"kind": "polynomial", "power": 0.0}, "power"),
        ({"kind": "inverse", "inv_gamma_kimg": -1.0}, "inv_gamma_kimg"),
        ({"kind": "exponential", "half_life_kimg": 0.0}, "half_life_kimg"),
        ({"kind": "exponential", "least": 1.5}, "least"),
        ({"kind": "constant", "warmup": "cosine"}, "warmup"),
    ],
)
def test_refused_settings_name_the_field(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        RATE.validate_python(settings)


def trained(toy: dict[str, Any], directory: Path, updates: int, **optimizer: Any) -> list[float]:
    """The rates of the toy trial trained for so many updates."""
    return applied_rates({**toy, "optimizer": {"lr": 0.01, **optimizer}}, updates, directory)


LINEAR = {"kind": "linear"}


def test_a_training_applies_the_decay_of_the_images_before_each_update(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """The worked example of improved-diffusion, diffusers and k-diffusion: five updates to zero, none of them lost."""
    rates = trained(toy, tmp_path, 5, lr_schedule=LINEAR)
    assert rates == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002], rel=1e-12)


@pytest.mark.parametrize(
    ("warmup", "factors"),
    [
        ("linear", [0.5, 1.0, 1.0]),
        ("linear_from_zero", [0.0, 0.5, 1.0]),
        ("exponential", [-math.expm1(-0.5), -math.expm1(-1.0), -math.expm1(-1.5)]),
    ],
)
def test_a_training_warms_up_as_its_ancestor(
    toy: dict[str, Any], tmp_path: Path, warmup: str, factors: list[float]
) -> None:
    """Over two updates: v-diffusion's (n + 1)/2, diffusers' n/2, k-diffusion's 1 - exp(-(n + 1)/2)."""
    schedule = {"kind": "constant", "warmup": warmup, "warmup_kimg": 0.128}
    rates = trained(toy, tmp_path, 3, lr_schedule=schedule)
    assert rates == pytest.approx([0.01 * factor for factor in factors], rel=1e-12)


def test_a_training_of_one_update_moves_the_weights(toy: dict[str, Any], tmp_path: Path) -> None:
    """Adam's first step has the size of the rate, which nothing has decayed yet."""
    assert trained(toy, tmp_path, 1, lr_schedule=LINEAR, grad_clip=None) == [0.01]
    from trainer.trial import TrialSpec

    start = build_network(TrialSpec.model_validate(toy), (2,)).state_dict()
    (checkpoint,) = tmp_path.glob("trial/checkpoint-*/state.pt")
    learner = torch.load(checkpoint, weights_only=True)["learner"]
    moved = max(float((learner[f"network.{k}"] - v).abs().max()) for k, v in start.items())
    # 1e-4: Adam's eps beside a small gradient
    assert moved == pytest.approx(0.01, rel=1e-4)

"""The passport says what is optimized: equal objectives have distance 0, planted mistakes are found."""

import json
import time

import pytest
import torch

from trainer.diffusion import prediction, schedule, timestep, weighting
from trainer.diffusion.passport import (
    equal_objective_twin,
    findings,
    passport,
    total_variation,
)
from trainer.diffusion.process import Diffusion, training_levels

P2_CURVES = [
    schedule.Cosine(),
    schedule.Cosine(steps=1000),
    schedule.LinearBeta(steps=1000),
    schedule.Interpolant(),
]


def text(**cells: Diffusion) -> str:
    return "\n".join(findings(cells))


def twin_of(cell: Diffusion, baseline: Diffusion) -> Diffusion:
    """The twin cell, with its overrides applied as an experiment applies them."""
    overrides = equal_objective_twin(cell, baseline)
    assert overrides is not None
    data = cell.model_dump(mode="json")
    for path, value in overrides.items():
        root, field = path.split(".")
        assert root == "diffusion"
        data[field] = value
    return Diffusion.model_validate(json.loads(json.dumps(data)))


def expected_loss(cell: Diffusion, count: int = 200_000) -> float:
    """Mean loss over u of a network whose epsilon-error is a fixed function of log-SNR."""
    level = training_levels(cell, (torch.arange(count, dtype=torch.float64) + 0.5) / count)
    weight = cell.weighting.weight(level) * cell.timesteps.importance(level, cell.schedule)
    return float((weight * torch.sigmoid(0.8 * level + 1.0)).mean())


@pytest.mark.parametrize("curve", P2_CURVES, ids=lambda c: f"{c.kind}-{c.steps}")
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_p2_weight_and_under_sampling_are_one_objective(
    curve: schedule.Schedule, gamma: float
) -> None:
    weighted = Diffusion(schedule=curve, weighting=weighting.P2(gamma=gamma))
    sampled = Diffusion(schedule=curve, timesteps=timestep.P2(gamma=gamma))
    assert total_variation(weighted, sampled) < 5e-4
    assert "TV 0.000" in text(weighted=weighted, sampled=sampled)


@pytest.mark.parametrize("curve", P2_CURVES, ids=lambda c: f"{c.kind}-{c.steps}")
def test_the_p2_twin_has_the_same_expected_loss(curve: schedule.Schedule) -> None:
    baseline = Diffusion(schedule=curve)
    sampled = Diffusion(schedule=curve, timesteps=timestep.P2())
    twin = twin_of(sampled, baseline)
    assert isinstance(twin.timesteps, timestep.Uniform)
    assert isinstance(twin.weighting, weighting.P2)
    # 1e-4: the stored scale has six digits, u is a grid of 200,000.
    assert expected_loss(twin) == pytest.approx(expected_loss(sampled), rel=1e-4)
    back = twin_of(Diffusion(schedule=curve, weighting=weighting.P2()), baseline)
    assert back.timesteps == timestep.P2()
    assert back.weighting == weighting.Simple()


def test_an_unchanged_objective_has_no_twin() -> None:
    assert equal_objective_twin(Diffusion(prediction=prediction.Data()), Diffusion()) is None


def test_v_prediction_on_cosine_is_uniform_flow_matching() -> None:
    """Kingma & Gao 2023: with the cosine path's densities both have the product sech(log_snr/2)-like shape."""
    velocity = Diffusion(
        schedule=schedule.Cosine(offset=0.0),
        weighting=weighting.Velocity(),
        prediction=prediction.Velocity(),
    )
    edm = velocity.model_copy(update={"weighting": weighting.EDM(sigma_data=1.0)})
    assert total_variation(velocity, edm) < 1e-6


def test_different_objectives_are_told_apart() -> None:
    assert total_variation(Diffusion(), Diffusion(weighting=weighting.P2())) > 0.1
    assert "same objective" not in text(a=Diffusion(), b=Diffusion(weighting=weighting.P2()))


def test_double_p2_is_found() -> None:
    both = Diffusion(timesteps=timestep.P2(), weighting=weighting.P2())
    assert "applies P2 twice" in text(both=both)
    assert "gamma 1" in text(both=both)
    correcting = Diffusion(timesteps=timestep.P2(unbiased=True), weighting=weighting.P2())
    assert "twice" not in text(correcting=correcting)


def test_leaking_terminal_snr_is_found() -> None:
    leaking = Diffusion(schedule=schedule.LinearBeta(steps=100, rescale=False))
    assert "leaves SNR 0.5" in text(leaking=leaking)
    assert "steps: 100" in text(leaking=leaking)
    assert not findings({"fine": Diffusion()})


def test_poor_effective_sample_size_is_found() -> None:
    rare = Diffusion(timesteps=timestep.P2(gamma=1.0, unbiased=True))
    assert "effective sample size" in text(rare=rare)


def test_curves_are_normalized_and_json() -> None:
    card = passport(Diffusion(timesteps=timestep.LogNormal(), weighting=weighting.EDM()))
    step = card.log_snr[1] - card.log_snr[0]
    assert sum(card.product) * step == pytest.approx(1.0, abs=1e-9)
    assert sum(card.density) * step == pytest.approx(1.0, abs=1e-3)
    json.dumps(card.to_dict(), allow_nan=False)


def test_a_passport_takes_milliseconds() -> None:
    passport(Diffusion())
    start = time.process_time()
    for _ in range(5):
        passport(Diffusion())
    assert (time.process_time() - start) / 5 < 0.1

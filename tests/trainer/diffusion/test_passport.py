"""The passport says what is optimized: equal objectives have distance 0, planted mistakes are found."""

import json
import time

import pytest
import torch

from tests.trainer.diffusion.families import ancestor_schedule, golden, members
from trainer.diffusion import prediction, schedule, timestep, weighting
from trainer.diffusion.objective import Hybrid
from trainer.diffusion.passport import (
    SAME_OBJECTIVE,
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
    weight = cell.weighting.weight(level, cell.schedule) * cell.timesteps.importance(
        level, cell.schedule
    )
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


EQUAL = {
    "v-prediction on cosine and uniform flow matching": (
        Diffusion(
            schedule=schedule.GVP(),
            weighting=weighting.Velocity(),
            prediction=prediction.Velocity(),
        ),
        Diffusion(
            schedule=schedule.Interpolant(),
            weighting=weighting.SigmaSqrt(),
            prediction=prediction.Flow(),
        ),
    ),
    "preconditioned(1) and velocity": (
        Diffusion(
            schedule=schedule.Cosine(),
            weighting=weighting.EDM(sigma_data=1.0),
            prediction=prediction.Preconditioned(sigma_data=1.0),
        ),
        Diffusion(
            schedule=schedule.Cosine(),
            weighting=weighting.Velocity(),
            prediction=prediction.Velocity(),
        ),
    ),
    "logit-normal on the straight path and EDM's lognormal": (
        Diffusion(
            schedule=schedule.Interpolant(),
            timesteps=timestep.LogitNormal(mean=-1.2, std=1.2),
            weighting=weighting.EDM(),
        ),
        Diffusion(
            schedule=schedule.Karras(), timesteps=timestep.LogNormal(), weighting=weighting.EDM()
        ),
    ),
    "cosmap density and cosmap weight": (
        Diffusion(
            schedule=schedule.Interpolant(),
            timesteps=timestep.CosMap(),
            weighting=weighting.SigmaSqrt(),
        ),
        Diffusion(schedule=schedule.Interpolant(), weighting=weighting.CosMap()),
    ),
    "the bound on two schedules": (
        Diffusion(schedule=schedule.Interpolant(), weighting=weighting.Elbo()),
        Diffusion(schedule=schedule.GVP(), weighting=weighting.Elbo()),
    ),
    "laplace schedule and laplace sampler": (
        Diffusion(schedule=schedule.Laplace()),
        Diffusion(schedule=schedule.Cosine(), timesteps=timestep.Laplace()),
    ),
}


@pytest.mark.parametrize("pair", EQUAL)
def test_pairs_known_to_be_equal(pair: str) -> None:
    one, other = EQUAL[pair]
    # 5e-4 is what prints as 0.000.
    assert total_variation(one, other) < 5e-4
    assert "(TV 0.000)" in text(one=one, other=other)


CHANGED = [
    {"timesteps": timestep.LogNormal()},
    {"timesteps": timestep.Speed()},
    {"timesteps": timestep.P2(uniform_mix=0.1)},
    {"timesteps": timestep.LogNormal(), "weighting": weighting.MinSNR()},
    {"weighting": weighting.MinSNR()},
    {"weighting": weighting.SoftMinSNR()},
    {"weighting": weighting.Debias()},
]


@pytest.mark.parametrize("curve", [schedule.LinearBeta(steps=1000), schedule.Cosine()], ids=str)
@pytest.mark.parametrize("change", CHANGED, ids=lambda c: "+".join(p.label() for p in c.values()))
def test_general_twins_move_the_product(curve: schedule.Schedule, change: dict) -> None:
    """The twin has the cell's objective; where density moved into weight, the baseline's sampler draws."""
    baseline = Diffusion(schedule=curve)
    cell = baseline.model_copy(update=change)
    if equal_objective_twin(cell, baseline) is None:
        # 1/sqrt(SNR) on a continuous cosine is not integrable enough to be drawn from.
        assert change == {"weighting": weighting.Debias()}
        assert curve.steps is None
        return
    twin = twin_of(cell, baseline)
    assert twin != cell
    assert total_variation(twin, cell) < SAME_OBJECTIVE
    if "timesteps" in change:
        u = (torch.arange(500, dtype=torch.float64) + 0.5) / 500
        torch.testing.assert_close(training_levels(twin, u), training_levels(baseline, u))
        # 5e-3: rare draws with large weights on a grid of 200,000 u.
        assert expected_loss(twin) == pytest.approx(expected_loss(cell), rel=5e-3)
    else:
        assert twin.weighting == baseline.weighting
    back = twin_of(twin, baseline)
    assert total_variation(back, cell) < SAME_OBJECTIVE


def test_a_cell_with_the_baselines_objective_needs_no_twin() -> None:
    cell = Diffusion(timesteps=timestep.P2(unbiased=True, uniform_mix=0.1))
    assert equal_objective_twin(cell, Diffusion()) is None


def test_a_law_beyond_the_schedule_has_no_twin() -> None:
    """Importance weights cannot restore levels that the baseline never visits."""
    baseline = Diffusion(schedule=schedule.LogLinear(log_snr_max=2.0, log_snr_min=-2.0))
    cell = baseline.model_copy(update={"timesteps": timestep.LogNormal()})
    assert equal_objective_twin(cell, baseline) is None


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


def test_epsilon_at_zero_terminal_snr_is_found() -> None:
    curve = schedule.Modified(of=schedule.LinearBeta(), steps=1000, zero_terminal_snr=True)
    assert "predicts epsilon at zero terminal SNR" in text(bad=Diffusion(schedule=curve))
    velocity = Diffusion(
        schedule=curve, prediction=prediction.Velocity(), weighting=weighting.Velocity()
    )
    assert "terminal SNR" not in text(good=velocity)


def test_mismatched_sigma_data_is_found() -> None:
    edm = Diffusion(
        schedule=schedule.Karras(),
        timesteps=timestep.LogNormal(),
        weighting=weighting.EDM(sigma_data=0.5),
        prediction=prediction.Preconditioned(sigma_data=1.0),
    )
    assert "different sigma_data (weighting 0.5, prediction 1)" in text(edm=edm)
    right = edm.model_copy(update={"prediction": prediction.Preconditioned()})
    assert "sigma_data" not in text(edm=right)
    cosine = right.model_copy(update={"timesteps": timestep.VDiffusion(sigma_data=2.0)})
    assert "timesteps 2" in text(edm=cosine)


def test_a_weighting_of_another_space_is_found() -> None:
    lines = text(x=Diffusion(prediction=prediction.Data()))
    assert "the plain MSE of `epsilon`, on a network that predicts `data`" in lines
    assert "its plain MSE is the weighting `data`" in lines
    plain = Diffusion(prediction=prediction.Data(), weighting=weighting.Data())
    assert "plain MSE" not in text(x=plain)
    assert "plain MSE" not in text(x=Diffusion(weighting=weighting.MinSNR()))


def test_a_rescaled_bound_is_found() -> None:
    """The published under-sampler rescales the VLB term 0.0124-1.24x on the ancestor's table."""
    cell = Diffusion(schedule=schedule.LinearBeta(steps=1000), timesteps=timestep.P2())
    assert "VLB" not in text(plain=cell)
    hybrid = cell.model_copy(update={"objective": Hybrid()})
    assert "rescales the VLB term 0.0124-1.24x" in text(hybrid=hybrid)
    corrected = hybrid.model_copy(update={"timesteps": timestep.P2(unbiased=True)})
    assert "VLB" not in text(hybrid=corrected)
    (entry,) = golden("timestep", "under_sampler", schedule="linear", T=1000, respacing=None)[:1]
    low, high = passport(cell).vlb_distortion
    assert low == pytest.approx(1000.0 * min(entry["outputs"]["p"]), rel=1e-9)
    assert high == pytest.approx(1.0 / entry["outputs"]["mean_w"], rel=1e-4)


@pytest.mark.parametrize(
    ("sampler", "steps", "share"),
    [
        (timestep.P2(gamma=0.5, unbiased=True), "linear", 0.57),
        (timestep.P2(gamma=0.5, unbiased=True), "cosine", 0.45),
        (timestep.P2(gamma=1.0, unbiased=True), "linear", 0.04),
        (timestep.P2(gamma=0.5, unbiased=True, uniform_mix=0.1), "linear", 0.78),
        (timestep.P2(gamma=1.0, unbiased=True, uniform_mix=0.1), "cosine", 0.45),
    ],
    ids=str,
)
def test_effective_sample_sizes_of_the_under_sampler(
    sampler: timestep.P2, steps: str, share: float
) -> None:
    card = passport(Diffusion(schedule=ancestor_schedule(steps, 1000), timesteps=sampler))
    # The published shares have two digits.
    assert card.effective_sample_size == pytest.approx(share, abs=0.0051)


def test_a_network_whose_output_is_weighed_evenly_counts_whole() -> None:
    edm = Diffusion(
        schedule=schedule.Karras(),
        timesteps=timestep.LogNormal(),
        weighting=weighting.EDM(),
        prediction=prediction.Preconditioned(),
    )
    assert passport(edm).effective_sample_size == pytest.approx(1.0)


def test_poor_effective_sample_size_is_found() -> None:
    rare = Diffusion(timesteps=timestep.P2(gamma=1.0, unbiased=True))
    assert "effective sample size" in text(rare=rare)


def test_what_learns_has_the_passport_of_its_start() -> None:
    learning = Diffusion(timesteps=timestep.LossSecondMoment())
    assert passport(learning) == passport(Diffusion())
    assert "`it` changes while it trains (timesteps loss_second_moment): " in text(it=learning)
    assert "changes while" not in text(it=Diffusion())
    curve = {"log_snr_max": 9.0, "log_snr_min": -9.0}
    learned = Diffusion(schedule=schedule.Learned(**curve))
    line = Diffusion(schedule=schedule.LogLinear(**curve))
    assert passport(learned) == passport(line)
    assert "same objective" not in text(learned=learned, line=line)


EVERYTHING = (
    [Diffusion(schedule=cls()) for cls in members(schedule.AnySchedule)]
    + [Diffusion(timesteps=cls()) for cls in members(timestep.AnyTimestepSampler)]
    + [Diffusion(weighting=cls()) for cls in members(weighting.AnyWeighting)]
)


@pytest.mark.parametrize("cell", EVERYTHING, ids=lambda c: c.label())
def test_every_member_has_a_passport(cell: Diffusion) -> None:
    card = passport(cell)
    step = card.log_snr[1] - card.log_snr[0]
    assert sum(card.product) * step == pytest.approx(1.0, abs=1e-9)
    assert total_variation(cell, cell) == 0.0
    json.dumps(card.to_dict(), allow_nan=False)
    findings({"cell": cell})


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

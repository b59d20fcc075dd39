"""The passport says what is optimized: equal objectives have distance 0, planted mistakes are found."""

import json
import math
import time
from pathlib import Path

import pytest
import torch

from tests.trainer.diffusion.families import (
    ancestor_schedule,
    golden,
    losses_of,
    members,
    midpoints,
)
from trainer.diffusion import prediction, schedule, timestep, weighting
from trainer.diffusion.objective import MSE, VLB, AnyObjective, Hybrid, Multiscale, Objective
from trainer.diffusion.passport import (
    SAME_OBJECTIVE,
    equal_objective_twin,
    findings,
    loss_distance,
    passport,
    total_variation,
    trained_range,
    twin_refusal,
    untrainable,
)
from trainer.diffusion.process import Diffusion, training_levels
from trainer.trial import TrialSpec

PRESETS = Path(__file__).parents[3] / "experiments" / "presets"
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


def expected_loss(cell: Diffusion) -> float:
    """The training's own mean loss, of a denoiser whose error grows with the noise, over every entry of the table.

    Of a continuous schedule: over 100,000 even u, one pixel each.
    """
    schedule, objective = cell.schedule, cell.objective
    if schedule.steps is None:
        level = training_levels(cell, midpoints(100_000))
        share = torch.full_like(level, 1e-5)
    else:
        level = schedule.table(schedule.steps)
        share = cell.timesteps.relative(level, schedule) / schedule.steps
    shape = (len(level), 1, 1, 4) if schedule.steps else (len(level), 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(1, *shape[1:], generator=generator, dtype=torch.float64) - 0.5
    eps = torch.randn(1, *shape[1:], generator=generator, dtype=torch.float64)
    x0, eps = x0.expand(shape), eps.expand(shape)
    error = torch.sigmoid(0.8 * level + 1.0).sqrt().reshape(-1, 1, 1, 1)
    spread = 0.3 * torch.ones(len(level), objective.extra_channels(1), *shape[2:])

    def network(*_: torch.Tensor) -> torch.Tensor:
        return torch.cat([eps + error * eps, spread.double()], 1)

    part = objective.build()
    if part is not None:
        torch.nn.init.constant_(next(part.parameters()), 0.1)
    losses = losses_of(cell, network, x0, eps, level, part=part)
    return float((share * losses.detach()).sum())


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
    # 1e-4: of a continuous schedule, u is a grid of 100,000.
    rel = 1e-7 if curve.steps else 1e-4
    assert expected_loss(twin) == pytest.approx(expected_loss(sampled), rel=rel)
    again = twin_of(twin, baseline)
    assert again.timesteps == timestep.P2()
    assert again.weighting == weighting.Simple()
    weighted = Diffusion(schedule=curve, weighting=weighting.P2(gamma=1.0))
    back = twin_of(weighted, baseline)
    assert back.timesteps == timestep.P2(gamma=1.0)
    assert expected_loss(back) == pytest.approx(expected_loss(weighted), rel=rel)


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
    else:
        assert twin.weighting == baseline.weighting
    # 5e-3: rare draws with large weights on a grid of 100,000 u.
    assert expected_loss(twin) == pytest.approx(
        expected_loss(cell), rel=1e-6 if curve.steps else 5e-3
    )
    back = twin_of(twin, baseline)
    assert loss_distance(back, cell) < SAME_OBJECTIVE
    assert expected_loss(back) == pytest.approx(
        expected_loss(cell), rel=1e-6 if curve.steps else 5e-3
    )


TABLE = schedule.LinearBeta(steps=100)
WEIGHTINGS = [cls() for cls in members(weighting.AnyWeighting)]
SAMPLERS = [cls() for cls in members(timestep.AnyTimestepSampler)]
OBJECTIVES = [cls() for cls in members(AnyObjective)]


def same_loss_there_and_back(cell: Diffusion, baseline: Diffusion) -> None:
    """The twin has the cell's expected loss, measured on the training's own losses; so has the twin's twin."""
    twin = twin_of(cell, baseline)
    assert twin != cell
    # 1e-6: eight digits of a stored scale, and sums over a table of a hundred
    assert expected_loss(twin) == pytest.approx(expected_loss(cell), rel=1e-6)
    assert loss_distance(twin, cell) < 1e-6
    if equal_objective_twin(twin, baseline) is not None:
        back = twin_of(twin, baseline)
        assert expected_loss(back) == pytest.approx(expected_loss(cell), rel=1e-6)


@pytest.mark.parametrize("weight", WEIGHTINGS, ids=lambda w: w.kind)
def test_every_weighting_may_go_into_the_density(weight: weighting.Weighting) -> None:
    baseline = Diffusion(schedule=TABLE)
    cell = Diffusion(schedule=TABLE, weighting=weight)
    if weight == baseline.weighting:
        assert equal_objective_twin(cell, baseline) is None
        return
    same_loss_there_and_back(cell, baseline)


@pytest.mark.parametrize("kind", ["mse", "hybrid", "vlb", "huber", "learned_uncertainty"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.kind)
def test_every_sampler_may_become_weights(sampler: timestep.TimestepSampler, kind: str) -> None:
    """Under every objective: what is undone or restored is importance, which every term has."""
    (objective,) = (o for o in OBJECTIVES if o.kind == kind)
    baseline = Diffusion(schedule=TABLE, objective=objective)
    cell = Diffusion(schedule=TABLE, objective=objective, timesteps=sampler)
    if total_variation(cell, baseline) < SAME_OBJECTIVE:
        return
    why = twin_refusal(cell, baseline)
    if isinstance(sampler, timestep.Tilted) and kind != "mse":
        assert why == "its timestep sampler combines others already"
        return
    assert why is None
    same_loss_there_and_back(cell, baseline)


def test_the_twin_of_a_hybrid_moves_both_terms() -> None:
    """As improved-diffusion trains it: the twin keeps the squared error and the bound, each on its own."""
    for vlb_weight in (0.0, 0.001, 1.0):
        objective = Hybrid(vlb_weight=vlb_weight)
        baseline = Diffusion(schedule=TABLE, objective=objective)
        under = Diffusion(schedule=TABLE, objective=objective, timesteps=timestep.P2())
        twin = twin_of(under, baseline)
        assert isinstance(twin.timesteps, timestep.Importance)
        assert expected_loss(twin) == pytest.approx(expected_loss(under), rel=1e-9)
    by_weight = Diffusion(
        schedule=TABLE, objective=Hybrid(), weighting=weighting.P2(), timesteps=timestep.Uniform()
    )
    moved = by_weight.model_copy(
        update={"timesteps": timestep.P2(), "weighting": weighting.Simple()}
    )
    assert total_variation(by_weight, moved) > 0.1


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.kind)
def test_a_weighting_that_is_not_the_whole_loss_stays(objective: Objective) -> None:
    """Refused by the objective's name, and only where the density would change more than the weighting did."""
    baseline = Diffusion(schedule=TABLE, objective=objective)
    cell = baseline.model_copy(update={"weighting": weighting.MinSNR()})
    if objective.weighs_itself:
        return
    if isinstance(objective, MSE | Multiscale):
        same_loss_there_and_back(cell, baseline)
        return
    assert equal_objective_twin(cell, baseline) is None
    assert f"objective {objective.kind} does not weigh" in (twin_refusal(cell, baseline) or "")


def test_a_cell_with_the_baselines_objective_needs_no_twin() -> None:
    cell = Diffusion(timesteps=timestep.P2(unbiased=True, uniform_mix=0.1))
    assert equal_objective_twin(cell, Diffusion()) is None


def test_a_law_beyond_the_schedule_has_no_twin() -> None:
    """Importance weights cannot restore levels that the baseline never visits."""
    baseline = Diffusion(schedule=schedule.LogLinear(log_snr_max=2.0, log_snr_min=-2.0))
    cell = baseline.model_copy(update={"timesteps": timestep.LogNormal()})
    assert equal_objective_twin(cell, baseline) is None
    assert "never look where this cell does" in (twin_refusal(cell, baseline) or "")


def test_different_objectives_are_told_apart() -> None:
    assert total_variation(Diffusion(), Diffusion(weighting=weighting.P2())) > 0.1
    assert "same objective" not in text(a=Diffusion(), b=Diffusion(weighting=weighting.P2()))


FORMS = [
    *OBJECTIVES,
    VLB(variance="learned_range"),
    Hybrid(variance="learned"),
    Multiscale(scales=2),
]


@pytest.mark.parametrize("objective", FORMS, ids=lambda o: o.label())
def test_the_kind_and_parameters_of_an_objective_count(objective: Objective) -> None:
    """Nothing else of these cells differs, and no two of them are one objective."""
    cell = Diffusion(objective=objective)
    for other in (Diffusion(objective=o) for o in FORMS if o != objective):
        assert total_variation(cell, other) > 0.1
        assert "same" not in text(cell=cell, other=other).replace("same minimum", "")
    assert total_variation(cell, Diffusion(objective=objective)) == 0.0


def test_the_balance_of_two_terms_counts() -> None:
    """Twice the bound is not the same objective, though each term is the same function of the noise level."""
    once, twice = (Diffusion(objective=Hybrid(vlb_weight=weight)) for weight in (0.001, 0.002))
    assert total_variation(once, twice) == pytest.approx(1 / 3)
    under = once.model_copy(update={"timesteps": timestep.P2()})
    weighed = once.model_copy(update={"weighting": weighting.P2()})
    assert total_variation(under, weighed) > 0.1
    assert [term["form"].split(",")[0] for term in passport(once).terms] == [
        "squared error",
        "bound of 1000 steps",
    ]


def test_a_weight_inside_a_root_is_no_density() -> None:
    """Under mse it is the same objective; under huber it is not, and a factor is not forgiven either."""
    for kind, same in (("mse", True), ("huber", False)):
        cells = [
            Diffusion.model_validate({"objective": {"kind": kind}, **fields})
            for fields in ({"timesteps": {"kind": "p2"}}, {"weighting": {"kind": "p2"}})
        ]
        assert (total_variation(*cells) < 5e-4) == same
    twice = Diffusion.model_validate(
        {"objective": {"kind": "huber"}, "weighting": {"kind": "p2", "gamma": 0, "scale": 2}}
    )
    assert total_variation(twice, Diffusion.model_validate({"objective": {"kind": "huber"}})) > 0.1


def test_the_continuous_bound_is_the_squared_error_weighed_by_elbo() -> None:
    """Equal passports, and equal losses but for the nats in a bit."""
    curve = schedule.LogLinear(log_snr_max=8.0, log_snr_min=-9.0)
    bound = Diffusion(schedule=curve, objective=VLB())
    weighed = Diffusion(schedule=curve, weighting=weighting.Elbo())
    assert total_variation(bound, weighed) == pytest.approx(0.0, abs=1e-12)
    assert "are the same objective" in text(bound=bound, weighed=weighed)
    bits = expected_loss(weighed) / math.log(2.0)
    assert expected_loss(bound) == pytest.approx(bits, rel=1e-9)


def test_another_prediction_is_another_parametrization() -> None:
    """Equal loss of equal denoisers; that only the variance differs would be false."""
    epsilon = Diffusion(weighting=weighting.Velocity())
    velocity = epsilon.model_copy(update={"prediction": prediction.Velocity()})
    lines = text(epsilon=epsilon, velocity=velocity)
    assert "have the same expected loss for the same denoiser (TV 0.000)" in lines
    assert "another parametrization (prediction epsilon and velocity)" in lines
    assert "only the variance" not in lines
    timed = epsilon.model_copy(update={"conditioning": "time"})
    assert "another parametrization (conditioning angle and time)" in text(a=epsilon, b=timed)


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


def test_what_importance_weights_cannot_restore_is_found() -> None:
    """`unbiased` draws what its law leaves out; a proposal that ends early cannot."""
    whole = Diffusion(schedule=schedule.LinearBeta(), timesteps=timestep.LogUniform(unbiased=True))
    assert passport(whole).unseen == 0.0
    assert "never looks" not in text(whole=whole)
    target = timestep.Importance(proposal=timestep.LogUniform(), target=timestep.Uniform())
    narrow = Diffusion(schedule=schedule.LinearBeta(), timesteps=target)
    # beyond edm_sigma 80: 1 - t of log-SNR -8.764, by the quadratic of the class's formula
    decay = math.log1p(80.0**2)
    beyond = 1.0 - (math.sqrt(0.01 + 2.0 * 19.9 * decay) - 0.1) / 19.9
    # 2e-3: the grid's spacing in log-SNR
    assert passport(narrow).unseen == pytest.approx(beyond, abs=2e-3)
    assert beyond == pytest.approx(0.066, abs=1e-3)
    assert "never looks where 0.06" in text(narrow=narrow)


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


def test_a_schedule_that_learns_by_another_objective_is_found() -> None:
    learned = Diffusion(schedule=schedule.Learned())
    assert "learns its schedule by the variational bound, its network by `mse`" in text(it=learned)
    for change in ({"objective": VLB()}, {"weighting": weighting.Elbo()}):
        assert "learns its schedule" not in text(it=learned.model_copy(update=change))
    assert "learns its schedule" not in text(it=Diffusion())


def test_the_trained_range_is_that_of_the_sampler_on_the_schedule() -> None:
    line = schedule.LogLinear(log_snr_max=9.0, log_snr_min=-7.0)
    # one draw in two thousand of a range of 16 lies beyond either end
    assert trained_range(Diffusion(schedule=line)) == pytest.approx((-6.992, 8.992), abs=1e-6)
    table = schedule.ConstantBeta(steps=50)
    ends = (float(table.table(50)[-1]), float(table.table(50)[0]))
    assert trained_range(Diffusion(schedule=table)) == pytest.approx(ends)
    narrow = Diffusion(schedule=line, timesteps=timestep.LogUniform(sigma_min=0.1, sigma_max=2.0))
    beyond = 5e-4 * 2.0 * math.log(20.0)
    wanted = (-2.0 * math.log(2.0) + beyond, -2.0 * math.log(0.1) - beyond)
    assert trained_range(narrow) == pytest.approx(wanted, abs=1e-6)


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


def test_cells_of_a_large_sweep_are_held_against_each_other_in_seconds() -> None:
    """Each objective is computed once, not once for each pair: 120 cells made 14,280 passes, a minute."""
    cells = {
        f"c{n}": Diffusion(timesteps=timestep.LogNormal(mean=-2.0 + n / 30)) for n in range(120)
    }
    cells["again"] = cells["c7"]
    begun = time.process_time()
    lines = findings(cells)
    assert time.process_time() - begun < 10.0
    assert [line for line in lines if "`c7` and `again`" in line]


@pytest.mark.parametrize("sampler", [(2.0, 0.0), (2.0, 1e3), (4.0, 100.0)])
@pytest.mark.parametrize("by_weight", [False, True])
def test_a_twin_whose_weight_no_spec_may_have_goes_without_it(
    sampler: tuple[float, float], by_weight: bool
) -> None:
    """Its mean over uniform times lies beyond the bounds of `scale`; importance weights need none."""
    gamma, k = sampler
    baseline = Diffusion(schedule=schedule.Cosine(steps=1000))
    changed = (
        {"weighting": weighting.P2(gamma=gamma, k=k)}
        if by_weight
        else {"timesteps": timestep.P2(gamma=gamma, k=k)}
    )
    cell = baseline.model_copy(update=changed)
    assert untrainable(cell) is None
    assert loss_distance(twin_of(cell, baseline), cell) < SAME_OBJECTIVE


NOTHING = {
    "infinite": ("diffusion: weighs some", {"weighting": weighting.P2(gamma=1000.0, k=0.0)}),
    "beyond float32": ("diffusion: weighs some", {"weighting": weighting.P2(gamma=50.0, k=1e-6)}),
    "zero": ("diffusion: weighs every", {"weighting": weighting.P2(gamma=1000.0, k=1e6)}),
    "never drawn": (
        "diffusion: weighs every",
        {
            "timesteps": timestep.Importance(
                proposal=timestep.LogNormal(mean=-80.0, std=1e-6), target=timestep.Uniform()
            )
        },
    ),
    "no density": ("diffusion", {"timesteps": timestep.P2(gamma=1000.0, k=1e6)}),
    "long": (
        "diffusion.schedule: has no noise level from step 74906 of 80000 on",
        {"schedule": schedule.LinearBeta(steps=80_000, rescale=False)},
    ),
    "steep": (
        "diffusion.schedule: has no noise level from step 299 of 1000 on",
        {"schedule": schedule.LinearBeta(beta_start=0.9, beta_end=0.95, rescale=False, steps=1000)},
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_an_objective_that_leaves_nothing_to_learn_is_named(case: str) -> None:
    """And its passport and its distances are numbers all the same."""
    said, changed = NOTHING[case]
    cell = Diffusion(schedule=schedule.Cosine(steps=1000)).model_copy(update=changed)
    assert str(untrainable(cell)).startswith(said)
    if "schedule" not in changed:
        passport(cell)
        assert 0.0 <= total_variation(cell, Diffusion()) <= 1.0


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.yaml")), ids=lambda file: file.stem)
def test_presets_have_something_to_learn(preset: Path) -> None:
    assert untrainable(TrialSpec.from_yaml(preset).diffusion) is None


def test_weights_so_uneven_that_their_squares_overflow_are_told_of() -> None:
    """(E w)^2 / E w^2 of weights up to 1e37, and once of infinitely uneven ones."""
    cell = Diffusion(
        schedule=schedule.Cosine(steps=1000), weighting=weighting.P2(gamma=6.0, k=1e-6)
    )
    assert 0.0 < passport(cell).effective_sample_size < 0.01
    assert "weighs its examples so unevenly" in text(cell=cell)


def test_training_at_one_noise_level_is_something_to_learn() -> None:
    """However narrow: the weights there are one."""
    narrow = timestep.LogNormal(mean=-1.23, std=1e-4)
    cell = Diffusion(schedule=schedule.Cosine(steps=None), timesteps=narrow)
    assert untrainable(cell) is None

"""Weightings, stated on the epsilon-MSE, equal the published ones in the space they were published in.

Golden entries are outputs of the ancestor systems in float64, at rtol 1e-9 unless a wider one says why.
"""

import pytest
import torch
from pydantic import ValidationError

from tests.trainer.diffusion.families import ancestor_schedule, golden, tensor
from trainer.diffusion import prediction, schedule, weighting
from trainer.diffusion.log_snr import from_edm_sigma


def name(entry: dict) -> str:
    return entry["name"].replace("/public", "")


@pytest.mark.parametrize("entry", golden("weighting", "p2_weight"), ids=name)
def test_p2_weight(entry: dict) -> None:
    given = entry["inputs"]
    curve = ancestor_schedule(given["schedule"], given["T"])
    if given["respacing"]:
        curve = schedule.Respaced(of=curve, rule=given["respacing"])
    level = curve.table(curve.steps)
    weight = weighting.P2(gamma=given["p2_gamma"], k=given["p2_k"]).weight(level)
    # The ancestor's SNR = 1/(1 - abar) - 1 cancels at the noisy end, which shows when k = 0.
    rtol = 1e-5 if given["p2_k"] == 0 else 1e-9
    expected = tensor(entry["outputs"]["weight"])
    torch.testing.assert_close(weight[given["indices"]], expected, rtol=rtol, atol=0.0)
    mean = entry["outputs"]["mean_weight_over_all_t"]
    assert float(weight.mean()) == pytest.approx(mean, rel=rtol)


V_DIFFUSION = {
    "constant": weighting.Data(),
    "snr": weighting.Simple(),
    "snr_trunc": weighting.TruncatedSNR(),
    "snr_1plus": weighting.Velocity(),
}
OF_X0 = [e for e in golden("weighting", "loss_weight") if "reweight_type" in e["inputs"]]


@pytest.mark.parametrize("entry", OF_X0, ids=name)
def test_v_diffusion_weights(entry: dict) -> None:
    level = tensor(entry["inputs"]["logsnr"])
    on_x0 = V_DIFFUSION[entry["inputs"]["reweight_type"]].weight(level) * torch.exp(level)
    # 1e-6: the ancestor's weight was measured as a ratio of losses, which cancels beyond |l| = 12.
    expected = tensor(entry["outputs"]["weight_on_x0_mse"])
    torch.testing.assert_close(on_x0, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("entry", golden("weighting", "loss-weighting"), ids=name)
def test_k_diffusion_weights_in_the_networks_space(entry: dict) -> None:
    sigma_data = entry["inputs"]["sigma_data"]
    level = from_edm_sigma(tensor(entry["inputs"]["sigma"]))
    change = prediction.Preconditioned(sigma_data=sigma_data).residual_weight(level)
    members = {
        "karras": weighting.EDM(sigma_data=sigma_data),
        "soft-min-snr": weighting.SoftMinSNR(gamma=sigma_data**-2),
        "snr": weighting.Simple(),
    }
    for key, member in members.items():
        ours = member.weight(level) * change
        expected = tensor(entry["outputs"][key]).expand_as(ours)
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=0.0)


DIFFSCHED = {
    "linear": schedule.LinearBeta(steps=10, rescale=False),
    "constant": schedule.ConstantBeta(steps=10),
    "hyperbolic": schedule.Hyperbolic(steps=10),
    "cos_squared": schedule.CosSquared(steps=10),
}


@pytest.mark.parametrize("kind", DIFFSCHED)
def test_diffsched_weights(kind: str) -> None:
    (entry,) = golden("weighting", "loss_weight", beta_schedule=kind)
    curve = DIFFSCHED[kind]
    level = curve.table(10)[entry["inputs"]["timesteps"]]
    expected = tensor(entry["outputs"]["weights"])
    ours = weighting.DiffschedWeighted().weight(level, curve)
    # 1e-7: 1 - alphas_cumprod cancels in the ancestor at the first step.
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=0.0)
    torch.testing.assert_close(weighting.Elbo().weight(level, curve), 10.0 * ours)


CURVES = [schedule.Cosine(), schedule.LinearBeta(), schedule.LogLinear(), schedule.Interpolant()]


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
def test_the_bound_is_the_same_on_every_schedule(curve: schedule.Schedule) -> None:
    """Kingma et al. 2021: over log-SNR the continuous bound weighs the epsilon-MSE by 1/2 everywhere."""
    level = torch.linspace(-8.0, 8.0, 65, dtype=torch.float64)
    over_level = weighting.Elbo().weight(level, curve) * curve.slowness(level)
    torch.testing.assert_close(over_level, torch.full_like(level, 0.5), rtol=1e-9, atol=0.0)
    shaped = weighting.Sigmoid(bias=1.0).weight(level, curve) * curve.slowness(level)
    torch.testing.assert_close(shaped, 0.5 * torch.sigmoid(1.0 - level), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("t", [0.0, 1e-9, 1e-4, 0.5, 1.0 - 1e-9, 1.0])
def test_the_bound_weighs_the_ends_as_the_middle(t: float) -> None:
    """On a straight line from 8 to -9 the bound is 17/2 everywhere; its shape over log-SNR is a factor of it."""
    line = schedule.LogLinear(log_snr_max=8.0, log_snr_min=-9.0)
    level = line.log_snr(torch.tensor([t], dtype=torch.float64))
    assert float(weighting.Elbo().weight(level, line)) == pytest.approx(8.5, rel=1e-12)
    shaped = float(torch.sigmoid(2.0 - level))
    assert float(weighting.Sigmoid().weight(level, line)) == pytest.approx(8.5 * shaped, rel=1e-12)


def test_the_discrete_bound_approaches_the_continuous_one() -> None:
    table, curve = schedule.LogLinear(steps=4000), schedule.LogLinear()
    level = table.table(4000)[10:-10:100]
    discrete = weighting.Elbo().weight(level, table)
    # expm1(h)/h - 1 is half a step of log-SNR, 0.005.
    torch.testing.assert_close(discrete, weighting.Elbo().weight(level, curve), rtol=6e-3, atol=0.0)


@pytest.mark.parametrize("member", ["Elbo", "Sigmoid", "DiffschedWeighted"])
def test_a_weighting_that_needs_the_schedule_says_so(member: str) -> None:
    with pytest.raises(ValueError, match="depends on the schedule"):
        getattr(weighting, member)().weight(torch.zeros(1))


def test_sd3_weights_on_the_flow() -> None:
    level = torch.linspace(-9.0, 9.0, 73, dtype=torch.float64)
    s = torch.sigmoid(-0.5 * level)
    on_flow = prediction.Flow().residual_weight(level)
    plain = weighting.SigmaSqrt().weight(level) * on_flow
    torch.testing.assert_close(plain, torch.ones_like(level), rtol=1e-12, atol=0.0)
    squared = weighting.SigmaSqrt(space="flow").weight(level) * on_flow
    torch.testing.assert_close(squared, s**-2, rtol=1e-12, atol=0.0)
    cosmap = weighting.CosMap().weight(level) * on_flow
    expected = 2.0 / (torch.pi * (1.0 - 2.0 * s + 2.0 * s**2))
    torch.testing.assert_close(cosmap, expected, rtol=1e-12, atol=0.0)
    on_x0 = weighting.CosMap(space="data").weight(level) * torch.exp(level)
    torch.testing.assert_close(on_x0, expected, rtol=1e-12, atol=0.0)


def test_debias_and_soft_min_snr_closed_forms() -> None:
    level = torch.linspace(-9.0, 9.0, 73, dtype=torch.float64)
    snr = torch.exp(level)
    torch.testing.assert_close(weighting.Debias().weight(level), snr**-0.5)
    soft = weighting.SoftMinSNR(gamma=5.0).weight(level)
    torch.testing.assert_close(soft * snr, 5.0 * snr / (snr + 5.0))
    hard = weighting.MinSNR(gamma=5.0).weight(level)
    assert (soft <= hard).all()
    # Farthest apart at SNR = gamma, by a factor of two.
    assert float((hard / soft).max()) <= 2.0


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("P2", {"gamma": -0.1}, "gamma"),
        ("P2", {"scale": 0.0}, "scale"),
        ("MinSNR", {"gamma": 0.0}, "gamma"),
        ("SoftMinSNR", {"gamma": -5.0}, "gamma"),
        ("EDM", {"sigma_data": 0.0}, "sigma_data"),
        ("Sigmoid", {"bias": float("nan")}, "bias"),
        ("CosMap", {"space": "velocity"}, "space"),
        ("DiffschedWeighted", {"nominal_steps": 0}, "nominal_steps"),
    ],
)
def test_bad_parameters_name_the_field(kind: str, fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        getattr(weighting, kind)(**fields)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_weight_is_one_on_its_own_network(sigma_data: float) -> None:
    level = torch.linspace(-12.0, 12.0, 97, dtype=torch.float64)
    on_network = weighting.EDM(sigma_data=sigma_data).weight(level)
    on_network = on_network * prediction.Preconditioned(sigma_data=sigma_data).residual_weight(
        level
    )
    torch.testing.assert_close(on_network, torch.ones_like(level), rtol=1e-12, atol=0.0)


def test_velocity_is_edm_with_unit_data() -> None:
    level = torch.linspace(-12.0, 12.0, 97, dtype=torch.float64)
    ours = weighting.Velocity().weight(level)
    torch.testing.assert_close(ours, weighting.EDM(sigma_data=1.0).weight(level))


@pytest.mark.parametrize("member", ["Epsilon", "Data", "Velocity"])
def test_min_snr_is_right_for_every_prediction(member: str) -> None:
    """min(SNR, 5)/SNR for epsilon, min(SNR, 5) for x0, min(SNR, 5)/(SNR + 1) for v (Hang et al. 2023)."""
    level = torch.linspace(-8.0, 8.0, 65, dtype=torch.float64)
    snr = torch.exp(level)
    divisor = {"Epsilon": snr, "Data": torch.ones_like(snr), "Velocity": snr + 1.0}[member]
    on_network = weighting.MinSNR().weight(level)
    on_network = on_network * getattr(prediction, member)().residual_weight(level)
    torch.testing.assert_close(on_network, snr.clamp(max=5.0) / divisor, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_edm_weight_in_denoiser_space(sigma: float) -> None:
    level = from_edm_sigma(torch.tensor(sigma, dtype=torch.float64))
    expected = (sigma**2 + 0.25) / (sigma * 0.5) ** 2 * sigma**2
    assert float(weighting.EDM().weight(level)) == pytest.approx(expected, rel=1e-12)


def test_p2_scale_makes_losses_comparable() -> None:
    level = schedule.Cosine(steps=1000).table(1000)
    mean = float(weighting.P2().weight(level).mean())
    assert float(weighting.P2(scale=1.0 / mean).weight(level).mean()) == pytest.approx(1.0)

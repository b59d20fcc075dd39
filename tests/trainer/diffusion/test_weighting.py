"""Weightings, stated on the epsilon-MSE, equal the published ones in the space they were published in.

Golden entries are outputs of the ancestor systems in float64, at rtol 1e-9 unless a wider one says why.
"""

import pytest
import torch

from tests.trainer.diffusion.families import ancestor_schedule, golden, tensor
from trainer.diffusion import prediction, schedule, weighting
from trainer.diffusion.log_snr import from_edm_sigma


def name(entry: dict) -> str:
    return entry["name"].replace("/public", "")


@pytest.mark.parametrize("entry", golden("weighting", "p2_weight", respacing=None), ids=name)
def test_p2_weight(entry: dict) -> None:
    given = entry["inputs"]
    level = ancestor_schedule(given["schedule"], given["T"]).table(given["T"])
    weight = weighting.P2(gamma=given["p2_gamma"], k=given["p2_k"]).weight(level)
    # The ancestor's SNR = 1/(1 - abar) - 1 cancels at the noisy end, which shows when k = 0.
    rtol = 1e-5 if given["p2_k"] == 0 else 1e-9
    expected = tensor(entry["outputs"]["weight"])
    torch.testing.assert_close(weight[given["indices"]], expected, rtol=rtol, atol=0.0)
    mean = entry["outputs"]["mean_weight_over_all_t"]
    assert float(weight.mean()) == pytest.approx(mean, rel=rtol)


@pytest.mark.parametrize(("reweight", "member"), [("snr", "Simple"), ("snr_1plus", "Velocity")])
def test_v_diffusion_weights(reweight: str, member: str) -> None:
    for entry in golden("weighting", "loss_weight", reweight_type=reweight):
        level = tensor(entry["inputs"]["logsnr"])
        on_x0 = getattr(weighting, member)().weight(level) * torch.exp(level)
        # 1e-6: the ancestor's weight was measured as a ratio of losses, which cancels beyond |l| = 12.
        torch.testing.assert_close(
            on_x0, tensor(entry["outputs"]["weight_on_x0_mse"]), rtol=1e-6, atol=0.0
        )


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

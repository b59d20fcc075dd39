"""Predictions convert as the ancestors do, and every loss is that of the converted prediction.

Golden entries are outputs of the ancestor systems in float64, at rtol 1e-9 unless a wider one says why. The
ancestor of `train_loss` compares the target with the raw output for most pairs: there the correct value counts.
"""

import pytest
import torch
from torch import Tensor

from tests.trainer.diffusion.families import golden, losses_of, tensor
from trainer.diffusion import log_snr as noise
from trainer.diffusion import prediction, schedule, weighting
from trainer.diffusion.process import Diffusion

HEADS = {
    "x0": prediction.Data(),
    "eps": prediction.Epsilon(),
    "v": prediction.Velocity(),
    "both": prediction.Both(),
}
WEIGHTS = {
    "constant": weighting.Data(),
    "snr": weighting.Simple(),
    "snr_trunc": weighting.TruncatedSNR(),
    "snr_1plus": weighting.Velocity(),
}


def name(entry: dict) -> str:
    return entry["name"].replace("/public", "")


@pytest.mark.parametrize("entry", golden("prediction", "convert"), ids=name)
def test_conversion_to_x0_eps_and_v(entry: dict) -> None:
    given, out = entry["inputs"], entry["outputs"]
    level, x_t = tensor(given["logsnr"]), tensor(given["x_t"])
    meaning = HEADS[given["model_out_type"]]
    x0 = meaning.x0(meaning.merged(tensor(given["model_out"]), level), x_t, level)
    torch.testing.assert_close(x0, tensor(out["x0"]), rtol=1e-9, atol=1e-9)
    alpha, sigma = noise.expand(noise.alpha(level), x0), noise.expand(noise.sigma(level), x0)
    eps = (x_t - alpha * x0) / sigma
    # 1e-7: at log-SNR 20 dividing by sigma = 5e-5 costs five digits.
    torch.testing.assert_close(alpha * eps - sigma * x0, tensor(out["v"]), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("entry", golden("prediction", "train_loss"), ids=name)
def test_every_pair_has_the_loss_of_its_converted_prediction(entry: dict) -> None:
    given = entry["inputs"]
    ends = {"log_snr_min": given["logsnr_min"], "log_snr_max": given["logsnr_max"]}
    level = schedule.CosineEnds(**ends).log_snr(tensor(given["t"]))
    x0, eps, out = (tensor(given[key]) for key in ("x0", "noise", "model_out"))
    meaning = HEADS[given["model_out_type"]]
    residual = meaning.merged(out, level) - meaning.target(x0, eps, level)
    residual = residual.square().flatten(1).mean(1)
    weight = WEIGHTS[given["reweight_type"]].weight(level)
    torch.testing.assert_close(
        weight * meaning.residual_weight(level) * residual,
        tensor(entry["outputs"]["loss_per_example"]),
        rtol=1e-8,
        atol=0.0,
    )


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_preconditioning_scalings(sigma_data: float) -> None:
    """c_skip, c_out and c_in of EDM, whose x is ours over alpha."""
    (entry,) = golden("prediction", "preconditioning", sigma_data=sigma_data)[:1]
    level = noise.from_edm_sigma(tensor(entry["inputs"]["sigma"]))
    c = prediction.Preconditioned(sigma_data=sigma_data).coefficients(level)
    alpha = noise.alpha(level)
    for ours, key in ((c.skip * alpha, "c_skip"), (c.out, "c_out"), (c.inp * alpha, "c_in")):
        torch.testing.assert_close(ours, tensor(entry["outputs"][key]), rtol=1e-9, atol=1e-12)


def test_preconditioned_with_unit_data_is_velocity_turned() -> None:
    level = torch.linspace(-12.0, 12.0, 97, dtype=torch.float64)
    edm = prediction.Preconditioned(sigma_data=1.0).coefficients(level)
    velocity = prediction.Velocity().coefficients(level)
    torch.testing.assert_close(edm.skip, velocity.skip, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(edm.out, -velocity.out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(edm.inp, velocity.inp, rtol=1e-12, atol=1e-12)


SCRIPTED = {
    "loss/karras/karras": (prediction.Preconditioned(), weighting.EDM()),
    "loss/karras/soft-min-snr": (prediction.Preconditioned(), weighting.SoftMinSNR()),
    "loss/karras/snr": (prediction.Preconditioned(), weighting.Simple()),
    "loss/simple": (prediction.Preconditioned(), weighting.Simple()),
    "loss/v": (prediction.Velocity(), weighting.Velocity()),
}


@pytest.mark.parametrize("key", SCRIPTED)
def test_losses_of_a_scripted_network(key: str) -> None:
    meaning, weight = SCRIPTED[key]
    entries = golden("prediction", "loss") + golden("prediction", "external")
    (entry,) = (e for e in entries if e["name"].startswith(f"{key}/"))
    given = entry["inputs"]
    level = noise.from_edm_sigma(tensor(given["sigma"]))
    x0, eps = tensor(given["x"]), tensor(given["noise"])
    output = _scripted(meaning, noise.noised(x0, eps, level), level)
    residual = (output - meaning.target(x0, eps, level)).square().flatten(1).mean(1)
    loss = weight.weight(level) * meaning.residual_weight(level) * residual
    torch.testing.assert_close(loss, tensor(entry["outputs"]["loss"]), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("key", ["denoiser/forward", "external/v/forward"])
def test_denoisers_of_a_scripted_network(key: str) -> None:
    meaning = prediction.Velocity() if "/v/" in key else prediction.Preconditioned()
    entries = golden("prediction", "preconditioning") + golden("prediction", "external")
    (entry,) = (e for e in entries if e["name"].startswith(f"{key}/"))
    level = noise.from_edm_sigma(tensor(entry["inputs"]["sigma"]))
    # The ancestor hands x over in the variance-exploding gauge.
    x_t = noise.expand(noise.alpha(level), level.new_zeros(3, 1, 1, 1)) * tensor(
        entry["inputs"]["x"]
    )
    x0 = meaning.x0(_scripted(meaning, x_t, level), x_t, level)
    torch.testing.assert_close(x0, tensor(entry["outputs"]["D"]), rtol=1e-9, atol=1e-12)


def _scripted(meaning: prediction.Prediction, x_t: Tensor, level: Tensor) -> Tensor:
    """F(x, c) = 0.7 tanh(x) + 0.05 log(c), c = edm_sigma for EDM and the angle for v."""
    inp = noise.expand(meaning.coefficients(level).inp, x_t)
    velocity = isinstance(meaning, prediction.Velocity)
    condition = noise.angle(level) if velocity else noise.edm_sigma(level)
    return 0.7 * torch.tanh(inp * x_t) + 0.05 * noise.expand(torch.log(condition), x_t)


def test_both_needs_two_heads() -> None:
    assert Diffusion(prediction=prediction.Both()).output_channels(3) == 6
    with pytest.raises(ValueError, match="two heads"):
        prediction.Both().merged(torch.zeros(2, 3, 4), torch.zeros(2))
    cell, x = Diffusion(prediction=prediction.Both()), torch.zeros(5, 2)
    with pytest.raises(
        ValueError, match="2 output channels, objective mse needs 4 with prediction both"
    ):
        cell.denoise(lambda x, _: x, x, torch.zeros(5))


def test_both_denoises_with_a_network_of_two_heads() -> None:
    """A network that knows x0 and eps gives x0 back and has no loss."""
    generator = torch.Generator().manual_seed(2)
    x0, eps = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    level = torch.linspace(-4.0, 4.0, 5, dtype=torch.float64)
    cell = Diffusion(prediction=prediction.Both(), weighting=weighting.TruncatedSNR())

    def network(*_: Tensor) -> Tensor:
        return torch.cat([x0, eps], 1)

    torch.testing.assert_close(cell.denoise(network, noise.noised(x0, eps, level), level), x0)
    assert float(losses_of(cell, network, x0, eps, level).abs().max()) < 1e-20

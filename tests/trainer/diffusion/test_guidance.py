"""Classifier-free guidance is Ho & Salimans' formula, and labels really are dropped.

Proved here: k-diffusion's guided denoiser, guided sample and label dropout (v-diffusion's guided steps are in
test_process); the guidance interval spends no evaluation outside; rescaling restores each image's deviation;
hiding labels changes what the network sees in training.
"""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.trainer.diffusion.families import losses_of
from tests.trainer.diffusion.solver_cases import (
    Gaussian,
    edm_log_snr,
    golden,
    mixture,
    no_noise,
    tensor,
)
from trainer.diffusion.guidance import Guidance, LabelDropout
from trainer.diffusion.process import Diffusion
from trainer.diffusion.solver import DPMpp2M
from trainer.inputs import bound


def test_k_diffusion_guidance() -> None:
    """Their scale multiplies cond - uncond from uncond on: it is 1 + w."""
    given = golden("solver_kdiff")
    inputs, shift = given["cfg"]["inputs"], given["denoiser"]["shift_by_class"]
    labelled = mixture([shift[c] for c in inputs["class_cond"]])
    unlabelled = mixture(shift[inputs["num_classes"]])
    denoise = Guidance(scale=inputs["cfg_scale"] - 1.0).denoiser(labelled, unlabelled)
    level = edm_log_snr([inputs["sigma"]])[0]
    x = tensor(given["shared"]["x0_public"]) / math.hypot(1.0, inputs["sigma"])
    torch.testing.assert_close(
        denoise(x, level), tensor(given["cfg"]["outputs"]["D"]), rtol=1e-9, atol=1e-10
    )
    ramp = torch.linspace(0.0, 1.0, 8, dtype=torch.float64)
    sigmas = (10.0 ** (1 / 7) + ramp * (0.02 ** (1 / 7) - 10.0 ** (1 / 7))) ** 7
    start = tensor(given["shared"]["z_public"]) * 10.0 / math.hypot(1.0, 10.0)
    ours = DPMpp2M().sample(denoise, -2.0 * torch.log(sigmas), start, no_noise)
    torch.testing.assert_close(ours, tensor(given["cfg"]["outputs"]["x"]), rtol=1e-9, atol=1e-10)


def test_label_dropout_is_k_diffusion_s() -> None:
    given = golden("solver_kdiff")["class_dropout"]
    dropout = LabelDropout(rate=given["inputs"]["cond_dropout_rate"])
    labels, u = torch.tensor(given["inputs"]["class_cond"]), tensor(given["inputs"]["u"])
    shown = dropout.apply(labels, u, given["inputs"]["num_classes"])
    assert shown.tolist() == given["outputs"]["class_cond"]
    assert LabelDropout(rate=1.0).apply(labels, u, -1).tolist() == [-1] * 8
    assert LabelDropout(rate=0.0).apply(labels, u, -1).tolist() == labels.tolist()


def test_dropped_labels_change_the_training_loss() -> None:
    """v-diffusion dropped them after the network had seen them: there, this difference is zero."""
    diffusion, x = Diffusion(), torch.ones(4, 2)
    levels = torch.zeros(4, dtype=torch.float64)

    def network(x: Tensor, _: Tensor, labels: Tensor) -> Tensor:
        return x * labels[:, None]

    labels = torch.tensor([1, 2, 3, 4])
    kept = losses_of(diffusion, bound(network, {"labels": labels}), x, x, levels)
    hidden = LabelDropout(rate=0.5).apply(labels, torch.tensor([0.1, 0.9, 0.4, 0.6]), 0)
    dropped = losses_of(diffusion, bound(network, {"labels": hidden}), x, x, levels)
    assert (kept != dropped).tolist() == [True, False, True, False]


def test_interval_and_scale_zero_spend_nothing() -> None:
    """The network without label runs only where guidance acts."""
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    guidance = Guidance(scale=2.0, log_snr_min=-1.0, log_snr_max=2.0)
    for level, guided in ((-1.5, False), (-1.0, True), (0.0, True), (2.0, True), (2.5, False)):
        with_label, without = Gaussian(1.0), Gaussian(-1.0)
        ours = guidance.denoiser(with_label, without)(x, torch.tensor(level))
        assert without.calls == guided
        plain = Gaussian(1.0)(x, torch.tensor(level))
        assert torch.equal(ours, plain) != guided
    unused = Gaussian()
    Guidance().denoiser(Gaussian(1.0), unused)(x, torch.tensor(0.0))
    assert unused.calls == 0


def test_rescale_restores_the_deviation() -> None:
    """phi = 1 gives each image the deviation of its unguided estimate, phi = 1/2 is halfway (Lin et al. 2023)."""
    generator = torch.Generator().manual_seed(0)
    cond, uncond = torch.randn(2, 4, 3, 8, 8, generator=generator, dtype=torch.float64)
    plain = Guidance(scale=4.0).combine(cond, uncond)
    torch.testing.assert_close(plain, 5.0 * cond - 4.0 * uncond)
    full = Guidance(scale=4.0, rescale=1.0).combine(cond, uncond)
    torch.testing.assert_close(full.std((1, 2, 3)), cond.std((1, 2, 3)))
    half = Guidance(scale=4.0, rescale=0.5).combine(cond, uncond)
    torch.testing.assert_close(half, 0.5 * (full + plain))
    flat = Guidance(scale=1.0, rescale=1.0).combine(torch.ones(2, 3), torch.zeros(2, 3))
    assert bool(torch.isfinite(flat).all())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": -0.5}, "scale"),
        ({"rescale": 1.5}, "rescale"),
        ({"log_snr_min": 1.0, "log_snr_max": 0.0}, "log_snr_min must be smaller"),
    ],
)
def test_refused_settings_name_the_field(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Guidance.model_validate(settings)
    assert Guidance.model_validate_json(Guidance(scale=1.0).model_dump_json()).scale == 1.0
    with pytest.raises(ValidationError, match="rate"):
        LabelDropout(rate=1.1)

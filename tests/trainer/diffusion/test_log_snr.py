"""The scales that follow from log-SNR are exact and invert each other, also where alpha or sigma is nearly 1."""

import pytest
import torch

from tests.trainer.diffusion.families import golden, tensor
from trainer.diffusion import log_snr as noise

LEVELS = torch.linspace(-30.0, 30.0, 241, dtype=torch.float64)


def test_variance_is_preserved() -> None:
    total = noise.alpha(LEVELS) ** 2 + noise.sigma(LEVELS) ** 2
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-15, atol=0.0)


def test_the_small_coefficient_keeps_its_digits() -> None:
    # At +-30 the small one is exp(-15) up to 1e-13: no 1 - x cancellation.
    ends = torch.tensor([-30.0, 30.0], dtype=torch.float64)
    small = torch.exp(torch.tensor(-15.0, dtype=torch.float64))
    torch.testing.assert_close(noise.alpha(ends)[0], small, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(noise.sigma(ends)[1], small, rtol=1e-12, atol=0.0)


def test_scales_invert() -> None:
    torch.testing.assert_close(noise.from_edm_sigma(noise.edm_sigma(LEVELS)), LEVELS)
    near = LEVELS[LEVELS < 15.0]
    # 1e-9: alpha^2 near one has lost log10(e^15) of its 16 digits.
    torch.testing.assert_close(
        noise.from_alpha_squared(noise.alpha(near) ** 2), near, rtol=0.0, atol=1e-8
    )


def test_angle_is_the_time_of_the_cosine_path() -> None:
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    level = -2.0 * torch.log(torch.tan(0.5 * torch.pi * t))
    torch.testing.assert_close(noise.angle(level), t, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("entry", golden("prediction", "q_sample"), ids=lambda e: e["name"])
def test_noised_matches_the_ancestor(entry: dict) -> None:
    x0, eps = tensor(entry["inputs"]["x0"]), tensor(entry["inputs"]["eps"])
    level = tensor(entry["inputs"]["logsnr"])
    torch.testing.assert_close(
        noise.noised(x0, eps, level), tensor(entry["outputs"]["x_t"]), rtol=1e-9, atol=1e-12
    )


def test_noised_keeps_the_dtype_of_x0() -> None:
    x0 = torch.ones(3, 2)
    assert noise.noised(x0, x0, torch.zeros(3, dtype=torch.float64)).dtype == torch.float32

"""Schedules equal the published tables and curves.

Golden entries are outputs of the ancestor systems in float64. Their tolerance is rtol 1e-9 on alpha^2, or on
log-SNR where the ancestor states it; wider ones say why.
"""

import pytest
import torch
from pydantic import ValidationError

from tests.trainer.diffusion.families import ancestor_schedule, golden, tensor
from trainer.diffusion import schedule


def name(entry: dict) -> str:
    return entry["name"].replace("/public", "")


@pytest.mark.parametrize("entry", golden("schedule", "beta_schedule"), ids=name)
def test_improved_diffusion_tables(entry: dict) -> None:
    kind, steps = entry["inputs"]["schedule"], entry["inputs"]["T"]
    out = entry["outputs"]
    if kind == "linear" and steps <= 20:
        # At 20 steps the last beta is exactly 1: the ancestor accepts it and divides by zero later.
        with pytest.raises(ValidationError, match="steps > 20"):
            ancestor_schedule(kind, steps)
        return
    level = ancestor_schedule(kind, steps).table(steps)[out["index"]]
    torch.testing.assert_close(
        torch.sigmoid(level), tensor(out["alphas_cumprod"]), rtol=1e-9, atol=0.0
    )
    if out["index"][0] == 0:
        first = torch.sigmoid(-level[0])
        torch.testing.assert_close(first, tensor(out["betas"])[0], rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("steps", [50, 1000, 4000])
def test_linear_beta_tables_approach_the_sde(steps: int) -> None:
    """The continuous curve is the limit of the rescaled tables: the error falls like 1/steps."""
    curve = schedule.LinearBeta()
    t = torch.arange(1, steps + 1, dtype=torch.float64)[steps // 5 :] / steps
    gap = (curve.table(steps)[steps // 5 :] - curve.continuous(t)).abs().max()
    assert float(gap) < 130.0 / steps


def test_cosine_table_is_its_curve_up_to_the_clipped_end() -> None:
    curve = schedule.Cosine(steps=1000)
    t = torch.arange(1, 1000, dtype=torch.float64) / 1000
    torch.testing.assert_close(curve.table(1000)[:-1], curve.continuous(t), rtol=1e-9, atol=1e-9)
    alpha_squared = torch.sigmoid(curve.table(1000)[-2:])
    # max_beta 0.999 leaves exactly a thousandth of the level before.
    torch.testing.assert_close(
        alpha_squared[1] / alpha_squared[0], tensor(0.001), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize(
    "entry", golden("schedule", "logsnr_schedule", schedule="sigmoid"), ids=name
)
def test_log_linear_is_v_diffusions_sigmoid(entry: dict) -> None:
    low, high = entry["inputs"]["logsnr_min"], entry["inputs"]["logsnr_max"]
    curve = schedule.LogLinear(log_snr_min=low, log_snr_max=high)
    torch.testing.assert_close(
        curve.log_snr(tensor(entry["inputs"]["t"])),
        tensor(entry["outputs"]["logsnr"]),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_interpolant_is_the_straight_path(shift: float) -> None:
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    s = shift * t / (1.0 + (shift - 1.0) * t)
    expected = 2.0 * torch.log((1.0 - s) / s)
    torch.testing.assert_close(schedule.Interpolant(shift=shift).log_snr(t), expected)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("LinearBeta", {"beta_start": 0.02, "beta_end": 0.01}, "beta_end must be larger"),
        ("LinearBeta", {"steps": 10}, "must stay below 1"),
        ("LinearBeta", {"steps": 1}, "steps"),
        ("Cosine", {"offset": 1.5}, "offset"),
        ("Cosine", {"max_beta": 1.0}, "max_beta"),
        ("LogLinear", {"log_snr_min": 3.0, "log_snr_max": 2.0}, "log_snr_min must be smaller"),
        ("Interpolant", {"shift": 0.0}, "shift"),
        ("Interpolant", {"shift": float("nan")}, "shift"),
    ],
)
def test_bad_parameters_name_the_field(kind: str, fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        getattr(schedule, kind)(**fields)


def test_a_grid_longer_than_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="use steps <= 10"):
        schedule.Cosine(steps=10).grid(11)


def test_a_full_grid_is_the_table() -> None:
    curve = schedule.Cosine(steps=40)
    torch.testing.assert_close(curve.grid(40), curve.table(40).flip(0))

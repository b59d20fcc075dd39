"""Schedules equal the published tables and curves.

Golden entries are outputs of the ancestor systems in float64. Their tolerance is rtol 1e-9 on alpha^2, or on
log-SNR where the ancestor states it; wider ones say why.
"""

import math

import pytest
import scipy.stats
import torch
from pydantic import ValidationError

from tests.trainer.diffusion.families import ancestor_schedule, golden, tensor
from trainer.diffusion import schedule
from trainer.diffusion.log_snr import alpha, edm_sigma, from_edm_sigma


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


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_interpolant_is_the_straight_path(shift: float) -> None:
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    s = shift * t / (1.0 + (shift - 1.0) * t)
    expected = 2.0 * torch.log((1.0 - s) / s)
    torch.testing.assert_close(schedule.Interpolant(shift=shift).log_snr(t), expected)


DIFFSCHED = {
    "linear": lambda steps: schedule.LinearBeta(steps=steps, rescale=False),
    "constant": lambda steps: schedule.ConstantBeta(steps=steps),
    "hyperbolic": lambda steps: schedule.Hyperbolic(steps=steps),
    "cos_squared": lambda steps: schedule.CosSquared(steps=steps),
}


@pytest.mark.parametrize("entry", golden("schedule", "schedule"), ids=name)
def test_diffsched_tables(entry: dict) -> None:
    steps, out = entry["inputs"]["num_diffusion_steps"], entry["outputs"]
    curve = DIFFSCHED[entry["inputs"]["beta_schedule"]](steps)
    torch.testing.assert_close(
        torch.sigmoid(curve.table(steps)[out["index"]]),
        tensor(out["alphas_cumprod"]),
        rtol=1e-9,
        atol=0.0,
    )


NOTEBOOK = {
    "constant": schedule.ConstantBeta(),
    "hyperbolic": schedule.Hyperbolic(),
    "cos_squared": schedule.Cosine(),
}


@pytest.mark.parametrize("kind", NOTEBOOK)
@pytest.mark.parametrize("steps", [10, 1000])
def test_diffsched_notebook_curves(kind: str, steps: int) -> None:
    """The notebook draws the continuous curves at t = (k + 1)/N; its "cos_squared" is Nichol's cosine."""
    (entry,) = golden("schedule", "notebook_schedule", schedule=kind, T=steps)
    t = (tensor(entry["outputs"]["index"]) + 1.0) / steps
    # 1e-12: the last one is exactly 0 there and e^-30 here.
    torch.testing.assert_close(
        torch.sigmoid(NOTEBOOK[kind].log_snr(t)),
        tensor(entry["outputs"]["alphas_cumprod"]),
        rtol=1e-9,
        atol=1e-12,
    )


def _v_diffusion(entry: dict) -> schedule.Schedule:
    kind = entry["inputs"]["schedule"]
    if kind == "legacy":
        return schedule.Legacy()
    members = {
        "linear": schedule.LinearSignal,
        "sigmoid": schedule.LogLinear,
        "cosine": schedule.CosineEnds,
    }
    low, high = entry["inputs"]["logsnr_min"], entry["inputs"]["logsnr_max"]
    return members[kind](log_snr_min=low, log_snr_max=high)


@pytest.mark.parametrize("entry", golden("schedule", "logsnr_schedule"), ids=name)
def test_v_diffusion_curves(entry: dict) -> None:
    level = _v_diffusion(entry).log_snr(tensor(entry["inputs"]["t"]))
    # 1e-6 for "linear" and 1e-5 for "legacy" near t = 0: the ancestor's own cancellation there.
    rtol = {"linear": 1e-6, "legacy": 1e-5}.get(entry["inputs"]["schedule"], 1e-9)
    torch.testing.assert_close(level, tensor(entry["outputs"]["logsnr"]), rtol=rtol, atol=1e-9)


def test_legacy_keeps_its_digits_in_float32() -> None:
    """The ancestor says 20.72 for t = 1e-4 in float32; the value is 11.50."""
    level = schedule.Legacy().log_snr(torch.tensor([1e-4, 0.01], dtype=torch.float32))
    torch.testing.assert_close(level, torch.tensor([11.502870, 6.216005]), rtol=1e-5, atol=0.0)


def test_legacy_is_the_discrete_chain() -> None:
    """Within 0.25 % of cumprod(1 - beta_k) at 1000 steps, as its authors' table is."""
    ours = torch.sigmoid(schedule.Legacy().table(1000))
    chain = torch.sigmoid(schedule.LinearBeta(steps=1000).table(1000))
    torch.testing.assert_close(ours, chain, rtol=2.5e-3, atol=0.0)


def _grid(entry: dict, kind: str) -> schedule.Schedule:
    given = entry["inputs"]
    if kind == "vp":
        return schedule.VP(**{key: given[key] for key in ("beta_d", "beta_min", "eps_s")})
    ends = {"sigma_min": given["sigma_min"], "sigma_max": given["sigma_max"]}
    if kind == "exponential":
        return schedule.Exponential(**ends)
    members = {"karras": schedule.Karras, "polyexponential": schedule.Polyexponential}
    return members[kind](**ends, rho=given["rho"])


SIGMA_GRIDS = golden("schedule", "sigma-schedule")


@pytest.mark.parametrize("entry", SIGMA_GRIDS, ids=name)
def test_k_diffusion_grids(entry: dict) -> None:
    curve = _grid(entry, entry["name"].split("/")[1])
    sigmas = edm_sigma(curve.grid(entry["inputs"]["n"]))
    # The appended 0 is the solver's own last step here.
    expected = tensor(entry["outputs"]["sigmas"])[:-1]
    torch.testing.assert_close(sigmas, expected, rtol=1e-9, atol=1e-10)


def test_v_diffusion_time_is_the_angle() -> None:
    """k-diffusion's VDenoiser: t = (2/pi) atan(sigma), both ways."""
    (entry,) = golden("schedule", "external")
    level = from_edm_sigma(tensor(entry["inputs"]["sigma"]))
    expected = tensor(entry["outputs"]["t"])
    torch.testing.assert_close(schedule.GVP().time(level), expected, rtol=1e-9, atol=1e-12)
    sigma = edm_sigma(schedule.GVP().log_snr(tensor(entry["inputs"]["t"])))
    torch.testing.assert_close(sigma, tensor(entry["outputs"]["sigma"]), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("entry", golden("schedule", "space_timesteps"), ids=name)
def test_respacing_rules(entry: dict) -> None:
    given, out = entry["inputs"], entry["outputs"]
    counts = given["section_counts"]
    rule = counts if isinstance(counts, str) else ",".join(map(str, counts))
    if "error" in out or not out.get("steps", [0]):
        # "0" gives the ancestor an empty process that fails later.
        with pytest.raises(ValueError, match=r"rule|integer stride"):
            schedule.kept(given["num_timesteps"], rule)
        return
    steps = schedule.kept(given["num_timesteps"], rule)
    if "steps" in out:
        assert steps == out["steps"]
    else:
        assert len(steps) == out["count"]
        assert steps[:10] + steps[-10:] == out["steps_thinned"]


def test_a_section_of_a_respacing_rule_may_keep_nothing() -> None:
    """improved-diffusion's sections of 34, 33 and 33: both ends of the first and of the last, nothing between."""
    steps = schedule.kept(100, "5,0,5")
    assert steps == [0, 8, 16, 25, 33, 67, 75, 83, 91, 99]
    assert schedule.kept(100, "0,1") == [50]
    curve = schedule.Respaced(of=schedule.Cosine(steps=100), rule="5,0,5")
    assert curve.steps == 10
    torch.testing.assert_close(curve.table(10), schedule.Cosine(steps=100).table(100)[steps])


@pytest.mark.parametrize("entry", golden("schedule", "respaced"), ids=name)
def test_respaced_tables(entry: dict) -> None:
    given, out = entry["inputs"], entry["outputs"]
    original = ancestor_schedule(given["schedule"], given["T"])
    curve = schedule.Respaced(of=original, rule=given["respacing"])
    assert curve.steps == out["num_timesteps"]
    level = curve.table(curve.steps)
    expected = tensor(out["alphas_cumprod"])
    torch.testing.assert_close(torch.sigmoid(level[out["index"]]), expected, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(curve.grid(curve.steps), level.flip(0))


T = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)


def test_sigmoid_is_chens_algorithm() -> None:
    for start, end, tau in ((-3.0, 3.0, 1.0), (0.0, 3.0, 0.7), (-3.0, 3.0, 0.3)):
        x = (T * (end - start) + start) / tau
        first, last = torch.sigmoid(torch.tensor([start / tau, end / tau], dtype=torch.float64))
        alpha_squared = (last - torch.sigmoid(x)) / (last - first)
        ours = torch.sigmoid(schedule.Sigmoid(start=start, end=end, tau=tau).log_snr(T))
        torch.testing.assert_close(ours, alpha_squared, rtol=1e-9, atol=1e-12)


def test_laplace_is_symmetric_around_mu() -> None:
    """Its midpoint is mu: diffusers' version has 0.88 there instead of 0."""
    level = schedule.Laplace().log_snr(T)
    assert float(level[499]) == pytest.approx(0.0, abs=1e-9)
    torch.testing.assert_close(level, -level.flip(0), rtol=0.0, atol=1e-9)
    law = scipy.stats.laplace(loc=1.0, scale=0.7)
    ours = schedule.Laplace(mu=1.0, b=0.7).log_snr(T)
    torch.testing.assert_close(ours, torch.from_numpy(law.isf(T.numpy())), rtol=0.0, atol=1e-9)


def test_cosine_members_are_one_family() -> None:
    gvp = schedule.GVP().log_snr(T)
    torch.testing.assert_close(schedule.Cosine(offset=0.0).log_snr(T), gvp, rtol=0.0, atol=1e-9)
    ends = schedule.CosineEnds(log_snr_max=15.0, log_snr_min=-15.0).log_snr(T)
    shifted = schedule.ShiftedCosine(image_size=256, noise_size=64).log_snr(T)
    torch.testing.assert_close(shifted, ends - 2.0 * math.log(4.0), rtol=0.0, atol=1e-12)
    low = schedule.ShiftedCosine(image_size=256, noise_size=32).log_snr(T)
    high = schedule.ShiftedCosine(image_size=256, noise_size=256).log_snr(T)
    between = schedule.InterpolatedCosine().log_snr(T)
    torch.testing.assert_close(between, T * low + (1.0 - T) * high, rtol=0.0, atol=1e-9)


def test_sde_members_agree() -> None:
    sde = schedule.VPSDE(epsilon=1e-3).log_snr(T)
    torch.testing.assert_close(sde, schedule.VP().log_snr(T), rtol=0.0, atol=1e-12)
    linear = schedule.LinearBeta().continuous(1e-3 + (1.0 - 1e-3) * T)
    torch.testing.assert_close(sde, linear, rtol=0.0, atol=1e-9)
    ends = {"sigma_min": 0.01, "sigma_max": 50.0}
    exponential = schedule.Exponential(**ends).log_snr(T)
    torch.testing.assert_close(schedule.VESDE().log_snr(T), exponential)
    torch.testing.assert_close(schedule.Polyexponential(**ends).log_snr(T), exponential)


def test_a_ve_table_holds_both_published_ends() -> None:
    sigmas = edm_sigma(schedule.VESDE(steps=1000).table(1000))
    expected = torch.exp(torch.linspace(math.log(0.01), math.log(50.0), 1000, dtype=torch.float64))
    torch.testing.assert_close(sigmas, expected, rtol=1e-9, atol=0.0)


def test_scaled_linear_beta_is_stable_diffusions_table() -> None:
    root = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    ours = torch.sigmoid(schedule.ScaledLinearBeta(steps=1000).table(1000))
    torch.testing.assert_close(ours, torch.cumprod(1.0 - root**2, 0), rtol=1e-9, atol=0.0)
    assert float(ours[-1]) == pytest.approx(0.004660, rel=1e-3)
    fine = schedule.ScaledLinearBeta().table(100_000)[1000::1000]
    t = torch.arange(1001, 100_001, 1000, dtype=torch.float64) / 100_000
    # First order in 1/N: half a beta step.
    torch.testing.assert_close(fine, schedule.ScaledLinearBeta().continuous(t), rtol=0.0, atol=1e-3)


def test_zero_terminal_snr() -> None:
    """Lin et al. 2024: alpha'(T) = 0, alpha'(1) unchanged, affine in alpha between."""
    plain = schedule.ScaledLinearBeta(steps=1000)
    curve = schedule.Modified(of=schedule.ScaledLinearBeta(), steps=1000, zero_terminal_snr=True)
    before, after = alpha(plain.table(1000)), alpha(curve.table(1000))
    expected = (before - before[-1]) * before[0] / (before[0] - before[-1])
    torch.testing.assert_close(after[:-1], expected[:-1], rtol=1e-9, atol=0.0)
    assert float(curve.table(1000)[-1]) == -schedule.LOG_SNR_LIMIT
    assert float(after[0]) == pytest.approx(float(before[0]), rel=1e-12)


@pytest.mark.parametrize("of", [schedule.ConstantBeta(), schedule.CosSquared(), schedule.Karras()])
def test_all_modifiers_together_are_inverted(of: schedule.Schedule) -> None:
    curve = schedule.Modified(of=of, resolution_shift=2.0, input_scale=0.7, zero_terminal_snr=True)
    level = curve.log_snr(T)
    assert (level[1:] < level[:-1]).all()
    torch.testing.assert_close(curve.time(level), T, rtol=0.0, atol=1e-9)
    assert curve.ends()[1] == -schedule.LOG_SNR_LIMIT


@pytest.mark.parametrize("shift", [0.5, 2.0, 3.0])
def test_resolution_shift_is_the_interpolants_shift(shift: float) -> None:
    ours = schedule.Modified(of=schedule.Interpolant(), resolution_shift=shift).log_snr(T)
    published = schedule.Interpolant(shift=shift).log_snr(T)
    torch.testing.assert_close(ours, published, rtol=0.0, atol=1e-9)
    scaled = schedule.Modified(of=schedule.Interpolant(), input_scale=1.0 / shift).log_snr(T)
    torch.testing.assert_close(scaled, published, rtol=0.0, atol=1e-9)


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
        ("ScaledLinearBeta", {"steps": 8}, "must stay below 1"),
        ("ConstantBeta", {"terminal": 1.0}, "terminal"),
        ("Hyperbolic", {"min_beta": 0.6}, "min_beta must be smaller"),
        ("Legacy", {"beta_end": 1e-5}, "beta_end must be larger"),
        ("CosineEnds", {"log_snr_max": -30.0}, "log_snr_min must be smaller"),
        ("InterpolatedCosine", {"noise_size_low": 512}, "noise_size_low must not exceed"),
        ("LinearSignal", {"log_snr_max": -30.0}, "log_snr_min must be smaller"),
        ("Sigmoid", {"start": 4.0}, "start must be smaller"),
        ("Sigmoid", {"tau": 0.0}, "tau"),
        ("Laplace", {"b": -1.0}, "b"),
        ("VPSDE", {"beta_max": 0.05}, "beta_max must be larger"),
        ("VP", {"eps_s": 1.0}, "eps_s"),
        ("Karras", {"sigma_min": 100.0}, "sigma_min must be smaller"),
        ("Karras", {"rho": 0.0}, "rho"),
        ("Modified", {"of": {"kind": "cosine", "steps": 10}}, "beside `of`"),
        ("Modified", {"of": {"kind": "linear_beta"}, "steps": 10}, "must stay below 1"),
        ("Modified", {"resolution_shift": 0.0}, "resolution_shift"),
        ("Respaced", {"rule": "ddim300"}, "no integer stride keeps 300 of 4000 levels: use ddim"),
        ("Respaced", {"rule": "5000"}, "rule '5000' asks for 5000"),
        ("Respaced", {"rule": "ten"}, "rule 'ten'"),
        ("Respaced", {"rule": "0"}, "rule '0' keeps no level"),
        ("Respaced", {"rule": "0,0"}, "rule '0,0' keeps no level"),
        ("Respaced", {"rule": "ddim0"}, "no integer stride keeps 0"),
        ("Respaced", {"rule": "5,-1"}, "rule '5,-1' is not"),
        ("Respaced", {"rule": "1"}, "steps"),
        ("Respaced", {"rule": "250", "steps": 100}, "contradicts rule"),
        ("Respaced", {"of": {"kind": "cosine"}}, "must be discrete"),
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

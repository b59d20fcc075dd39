"""Solvers reproduce their publications' numbers, and their mathematics.

Proved here: k-diffusion's, improved-diffusion's, v-diffusion's and Diffsched's samples on closed-form
denoisers in float64 (rtol 1e-9: the same formulas, other rounding); the published order of convergence to
the exact answer on Gaussian data on every kind of grid; the exact marginal for what adds noise; and for
every member of the union: round trip, dtype, one-step grids, counted evaluations, clear refusals.
"""

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tests.trainer.diffusion.solver_cases import (
    Bank,
    Gaussian,
    edm_log_snr,
    entries,
    golden,
    mixture,
    no_noise,
    tensor,
)
from trainer.diffusion.schedule import AnySchedule, Cosine, Interpolant, LinearBeta, LogLinear
from trainer.diffusion.solver import AnySolver, BrownianPath, Solver
from trainer.diffusion.solver.dpm import Controller, DPMAdaptive
from trainer.diffusion.solver.ode import ancestral_step, multistep_coefficient

RTOL, ATOL = 1e-9, 1e-10
"""The golden files' own tolerance for float64."""

SOLVER: TypeAdapter[Solver] = TypeAdapter(AnySolver)
SCHEDULE: TypeAdapter[Any] = TypeAdapter(AnySchedule)
MEMBERS: list[type[Solver]] = list(get_args(get_args(AnySolver)[0]))
KINDS = [member.model_fields["kind"].default for member in MEMBERS]
GRIDS = {
    "cosine": Cosine(),
    "linear_beta": LinearBeta(),
    "log_linear": LogLinear(log_snr_max=8.0, log_snr_min=-8.0),
    "interpolant": Interpolant(shift=2.0),
}
THEIR_NAMES = {
    "s_churn": "churn",
    "s_tmin": "churn_min",
    "s_tmax": "churn_max",
    "pcoeff": "proportional",
    "icoeff": "integral",
    "dcoeff": "derivative",
    "h_init": "first_step",
    "solver_type": "correction",
}
NO_SETTING = {"sigma_min", "sigma_max", "n"}


def make(kind: str, **settings: Any) -> Solver:
    return SOLVER.validate_python({"kind": kind, **settings})


def from_k_diffusion(kind: str, kwargs: dict[str, Any]) -> Solver:
    names = {
        **THEIR_NAMES,
        "s_noise": "churn_noise" if kind in {"euler", "heun", "dpm_2"} else "noise_scale",
    }
    return make(kind, **{names.get(k, k): v for k, v in kwargs.items() if k not in NO_SETTING})


def close(actual: Tensor, expected: Any, rtol: float = RTOL) -> None:
    torch.testing.assert_close(actual, tensor(expected), rtol=rtol, atol=ATOL)


@pytest.mark.parametrize("name", entries("solver_kdiff"))
def test_k_diffusion_samples(name: str) -> None:
    entry, shared = entries("solver_kdiff")[name], golden("solver_kdiff")["shared"]
    kind, given, wanted = name.split("/")[0], entry["inputs"], entry["outputs"]
    solver, denoise = from_k_diffusion(kind, given["kwargs"]), mixture()
    if "sigmas" in given:
        sigmas = given["sigmas"]
    else:
        ends = given["kwargs"]["sigma_max"], given["kwargs"]["sigma_min"]
        steps = given["kwargs"].get("n", 1) + 1
        sigmas = np.exp(np.linspace(*np.log(ends), steps)).tolist()
    encoding = sigmas[0] < sigmas[-1]
    start = tensor(shared["x0_public"]) if encoding else tensor(shared["z_public"]) * sigmas[0]
    start, bank = start / math.hypot(1.0, sigmas[0]), Bank(shared["noise_public"])
    if sigmas[-1] == 0.0:
        grid = edm_log_snr(sigmas[:-1])
        result = solver.sample(denoise, grid, start, bank)
        assert len(denoise.levels) == solver.evaluations(len(grid))
    else:
        result = solver.transport(denoise, edm_log_snr(sigmas), start, bank)
        result = result * math.hypot(1.0, sigmas[-1])
    close(result, wanted["x"])
    assert len(denoise.levels) == wanted["nfe"]
    assert denoise.levels == pytest.approx(wanted["model_sigmas"], rel=1e-8)
    if "noise_calls" in wanted and solver.stochastic:
        # k-diffusion also asks at the last step of the DPM solvers, where the noise's amount is zero
        asked = np.ravel(wanted["noise_calls"][: len(bank.asked)])
        assert np.ravel(bank.asked) == pytest.approx(asked, rel=1e-8)
        assert len(wanted["noise_calls"]) - len(bank.asked) == (
            kind in {"dpm_fast", "dpm_adaptive"}
        )


def test_closed_form_denoiser_is_k_diffusion_s() -> None:
    values, x = (
        golden("solver_kdiff")["values"],
        tensor(golden("solver_kdiff")["shared"]["x0_public"]),
    )
    for sigma, wanted in zip(values["sigma"], values["D"], strict=True):
        close(mixture().exploding(x, sigma), wanted)


def test_k_diffusion_coefficients() -> None:
    given = golden("solver_kdiff")
    for case, row in zip(
        given["ancestral_step"]["cases"], given["ancestral_step"]["rows"], strict=True
    ):
        step = ancestral_step(case["sigma_from"], case["sigma_to"], case["eta"])
        assert step == pytest.approx(row, rel=1e-12, abs=1e-15)
    t, i = given["lms_coeff"]["inputs"]["t"], given["lms_coeff"]["inputs"]["i"]
    for order, wanted in given["lms_coeff"]["coeffs"].items():
        ours = [multistep_coefficient(int(order), t, i, j) for j in range(int(order))]
        assert ours == pytest.approx(wanted, rel=1e-9)
    pid = given["pid"]["inputs"]
    solver = from_k_diffusion(
        "dpm_adaptive",
        {k: pid[k] for k in ("pcoeff", "icoeff", "dcoeff", "accept_safety", "order")},
    )
    assert isinstance(solver, DPMAdaptive)
    control = Controller(solver)
    for error, (accept, h) in zip(pid["errors"], given["pid"]["rows"], strict=True):
        assert (control.accept(error), control.h) == (accept, pytest.approx(h, rel=1e-12))


def graded(name: str, steps: int) -> Tensor:
    """`steps` + 1 levels of the schedule from log-SNR -8 to 1.5, denser where the walk starts.

    Only the step size changes with `steps`, and a multistep solver's first steps, of lower order, are short.
    """
    ends = GRIDS[name].time(torch.tensor([-8.0, 1.5], dtype=torch.float64))
    u = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64) ** 3
    return GRIDS[name].continuous(ends[0] + (ends[1] - ends[0]) * u)


START = torch.tensor([[-1.3], [0.4], [1.0], [2.2]], dtype=torch.float64)
ORDERS = [
    ("ddim", {}, 1), ("euler", {}, 1), ("euler_ancestral", {"eta": 0.0}, 1), ("heun", {}, 2),
    ("dpm_2", {}, 2), ("dpm_2_ancestral", {"eta": 0.0}, 2), ("dpmpp_2s_ancestral", {"eta": 0.0}, 2),
    ("dpmpp_sde", {"eta": 0.0}, 2), ("dpmpp_2m", {}, 2), ("dpmpp_2m_sde", {"eta": 0.0}, 2),
    ("dpmpp_2m_sde", {"eta": 0.0, "correction": "heun"}, 2), ("dpmpp_3m_sde", {"eta": 0.0}, 2),
    ("dpm_fast", {}, 3), ("lms", {"order": 1}, 1), ("lms", {"order": 2}, 2), ("lms", {"order": 3}, 3),
    ("lms", {}, 4), ("unipc", {"order": 1, "lower_order_end": False}, 2),
    ("unipc", {"order": 2, "lower_order_end": False}, 3), ("unipc", {"lower_order_end": False}, 4),
    ("unipc", {"order": 2, "variant": "bh1", "lower_order_end": False}, 3),
]  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("kind", "settings", "order"), ORDERS)
def test_order_of_convergence(kind: str, settings: dict[str, Any], order: int, grid: str) -> None:
    """Log error against log steps has the published slope. UniPC's corrector adds one to its order; dpm_fast is
    measured at budgets of 3k + 2, where no first-order step ends the walk; dpmpp_3m_sde as published carries half
    of the second-difference term that third order needs, which leaves order 2 with a small constant."""
    solver, errors, counts = make(kind, **settings), [], [203, 407]
    for steps in counts:
        denoise, levels = Gaussian(0.3, 0.6), graded(grid, steps)
        exact = denoise.flow(START, float(levels[0]), float(levels[-1]))
        errors.append(
            float((solver.transport(denoise, levels, START, no_noise) - exact).abs().max())
        )
    slope = -np.diff(np.log(errors))[-1] / np.diff(np.log(counts))[-1]
    # measured slopes lie from 0.2 below to 0.6 above; an order lost shows as a whole unit
    assert slope > order - 0.35
    assert errors[-1] < 0.02


NOISY = [
    ("ddpm", {}), ("ddpm", {"variance": 1.0}), ("ddpm", {"variance": 0.3}), ("ddim", {"eta": 1.0}),
    ("ddim", {"eta": 0.5}), ("euler", {"churn": 20.0}), ("heun", {"churn": 20.0}), ("dpm_2", {"churn": 20.0}),
    ("euler_ancestral", {}), ("euler_ancestral", {"eta": 0.5}), ("dpm_2_ancestral", {}),
    ("dpmpp_2s_ancestral", {}), ("dpmpp_sde", {}), ("dpmpp_sde", {"r": 0.3, "eta": 0.6}), ("dpmpp_2m_sde", {}),
    ("dpmpp_2m_sde", {"correction": "heun"}), ("dpmpp_3m_sde", {}), ("dpm_fast", {"eta": 0.5}),
]  # fmt: skip


def variance_after(solver: Solver, levels: Tensor) -> float:
    """Exact variance of x at the last level for normal data of mean 0, propagated without sampling.

    A solver on linear data is linear in its start and in each draw: example 0 is the start of unit size,
    example k is draw k alone; the squared responses add up.
    """
    draws, denoise = 2 * len(levels), Gaussian(0.0, 0.6)
    eye = torch.eye(draws + 1, dtype=torch.float64)[:, 1:]
    start = torch.zeros(draws + 1, 1, dtype=torch.float64)
    start[0] = denoise.deviation(float(levels[0]))
    response = solver.transport(denoise, levels, start, lambda number: eye[:, number, None])
    return float(response.square().sum())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("kind", "settings"), NOISY)
def test_noise_keeps_the_marginal(kind: str, settings: dict[str, Any], grid: str) -> None:
    """The variance at the end tends to the closed form's at least linearly in 1/steps."""
    solver, gaps = make(kind, **settings), []
    assert solver.stochastic
    for steps in (41, 161):
        levels = graded(grid, steps)
        gaps.append(
            variance_after(solver, levels) / Gaussian(0.0, 0.6).deviation(float(levels[-1])) ** 2
            - 1
        )
    # linear: a quarter, give or take the next order; from below 1e-4 on only the size counts
    assert abs(gaps[1]) < max(0.4 * abs(gaps[0]), 1e-4)
    assert abs(gaps[1]) < 0.06


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_mixture_data_comes_back(kind: str, grid: str) -> None:
    """Samples of a two-peaked mixture have its quantiles, from quantiles of the noise on every grid."""
    denoise = mixture()
    denoise.weights, denoise.means, denoise.stds = (
        tensor([0.3, 0.7]),
        tensor([[-1.0], [0.8]]),
        tensor([[0.15], [0.3]]),
    )
    generator = torch.Generator().manual_seed(1)
    count, ends = 2000, GRIDS[grid].time(torch.tensor([-9.0, 9.0], dtype=torch.float64))
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    levels = GRIDS[grid].log_snr(torch.linspace(*ends.tolist(), 90, dtype=torch.float64))
    draws = torch.randn(200, count, 1, dtype=torch.float64, generator=generator)
    sample = make(kind).sample(denoise, levels, torch.special.ndtri(u)[:, None], lambda i: draws[i])
    axis = torch.linspace(-2.5, 2.5, 20001, dtype=torch.float64)
    cumulative = 0.3 * torch.special.ndtr((axis + 1.0) / 0.15) + 0.7 * torch.special.ndtr(
        (axis - 0.8) / 0.3
    )
    wanted = axis[torch.searchsorted(cumulative, u).clamp(max=20000)]
    distance = float((sample.flatten().sort().values - wanted).abs().mean())
    # 90 first-order steps are off by about 0.04; 2,000 draws by about 0.02; a lost peak by 0.5
    assert distance < 0.08


def test_brownian_path() -> None:
    """Unit variance, independent disjoint and additive adjacent intervals, one path whatever the grid."""
    count = 20000
    path = BrownianPath(lambda n: torch.randn(count, generator=torch.Generator().manual_seed(n)))
    a, b, whole = path.between(10.0, 2.0), path.between(2.0, 0.5), path.between(10.0, 0.5)
    # three standard errors of a mean, variance and correlation over 20,000 draws
    for z in (a, b, whole, path.between(3e6, 80.0), path.between(1e-3, 1e-5)):
        assert abs(float(z.mean())) < 0.022
        assert abs(float(z.var()) - 1.0) < 0.03
    assert abs(float((a * b).mean())) < 0.022
    torch.testing.assert_close(math.sqrt(8) * a + math.sqrt(1.5) * b, math.sqrt(9.5) * whole)
    with pytest.raises(ValueError, match="no Brownian increment"):
        path.between(1.0, 1.0)


def test_one_path_ties_samples_of_different_step_counts() -> None:
    """With `brownian` the samples of 100 and 200 steps nearly coincide; with fresh draws per step they do not."""

    def difference(brownian: bool) -> float:
        samples = []
        for steps in (100, 200):
            solver, denoise = make("dpmpp_2m_sde", brownian=brownian), Gaussian(0.0, 0.6)
            samples.append(solver.sample(denoise, graded("cosine", steps), START, seeded))
        return float((samples[0] - samples[1]).abs().mean())

    def seeded(number: int) -> Tensor:
        return torch.randn(
            4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(number)
        )

    assert difference(True) < 0.03 < 0.1 < difference(False)


@pytest.mark.parametrize(
    "kind", ["ddim", "euler", "heun", "dpm_2", "dpmpp_2m", "unipc", "lms", "dpm_fast"]
)
def test_encoding_is_undone_by_sampling(kind: str) -> None:
    """encode, then transport back on the same grid, returns the start; the error falls with the steps."""
    denoise, errors = Gaussian(0.3, 0.6), []
    for steps in (20, 80):
        levels, solver = graded("cosine", steps), make(kind)
        latent = solver.encode(denoise, levels, START)
        back = solver.transport(denoise, levels, latent, no_noise)
        errors.append(float((back - START * torch.sigmoid(levels[-1]).sqrt()).abs().max()))
    assert errors[1] < 0.4 * errors[0]
    with pytest.raises(ValueError, match="only a deterministic solver can encode"):
        make("euler_ancestral").encode(denoise, levels, START)


@pytest.mark.parametrize("member", MEMBERS)
def test_member_contract(member: type[Solver]) -> None:
    """Defaults, JSON round trip, dtype and shape, float32 beside float64, a one-step grid, counted evaluations."""
    solver = member()
    assert SOLVER.validate_json(solver.model_dump_json()) == solver
    assert SOLVER.validate_python({"kind": KINDS[MEMBERS.index(member)]}) == solver
    levels = graded("cosine", 12)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(5, 2, 3, 3, dtype=torch.float64, generator=generator)
    draws = torch.randn(64, *x.shape, dtype=torch.float64, generator=generator)
    results = []
    for dtype in (torch.float64, torch.float32):
        denoise = Gaussian(0.3, 0.6)
        noise: Any = lambda i, dtype=dtype: draws[i].to(dtype)  # noqa: E731
        result = solver.sample(denoise, levels, x.to(dtype), noise)
        assert result.dtype == dtype
        assert result.shape == x.shape
        if solver.adaptive:
            assert 3 < denoise.calls <= solver.evaluations(13)
        else:
            assert denoise.calls == solver.evaluations(13)
        results.append(result.double())
    # float32 carries 6e-8 relative per operation; the adaptive solver may also choose other steps
    torch.testing.assert_close(*results, rtol=0, atol=1e-2 if solver.adaptive else 1e-4)
    once = Gaussian(0.3, 0.6)
    answer = solver.sample(once, levels[:1], x, lambda i: draws[i])
    assert once.calls == (1 if solver.adaptive else solver.evaluations(1)) == 1
    torch.testing.assert_close(answer, once(x, levels[0]))


@pytest.mark.parametrize("member", MEMBERS)
def test_nothing_is_read_back_from_the_device(member: type[Solver]) -> None:
    """On the meta device no tensor has values, and whoever asks for one fails: only adaptive steps do."""
    x = torch.empty(5, 2, 3, 3, device="meta")

    def sample() -> Tensor:
        denoise = lambda x, level: x * torch.sigmoid(level)  # noqa: E731
        return member().sample(denoise, graded("cosine", 12), x, lambda _: torch.empty_like(x))

    if member.adaptive:
        with pytest.raises(RuntimeError, match="meta"):
            sample()
    else:
        assert sample().is_meta


ONE_STEP_FROM_NOISE = ["cosine", "gvp", "interpolant", "linear_signal", "sigmoid"]


@pytest.mark.parametrize(
    "kind", ["euler", "heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpm_fast"]
)
@pytest.mark.parametrize("grid", ONE_STEP_FROM_NOISE)
def test_schedules_that_begin_at_pure_noise_serve_as_grids(kind: str, grid: str) -> None:
    """Their first step divides edm_sigma by up to 1e6; the data's deviation comes out right all the same."""
    levels = SCHEDULE.validate_python({"kind": grid}).grid(40)
    assert float(levels[0]) <= -20.0
    x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    draws = torch.randn(50, 500, 1, generator=torch.Generator().manual_seed(1))
    sample = make(kind).sample(Gaussian(0.3, 0.6), levels, x, lambda i: draws[i])
    # three standard errors of 500 draws are 0.08 for the mean and 0.06 for the deviation; 40 steps add their own
    assert abs(float(sample.mean()) - 0.3) < 0.1
    assert abs(float(sample.std()) - 0.6) < 0.1


@pytest.mark.parametrize("schedule", get_args(get_args(AnySchedule)[0]))
@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_every_schedule_is_a_grid_for_every_solver(schedule: type[Any], steps: int) -> None:
    """Finite float32 samples for any number of steps."""
    levels, x = (
        schedule().grid(steps),
        torch.randn(20, 1, generator=torch.Generator().manual_seed(0)),
    )
    draws = torch.randn(100, 20, 1, generator=torch.Generator().manual_seed(1))
    for kind in KINDS:
        sample = make(kind).sample(Gaussian(0.3, 0.6), levels, x, lambda i: draws[i])
        assert bool(torch.isfinite(sample).all()), kind


@pytest.mark.parametrize("member", MEMBERS)
def test_pure_noise_start_is_finite(member: type[Solver]) -> None:
    """A grid from log-SNR -30 (no signal) to 30 (no noise) gives finite float32 samples of the right mean."""
    levels = torch.linspace(-30.0, 30.0, 25, dtype=torch.float64)
    x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(5))
    draws = torch.randn(80, 2000, 1, generator=torch.Generator().manual_seed(6))
    sample = member().sample(Gaussian(0.3, 0.6), levels, x, lambda i: draws[i])
    assert bool(torch.isfinite(sample).all())
    assert abs(float(sample.mean()) - 0.3) < 0.1


def test_what_a_grid_must_be() -> None:
    solver, x = make("heun"), torch.zeros(1, 1)
    for bad, words in [
        (torch.empty(0), "at least one level"),
        (torch.tensor([0.0, math.inf]), "finite"),
        (torch.tensor([0.0, 0.0]), "strictly monotone"),
        (torch.tensor([0.0, 2.0, 1.0]), "strictly monotone"),
    ]:
        with pytest.raises(ValueError, match=words):
            solver.sample(Gaussian(), bad, x, no_noise)
    with pytest.raises(ValueError, match="strictly monotone"):
        solver.sample(Gaussian(), torch.tensor([1.0, 0.0]), x, no_noise)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"kind": "ddpm", "variance": 1.5}, "variance"),
        ({"kind": "ddim", "eta": -0.1}, "eta"),
        ({"kind": "euler", "churn": -1.0}, "churn"),
        ({"kind": "lms", "order": 5}, "order"),
        ({"kind": "unipc", "order": 0}, "order"),
        ({"kind": "dpmpp_sde", "r": 0.0}, "r"),
        ({"kind": "dpm_adaptive", "atol": 0.0}, "atol"),
        ({"kind": "dpm_adaptive", "order": 1}, "order"),
        ({"kind": "dpm_adaptive", "integral": -1.0}, "integral"),
        ({"kind": "dpmpp_3m_sde", "correction": "heun"}, "correction"),
    ],
)
def test_refused_settings_name_the_field(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        SOLVER.validate_python(settings)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_adaptive_solver_that_stalls_says_so(bad: float) -> None:
    """Not finite estimates, or a tolerance below rounding, end in an error and not in an endless loop."""
    levels, x = (
        torch.tensor([-9.0, 9.0], dtype=torch.float64),
        torch.ones(2, 1, dtype=torch.float64),
    )
    with pytest.raises(ValueError, match="dpm_adaptive stalled at edm_sigma"):
        make("dpm_adaptive").sample(lambda x, _: x * bad, levels, x, no_noise)
    rough = lambda x, _: torch.sin(1e9 * x)  # noqa: E731
    with pytest.raises(ValueError, match=r"rtol 0 and atol 1e-12 .* max_evaluations 90"):
        make("dpm_adaptive", rtol=0.0, atol=1e-12, max_evaluations=90).sample(
            rough, levels, x, no_noise
        )


def test_learned_variance_needs_a_network_that_has_it() -> None:
    with pytest.raises(ValueError, match=r"solver\.variance: learned needs"):
        make("ddpm", variance="learned").sample(Gaussian(), graded("cosine", 4), START, no_noise)

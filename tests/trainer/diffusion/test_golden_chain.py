"""The Gaussian chain and what the ancestors built on it, number by number.

Golden entries are outputs of the ancestor systems in float64, at rtol 1e-9 unless a wider one says why;
tests/golden/README.md lists which feature is tested where.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainer.diffusion.families import ancestor_schedule, losses_of, tensor
from tests.trainer.diffusion.families import golden as entries_of
from tests.trainer.diffusion.solver_cases import entries, mixture, no_noise
from tests.trainer.diffusion.solver_cases import golden as golden_file
from trainer.diffusion import log_snr as noise
from trainer.diffusion import prediction, schedule, timestep
from trainer.diffusion.guidance import LabelDropout
from trainer.diffusion.objective import VLB, Hybrid, Objective, Terms
from trainer.diffusion.prediction import Data, Epsilon, Velocity
from trainer.diffusion.process import Diffusion
from trainer.diffusion.reverse import (
    between,
    chain_step,
    decoder_nll,
    log_variances,
    normal_cdf,
    normal_kl,
    posterior,
    prior_bits,
)
from trainer.diffusion.schedule import Schedule
from trainer.diffusion.solver import DDIM, DDPM, DPMpp2M, Solver
from trainer.diffusion.timestep import spread
from trainer.diffusion.weighting import Data as DataWeighting
from trainer.diffusion.weighting import DiffschedWeighted, Simple, Weighting


def golden(feature: str, system: str | None = None) -> list[Any]:
    """Entries of exactly this feature, named for the test report."""
    return [
        pytest.param(entry, id=entry["name"].replace("/public", ""))
        for entry in entries_of("chain", feature)
        if entry["feature"] == feature and system in (None, entry["system"])
    ]


def close(actual: Tensor, expected: Any, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, tensor(expected), rtol=rtol, atol=atol)


def process(given: dict[str, Any]) -> Schedule:
    """improved-diffusion's process: a table, or what respacing keeps of it."""
    curve = ancestor_schedule(given["schedule"], given["T"])
    rule = given.get("respacing")
    return schedule.Respaced(of=curve, rule=rule) if rule else curve


def table(curve: Schedule) -> Tensor:
    assert curve.steps is not None
    return curve.table(curve.steps)


@pytest.mark.parametrize("entry", golden("diffusion_constants"))
def test_constants(entry: dict[str, Any]) -> None:
    """Every table of improved-diffusion's constructor, at some entries and summed over all of them."""
    curve, out = process(entry["inputs"]), entry["outputs"]
    level, index = table(curve), torch.arange(entry["inputs"]["T"])
    step, log_signal = chain_step(curve, len(level), index), functional.logsigmoid(level)
    before = torch.cat([torch.zeros(1), log_signal[:-1]])
    after = torch.cat([log_signal[1:], torch.tensor([-torch.inf])])
    lower = torch.where(step.first, 0.0, posterior(level, level.roll(1)).x_t)
    ours = {
        "betas": -torch.expm1(log_signal - before),
        "alphas_cumprod": torch.exp(log_signal),
        "alphas_cumprod_prev": torch.exp(before),
        "alphas_cumprod_next": torch.exp(after),
        "sqrt_alphas_cumprod": noise.alpha(level),
        "sqrt_one_minus_alphas_cumprod": noise.sigma(level),
        "log_one_minus_alphas_cumprod": functional.logsigmoid(-level),
        "sqrt_recip_alphas_cumprod": 1.0 / noise.alpha(level),
        "sqrt_recipm1_alphas_cumprod": noise.edm_sigma(level),
        "posterior_variance": torch.where(step.first, 0.0, torch.exp(step.small)),
        "posterior_log_variance_clipped": step.small,
        "posterior_mean_coef1": step.gain,
        "posterior_mean_coef2": lower,
    }
    for key, values in ours.items():
        # 1 - alphas_cumprod of the first entries, 1e-4, is known to the ancestor to twelve digits
        close(values[entry["inputs"]["indices"]], out[key], rtol=1e-8)
        close(values.sum(), out[f"sum_{key}"], rtol=1e-9)


@pytest.mark.parametrize("entry", golden("q_distributions"))
def test_forward_process_and_its_posterior(entry: dict[str, Any]) -> None:
    given, out = entry["inputs"], entry["outputs"]
    curve = process(given)
    index = torch.tensor(given["t"])
    level, step = table(curve)[index], chain_step(curve, len(table(curve)), index)
    x0, x_t, eps = (tensor(given[key]) for key in ("x_start", "x_t", "noise"))
    alpha, sigma = noise.expand(noise.alpha(level), x0), noise.expand(noise.sigma(level), x0)
    close(noise.noised(x0, eps, level), out["q_sample"])
    close(alpha * x0, out["q_mean"])
    close(noise.sigma(level) ** 2, out["q_variance"])
    close(functional.logsigmoid(-level), out["q_log_variance"])
    of_x_t = torch.where(step.first, 0.0, posterior(level, table(curve)[index - 1]).x_t)
    mean = noise.expand(of_x_t, x0) * x_t + noise.expand(step.gain, x0) * x0
    # 1e-11 absolute: the ancestor's weight of x0 at the first entry is 1 + 1e-13
    close(mean, out["posterior_mean"], rtol=1e-8, atol=1e-11)
    close(step.small, out["posterior_log_variance_clipped"])
    close(torch.where(step.first, 0.0, step.small.exp()), out["posterior_variance"], rtol=1e-8)
    close(Epsilon().x0(eps, x_t, level), out["predict_xstart_from_eps"], rtol=1e-8, atol=1e-9)
    close((x_t - alpha * x0) / sigma, out["predict_eps_from_xstart"], rtol=1e-8, atol=1e-9)


MEANS = [
    *golden("p_mean_variance_fixed"),
    *golden("p_mean_variance_learned"),
    *golden("denoised_fn"),
]
FIXED = {"FIXED_SMALL": 0.0, "FIXED_LARGE": 1.0}
LEARNED = {"LEARNED_RANGE": "learned_range", "LEARNED": "learned"}


@pytest.mark.parametrize("entry", MEANS)
def test_model_mean_and_variance(entry: dict[str, Any]) -> None:
    """p_mean_variance, read off our ancestral step: without noise it gives the mean, unit noise adds the deviation.

    At t = 0 the ancestor still states the log variance with which its decoder works: that of `chain_step`.
    """
    given, out = entry["inputs"], entry["outputs"]
    curve, learned = process(given), LEARNED.get(given["model_var_type"])
    level, channels = table(curve), len(given["x_t"][0])
    objective = Hybrid(variance=learned) if learned else None  # type: ignore[arg-type]
    meaning = Epsilon() if given["model_mean_type"] == "EPSILON" else Data()
    cell = Diffusion(prediction=meaning, **({"objective": objective} if objective else {}))
    solver = DDPM(variance="learned" if learned else FIXED[given["model_var_type"]])
    halved = "denoised_fn" in given
    for i, k in enumerate(given["t"]):
        x, output = tensor(given["x_t"])[i : i + 1], tensor(given["model_output"])[i : i + 1]
        denoise = cell.denoiser(lambda *_, o=output: o, clip=given["clip_denoised"] and not halved)
        x0_hat = denoise(x, level[k])
        if halved:
            x0_hat = (0.5 * x0_hat).clamp(-1.0, 1.0)
        # without clipping x0_hat reaches 1e5 at the noisiest level of the cosine table
        atol = 1e-9 if given["clip_denoised"] else 1e-6
        close(x0_hat[0], out["pred_xstart"][i], rtol=1e-8, atol=atol)
        step = chain_step(curve, len(level), torch.tensor([k]))
        fraction = 0.5 * (output[:, channels:] + 1.0)
        if learned == "learned":
            log_variance = output[:, channels:]
        elif learned:
            log_variance = between(step.small, step.large, fraction)
        else:
            share = 0.0 if k == 0 else FIXED[given["model_var_type"]]
            log_variance = (step.small + share * (step.large - step.small)).reshape(1, 1, 1, 1)
        close(log_variance.expand_as(x)[0], out["log_variance"][i], rtol=1e-8)
        if k == 0:
            close(x0_hat[0], out["mean"][i], rtol=1e-8, atol=atol)
        elif halved:
            x_t, of_x0, _ = posterior(level[k], level[k - 1])
            close((x_t * x + of_x0 * x0_hat)[0], out["mean"][i], rtol=1e-8, atol=atol)
        else:
            pair, zero = level[[k, k - 1]], torch.zeros_like(x)
            mean = solver.transport(denoise, pair, x, lambda _, z=zero: z)
            noisy = solver.transport(denoise, pair, x, lambda _, z=zero: z + 1.0)
            close(mean[0], out["mean"][i], rtol=1e-8, atol=atol)
            # the difference of two numbers of size 1e2 at worst
            close((noisy - mean)[0] ** 2, out["variance"][i], rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("entry", golden("approx_standard_normal_cdf"))
def test_normal_distribution_function(entry: dict[str, Any]) -> None:
    close(normal_cdf(tensor(entry["inputs"]["x"])), entry["outputs"]["cdf"])


@pytest.mark.parametrize("entry", golden("timestep_rescaling"))
def test_networks_hear_the_original_time(entry: dict[str, Any]) -> None:
    """A respaced grid is walked with the time of the schedule that was trained. `time` of ours is (k + 1)/T, one step
    of the table later than theirs; `step` and `relative_step` are what theirs is told, over a thousand."""
    given = entry["inputs"]
    told = "relative_step" if given["rescale_timesteps"] else "step"
    cell = Diffusion(schedule=schedule.LinearBeta(steps=given["T"]), conditioning="time")
    of, rule = cell.schedule, given["respacing"]
    grid = schedule.Respaced(of=of, rule=rule) if rule else of  # type: ignore[arg-type]
    levels = table(grid)[given["t"]]
    time = cell.condition(levels) - 1.0 / given["T"]
    scale = 1000.0 if given["rescale_timesteps"] else float(given["T"])
    close(scale * time, entry["outputs"]["model_timesteps"], atol=1e-9)
    for trained in (of, grid):
        exact = Diffusion(schedule=trained, conditioning=told)  # type: ignore[arg-type]
        close(1000.0 * exact.condition(levels), entry["outputs"]["model_timesteps"], atol=1e-9)


BPD = [name for name in entries("objective_iddpm") if name.startswith("calc_bpd_loop")]


@pytest.mark.parametrize("name", BPD)
def test_bits_per_dimension_of_respaced_chains(name: str) -> None:
    """improved-diffusion's calc_bpd_loop: the prior and every term, each with its own noise."""
    entry = entries("objective_iddpm")[name]
    given, out, f = entry["inputs"], entry["outputs"], entry["inputs"]["model"]
    kind = {"linear_beta": "linear", "cosine": "cosine"}[given["schedule"]["kind"]]
    steps = given["schedule"]["steps"]
    curve: Schedule = ancestor_schedule(kind, steps)
    kept = given["table"] or list(range(steps))
    if given["table"]:
        rule = "ddim10" if "ddim" in name else str(len(kept))
        curve = schedule.Respaced(of=curve, rule=rule)  # type: ignore[arg-type]
    level, x0 = table(curve), tensor(given["x_start"])
    learned = given["model_var_type"] == "LEARNED_RANGE"
    objective: Objective = VLB(variance="learned_range" if learned else 1.0, per_step=True)
    total = torch.zeros(len(x0), dtype=torch.float64)
    for column, k in enumerate(reversed(range(len(level)))):
        at, s = level[k].repeat(len(x0)), kept[k] / steps
        x_t = noise.noised(x0, tensor(given["noise_sequence"][column]), at)
        x0_hat = Epsilon().x0(f["a"] * x_t + f["b"] * s, x_t, at)
        x0_hat = x0_hat.clamp(-1.0, 1.0) if given["clip_denoised"] else x0_hat
        extra = f["c"] * x_t + f["d"] * s + f["e"] if learned else None
        one = torch.ones_like(at)
        term = objective.loss(Terms(x0_hat, x0, one, at, one, one, x0, x_t, Data(), curve, extra))
        # their 1 - alpha^2 cancels for the cleanest entries
        close(term, [row[column] for row in out["vb"]], rtol=1e-6, atol=1e-9)
        close((x0_hat - x0).square().flatten(1).mean(1), [r[column] for r in out["xstart_mse"]])
        total += term
    close(prior_bits(x0, level[-1]), out["prior_bpd"], rtol=1e-6)
    close(total + prior_bits(x0, level[-1]), out["total_bpd"], rtol=1e-6)


@pytest.mark.parametrize("entry", golden("p2_gamma0"))
def test_p2_without_gamma_is_improved_diffusion(entry: dict[str, Any]) -> None:
    given = entry["inputs"]
    cell = Diffusion.model_validate(
        {
            "schedule": {"kind": "linear_beta", "steps": given["T"]},
            "weighting": {"kind": "p2", "gamma": given["p2_gamma"], "k": given["p2_k"]},
            "objective": {"kind": "hybrid"},
        }
    )
    output = tensor(given["model_output"])
    level = table(cell.schedule)[given["t"]]
    x0, eps = tensor(given["x_start"]), tensor(given["noise"])
    close(losses_of(cell, lambda *_: output, x0, eps, level), entry["outputs"]["loss"], rtol=1e-6)


@pytest.mark.parametrize("entry", golden("classifier_guidance"))
def test_score_guidance_with_ddim(entry: dict[str, Any]) -> None:
    """A classifier's gradient g moves x0_hat by sigma^2/alpha g, after clipping: any denoiser can carry it."""
    given = entry["inputs"]
    curve = process(given)
    level = table(curve)
    assert isinstance(curve, schedule.Respaced)
    kept = schedule.kept(given["T"], curve.rule)
    cell = Diffusion(objective=Hybrid())
    for i, k in enumerate(given["t"]):
        x, output = tensor(given["x_t"])[i : i + 1], tensor(given["model_output"])[i : i + 1]
        plain = cell.denoiser(lambda *_, o=output: o, clip=True)

        def guided(x: Tensor, at: Tensor, plain: Any = plain, ts: int = kept[k]) -> Tensor:
            gradient = 0.25 * x - 0.001 * ts
            return plain(x, at) + noise.sigma(at) ** 2 / noise.alpha(at) * gradient

        if k == 0:
            ours = DDIM().sample(guided, level[:1], x, no_noise)
        else:
            ours = DDIM().transport(guided, level[[k, k - 1]], x, no_noise)
        close(ours[0], entry["outputs"]["ddim_eta0"][i], rtol=1e-8, atol=1e-9)


DIFFSCHED = {
    "linear": lambda n: schedule.LinearBeta(steps=n, rescale=False),
    "constant": lambda n: schedule.ConstantBeta(steps=n),
    "hyperbolic": lambda n: schedule.Hyperbolic(steps=n),
    "cos_squared": lambda n: schedule.CosSquared(steps=n),
}


def diffsched(given: dict[str, Any]) -> Schedule:
    return DIFFSCHED[given["beta_schedule"]](given["num_diffusion_steps"])


@pytest.mark.parametrize("entry", golden("notebook_schedule"))
def test_diffsched_notebook_line(entry: dict[str, Any]) -> None:
    """The notebook's betas begin one step up the line: beta_k = b0 + (b1 - b0) k/N, k = 1 ... N."""
    steps = entry["inputs"]["T"]
    first = 1e-4 + (0.02 - 1e-4) / steps
    curve = schedule.LinearBeta(beta_start=first, steps=steps, rescale=False)
    signal = torch.sigmoid(table(curve)[entry["outputs"]["index"]])
    close(signal, entry["outputs"]["alphas_cumprod"])


@pytest.mark.parametrize("entry", golden("add_noise"))
def test_diffsched_noise(entry: dict[str, Any]) -> None:
    given = entry["inputs"]
    level = table(diffsched(given))[given["timesteps"]]
    noisy = noise.noised(tensor(given["clean"]), tensor(given["noise"]), level)
    close(noisy, entry["outputs"]["noisy"])


@pytest.mark.parametrize("entry", golden("reverse_variance"))
def test_diffsched_reverse_variance(entry: dict[str, Any]) -> None:
    """Entry 0, where no noise is added, is diffusers' clamp at 1e-20."""
    level = table(diffsched(entry["inputs"]))
    variance = posterior(level[1:], level[:-1]).log_variance.exp()
    close(variance, entry["outputs"]["variance"][1:], rtol=1e-7)


@pytest.mark.parametrize("entry", golden("train_step", "diffsched"))
def test_diffsched_losses(entry: dict[str, Any]) -> None:
    """Batch losses. Defect: `weighted` puts the epsilon-form weight on the x0 error when x0 is predicted; the bound's
    weight there is SNR times that, which is what our weighting gives."""
    given, out = entry["inputs"], entry["outputs"]
    predicts_x0 = given["prediction_type"] == "sample"
    curve, weighted = diffsched(given), given["loss_type"] == "weighted"
    plain = DataWeighting() if predicts_x0 else Simple()
    cell = Diffusion(
        schedule=curve,  # type: ignore[arg-type]
        prediction=Data() if predicts_x0 else Epsilon(),
        weighting=DiffschedWeighted() if weighted else plain,
    )
    level, output = table(curve)[given["timesteps"]], tensor(given["model_output"])
    x0, eps = tensor(given["clean"]), tensor(given["noise"])
    close(noise.noised(x0, eps, level), out["noisy"])
    loss = losses_of(cell, lambda *_: output, x0, eps, level)
    if weighted and predicts_x0:
        right = tensor(out["weights"]) * torch.exp(level)
        close(cell.loss_weight(level), right.tolist(), rtol=1e-7)
        close((loss / right * tensor(out["weights"])).mean(), out["loss"], rtol=1e-7)
    else:
        # 1 - alphas_cumprod cancels in the ancestor at the first step
        close(loss.mean(), out["loss"], rtol=1e-7)


@pytest.mark.parametrize("entry", golden("ddpm_step"))
def test_diffsched_steps(entry: dict[str, Any]) -> None:
    given, k = entry["inputs"], entry["inputs"]["t"]
    level, output, x = table(diffsched(given)), tensor(given["model_output"]), tensor(given["x_t"])
    meaning = Data() if given["prediction_type"] == "sample" else Epsilon()
    denoise = Diffusion(prediction=meaning).denoiser(lambda *_: output, clip=True)
    close(denoise(x, level[k]), entry["outputs"]["pred_original_sample"], rtol=1e-7, atol=1e-9)
    if k == 0:
        ours = DDPM().sample(denoise, level[:1], x, no_noise)
    else:
        ours = DDPM().transport(denoise, level[[k, k - 1]], x, lambda _: tensor(given["noise"]))
    close(ours, entry["outputs"]["prev_sample"], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("entry", golden("logsnr_rescale"))
def test_v_diffusion_rescaled_times(entry: dict[str, Any]) -> None:
    """What networks hear with `--allow-rescale`: `angle` for cosine, the time for sigmoid, alpha^2 for linear."""
    given, out = entry["inputs"], entry["outputs"]
    ends = {"log_snr_min": given["logsnr_min"], "log_snr_max": given["logsnr_max"]}
    t, kind = tensor(given["t"]), given["schedule"]
    members = {
        "linear": schedule.LinearSignal,
        "sigmoid": schedule.LogLinear,
        "cosine": schedule.CosineEnds,
    }
    curve = members[kind](**ends)
    level = curve.log_snr(t)
    # "linear" cancels near t = 0 in the ancestor
    close(level, out["logsnr"], rtol=1e-6 if kind == "linear" else 1e-9, atol=1e-9)
    heard = {
        "cosine": Diffusion(schedule=curve).condition(level),
        "sigmoid": Diffusion(schedule=curve, conditioning="time").condition(level),
        "linear": noise.alpha(level) ** 2,
    }
    close(heard[kind], out["t_after"], atol=1e-10)


@pytest.mark.parametrize("entry", golden("time_grid"))
def test_v_diffusion_times(entry: dict[str, Any]) -> None:
    """Trained times are k/N; the solver's steps run from t = 1 down to 1/N, and from there to the data."""
    steps, out = entry["inputs"]["timesteps"], entry["outputs"]
    curve = schedule.LogLinear(steps=steps)
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    close(curve.training_time(u).unique(), out["train_t_values"])
    times = curve.time(curve.grid(steps)).tolist()
    pairs = [list(pair) for pair in zip([*times[1:], 0.0], times, strict=True)]
    close(torch.tensor(pairs, dtype=torch.float64), out["sample_pairs_(s,t)_in_order"])


FRACTION = {"fixed_small": 0.0, "fixed_large": 1.0}


@pytest.mark.parametrize("entry", golden("posterior"))
def test_v_diffusion_posterior(entry: dict[str, Any]) -> None:
    given, out = entry["inputs"], entry["outputs"]
    t, s = tensor(given["logsnr_t"]), tensor(given["logsnr_s"])
    kind = given["var_type"]
    fraction = given["intp_frac"] if kind == "fixed_medium" else FRACTION[kind]
    x_t, x0, log_variance = posterior(t, s, fraction)
    # one pair lies 1e-6 apart, which leaves the ancestor's differences six digits
    close(x_t, out["coef_xt"], rtol=1e-6)
    close(x0, out["coef_x0"], rtol=1e-6)
    close(log_variance, out["logvar"], rtol=1e-6, atol=1e-6)
    close(torch.exp(log_variance), out["var"], rtol=1e-5)
    # the same mean written with eps_hat = (x_t - alpha x0)/sigma
    close(x_t * noise.sigma(t), out["coef_eps_(x0eps_coef)"], rtol=1e-6)
    close(x0 + x_t * noise.alpha(t), out["coef_x0_(x0eps_coef)"], rtol=1e-6)


@pytest.mark.parametrize("entry", golden("posterior_ddim"))
def test_v_diffusion_ddim_coefficients(entry: dict[str, Any]) -> None:
    """Read off one step of the solver, which is linear in x_t, x0_hat and noise."""
    given, out = entry["inputs"], entry["outputs"]
    solver, one = DDIM(eta=given["eta"]), torch.ones(1, 1, dtype=torch.float64)
    for i, (t, s) in enumerate(zip(given["logsnr_t"], given["logsnr_s"], strict=True)):
        of_x_t, of_x0, of_noise = (
            float(_one_step(solver, t, s, x * one, x0 * one, z * one))
            for x, x0, z in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
        )
        assert of_x_t == pytest.approx(out["coef_xt"][i], rel=1e-6)
        assert of_x0 == pytest.approx(out["coef_x0"][i], rel=1e-6, abs=1e-9)
        log_variance = out["logvar"] if isinstance(out["logvar"], str) else out["logvar"][i]
        variance = math.exp(float(log_variance))
        assert of_noise**2 == pytest.approx(variance, rel=1e-5, abs=1e-30)


def _one_step(solver: Solver, t: float, s: float, x: Tensor, x0: Tensor, z: Tensor) -> Tensor:
    pair = torch.tensor([t, s], dtype=torch.float64)
    return solver.transport(lambda *_: x0, pair, x, lambda _: z)


@pytest.mark.parametrize("entry", golden("gaussians"))
def test_v_diffusion_gaussians(entry: dict[str, Any]) -> None:
    given, out = entry["inputs"], entry["outputs"]
    if "mean1" in given:
        m1, v1, m2, v2 = (tensor(given[k]) for k in ("mean1", "logvar1", "mean2", "logvar2"))
        close(normal_kl(m2 - m1, v1, v2), out["kl_nats"])
        return
    x, mean, scale = (tensor(given[k]) for k in ("x", "mean", "log_scale"))
    # 2e-7 was measured between implementations: the floor of 1e-12 under cancelled differences
    close(-decoder_nll(x, mean, 2.0 * scale), out["loglik"], rtol=1e-6)
    close(normal_cdf(x), out["cdf(x)"])


@pytest.mark.parametrize("entry", golden("label_dropout"))
def test_labels_are_dropped_before_the_network_sees_them(entry: dict[str, Any]) -> None:
    labels = tensor(entry["inputs"]["labels"])
    u = torch.linspace(0.0, 0.999, len(labels), dtype=torch.float64)
    dropout = LabelDropout(rate=entry["inputs"]["p_uncond"])
    fed = entry["outputs"]["labels_a_correct_implementation_feeds"]
    assert dropout.apply(labels, u, 0).tolist() == fed


class Given(Schedule):
    """A table handed over as alpha^2."""

    alpha_squared: tuple[float, ...] = ()

    def table(self, steps: int) -> Tensor:
        return noise.from_alpha_squared(tensor(list(self.alpha_squared)))


class WeightOf(Weighting):
    """The weight that makes the loss the plain MSE of a prediction's own target."""

    of: prediction.AnyPrediction

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        return 1.0 / self.of.residual_weight(log_snr)


DISCRETE = [e for e in golden("external") if "Discrete" in e.id]


@pytest.mark.parametrize("entry", DISCRETE)
def test_discrete_wrappers(entry: dict[str, Any]) -> None:
    """k-diffusion around a table: levels, log-linear times between them, denoised images and losses.

    Its index k is our time (k + 1)/N; below the cleanest level it stays at k = 0, ours goes on towards t = 0.
    """
    given, out = entry["inputs"], entry["outputs"]
    steps, quantize = len(given["alphas_cumprod"]), given["quantize"]
    curve = Given(steps=steps, alpha_squared=tuple(given["alphas_cumprod"]))
    close(noise.edm_sigma(table(curve)), out["sigmas"])
    close(noise.edm_sigma(curve.grid(steps)), out["get_sigmas_None"][:-1])

    def index(sigma: Tensor) -> Tensor:
        level = noise.from_edm_sigma(sigma)
        return (curve.time(curve.snap(level) if quantize else level) * steps - 1.0).clamp_min(0.0)

    queries = tensor(given["sigma_query"])
    # between two levels both take the nearer in log sigma: the join is straight in it
    close(index(queries), out["t_of_sigma"], atol=1e-9)
    # t is cast to float32 there
    times = (tensor(given["t_query"]) + 1.0) / steps
    close(noise.edm_sigma(curve.log_snr(times)), out["sigma_of_t"], rtol=1e-6)

    sigma = tensor(given["sigma"])
    level, condition = noise.from_edm_sigma(sigma), index(sigma)
    meaning = Velocity() if "VDDPM" in entry["name"] else Epsilon()

    def network(x: Tensor, _: Tensor) -> Tensor:
        """Their scripted F(x, t), which keeps log(t) finite at t = 0."""
        return 0.7 * torch.tanh(x) + 0.05 * noise.expand(torch.log(condition.clamp_min(1e-12)), x)

    cell = Diffusion.model_construct(schedule=curve, prediction=meaning, conditioning="angle")
    x_t = noise.expand(noise.alpha(level), tensor(given["x"])) * tensor(given["x"])
    close(cell.denoise(network, x_t, level), out["D"])
    x0, eps = tensor(given["x"]), tensor(given["noise"])
    cell = cell.model_copy(update={"weighting": WeightOf(of=meaning)})
    close(losses_of(cell, network, x0, eps, level), out["loss"])


@pytest.mark.parametrize("entry", golden("sampler:callback"))
def test_every_intermediate_state(entry: dict[str, Any]) -> None:
    """A denoiser that takes notes sees what k-diffusion's callback reports: the state before each step, and D."""
    shared, plain = golden_file("solver_kdiff")["shared"], mixture()
    sigmas, rows = entry["inputs"]["sigmas"], entry["outputs"]["rows"]
    seen: list[tuple[float, Tensor, Tensor]] = []

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        estimate = plain(x, level)
        sigma = float(noise.edm_sigma(level))
        seen.append((sigma, x * math.hypot(1.0, sigma), estimate))
        return estimate

    start = tensor(shared["z_public"]) * sigmas[0] / math.hypot(1.0, sigmas[0])
    DPMpp2M().sample(denoise, noise.from_edm_sigma(tensor(sigmas[:-1])), start, no_noise)
    for row, (sigma, x, estimate) in zip(rows, seen, strict=True):
        assert sigma == pytest.approx(row["sigma"], rel=1e-9)
        close(x, row["x"], atol=1e-10)
        close(estimate, row["denoised"], atol=1e-10)


@pytest.mark.parametrize("entry", golden("stratified"))
def test_strata_over_ranks_and_accumulation(entry: dict[str, Any]) -> None:
    """k-diffusion's group of a rank and an accumulation step is our place in the global batch."""
    given, out = entry["inputs"], entry["outputs"]
    law = timestep.LogUniform(sigma_min=given["min_value"], sigma_max=given["max_value"])
    u = tensor(given["u"])

    def sigmas(u: Tensor) -> Tensor:
        return noise.edm_sigma(law.log_snr(u, schedule.Cosine()))

    if given.get("disable"):
        close(sigmas(u), out["sigma"])
        return
    for combo, expected in zip(given["combos"], out["sigma"], strict=True):
        accumulated, world = combo["accum_steps"], combo["world"]
        group = combo["rank"] * accumulated + combo["step"] % accumulated
        groups = world * accumulated
        place = torch.arange(len(u)) * groups + group
        close(sigmas(spread(u, place, groups * len(u), "stratified")), expected)


@pytest.mark.parametrize("entry", golden("preconditioning"))
def test_velocity_scalings(entry: dict[str, Any]) -> None:
    """k-diffusion's VDenoiser, whose x is ours over alpha."""
    level = noise.from_edm_sigma(tensor(entry["inputs"]["sigma"]))
    c, alpha = prediction.Velocity().coefficients(level), noise.alpha(level)
    close(c.skip * alpha, entry["outputs"]["c_skip"])
    close(c.out, entry["outputs"]["c_out"])
    close(c.inp * alpha, entry["outputs"]["c_in"])


def test_posterior_interpolates_its_variance() -> None:
    t, s = torch.tensor([-1.0, 3.0]), torch.tensor([0.5, 3.1])
    small, large = log_variances(t, s)
    torch.testing.assert_close(posterior(t, s).log_variance, small)
    torch.testing.assert_close(posterior(t, s, 0.5).log_variance, 0.5 * (small + large))

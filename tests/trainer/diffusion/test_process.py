"""The six families together: ancestors' sampling with their networks' outputs, and what the process promises.

Proved here: improved-diffusion's ancestral, DDIM and encoding steps and loops, v-diffusion's steps and loops,
Diffsched's loops, in float64 at their tolerance; that the training loss is x0-error under the stated weight; that
networks are called as documented, with labels if there are any.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.trainer.diffusion.families import losses_of
from tests.trainer.diffusion.solver_cases import entries, no_noise, tensor
from trainer.diffusion import log_snr as noise
from trainer.diffusion.guidance import Guidance
from trainer.diffusion.prediction import Both, Data, Epsilon, Prediction, Velocity
from trainer.diffusion.process import Diffusion, training_levels
from trainer.diffusion.schedule import Cosine, LinearBeta
from trainer.diffusion.solver import DDIM, DDPM, Denoiser, Solver, SpreadDenoiser

PURE_NOISE = torch.tensor(-60.0, dtype=torch.float64)
"""alpha = 1e-13: stands for alpha = 0, where improved-diffusion's encoding ends."""


def table_of(inputs: dict[str, Any]) -> Tensor:
    """Levels of an improved-diffusion process, from the cleanest on."""
    spec = inputs["schedule"]
    schedule = (LinearBeta if spec["kind"] == "linear_beta" else Cosine)(steps=spec["steps"])
    table = schedule.table(spec["steps"])
    return table if inputs["table"] is None else table[inputs["table"]]


def diffusion_of(inputs: dict[str, Any]) -> Diffusion:
    learned = inputs["model_var_type"] == "LEARNED_RANGE"
    return Diffusion.model_validate(
        {
            "prediction": {"kind": "epsilon" if inputs["model_mean_type"] == "EPSILON" else "data"},
            "objective": {"kind": "hybrid" if learned else "mse"},
        }
    )


def solver_of(inputs: dict[str, Any]) -> Solver:
    if "ddim" in inputs["feature"]:
        return DDIM(eta=inputs.get("eta") or 0.0)
    return DDPM(variance="learned" if inputs["model_var_type"] == "LEARNED_RANGE" else 1.0)


@pytest.mark.parametrize("name", [n for n in entries("solver_iddpm") if "loop" not in n])
def test_improved_diffusion_steps(name: str) -> None:
    """One step at each of four levels; at level 0 the answer is x0_hat itself."""
    entry = entries("solver_iddpm")[name]
    inputs, table = entry["inputs"], table_of(entry["inputs"])
    solver, encoding = solver_of(inputs), inputs["feature"] == "ddim_reverse_sample"
    for i, k in enumerate(inputs["t"]):
        x, output, z = (tensor(inputs[n])[i : i + 1] for n in ("x_t", "model_output", "noise"))
        clip = inputs["clip_denoised"]
        denoise = diffusion_of(inputs).denoiser(lambda *_, o=output: o, clip=clip)
        if encoding:
            above = table[k + 1] if k + 1 < len(table) else PURE_NOISE
            ours = solver.transport(denoise, torch.stack([table[k], above]), x, no_noise)
        elif k == 0:
            ours = solver.sample(denoise, table[:1], x, no_noise)
        else:
            ours = solver.transport(denoise, table[[k, k - 1]], x, lambda _, z=z: z)
        wanted = tensor(entry["outputs"]["sample"])[i : i + 1]
        # without clipping x0_hat reaches 1e5 at the noisiest level, and its rounding with it
        torch.testing.assert_close(ours, wanted, rtol=1e-8, atol=1e-9 if clip else 1e-6)


@pytest.mark.parametrize("name", [n for n in entries("solver_iddpm") if "loop" in n])
def test_improved_diffusion_loops(name: str) -> None:
    """A respaced process from x_T to x_0 with a linear network that hears the original timestep."""
    entry = entries("solver_iddpm")[name]
    inputs, table, f = entry["inputs"], table_of(entry["inputs"]), entry["inputs"]["model"]
    diffusion, noises = diffusion_of(inputs), tensor(inputs["noise_sequence"])
    per_thousand = 1000.0 / inputs["schedule"]["steps"]
    times = iter(reversed(inputs["table"]))

    def network(x: Tensor, _: Tensor) -> Tensor:
        s = next(times) * per_thousand / 1000.0
        mean = f["a"] * x + f["b"] * s
        if inputs["model_var_type"] != "LEARNED_RANGE":
            return mean
        return torch.cat([mean, f["c"] * x + f["d"] * s + f["e"]], 1)

    denoise = diffusion.denoiser(network, clip=True)
    ours = solver_of(inputs).sample(
        denoise, table.flip(0), tensor(inputs["x_T"]), lambda i: noises[i]
    )
    wanted = tensor(entry["outputs"]["trajectory"])[-1]
    torch.testing.assert_close(ours, wanted, rtol=1e-8, atol=1e-9)


VDPM: dict[str, Prediction] = {"x0": Data(), "eps": Epsilon(), "v": Velocity(), "both": Both()}
FIXED = {"fixed_small": 0.0, "fixed_large": 1.0}


def v_diffusion(inputs: dict[str, Any], outputs: list[Any]) -> tuple[Solver, list[Denoiser]]:
    """Their solver, and one clipping denoiser for each network."""
    variance = FIXED.get(inputs["model_var_type"], inputs["intp_frac"])
    diffusion = Diffusion.model_construct(prediction=VDPM[inputs["model_out_type"]])
    solver = DDIM() if inputs["sampler"] == "ddim" else DDPM(variance=variance)
    return solver, [diffusion.denoiser(output, clip=True) for output in outputs]


@pytest.mark.parametrize("name", [n for n in entries("solver_vdpm") if "loop" not in n])
def test_v_diffusion_steps(name: str) -> None:
    """One step, guided or not; step 0 returns x0_hat. Guiding clipped x0_hats equals guiding their means."""
    entry = entries("solver_vdpm")[name]
    inputs = entry["inputs"]
    outputs = [tensor(inputs[k]) for k in ("model_out_cond", "model_out_uncond") if k in inputs]
    solver, models = v_diffusion(inputs, [lambda *_, o=o: o for o in outputs])
    denoise = Guidance(scale=inputs["w_guide"]).denoiser(models[0], models[-1])
    grid, x, z = tensor(inputs["log_snr"]), tensor(inputs["x_t"]), tensor(inputs["noise"])
    if inputs["step"] == 0:
        ours = solver.sample(denoise, grid[:1], x, no_noise)
    else:
        ours = solver.transport(denoise, grid, x, lambda _: z)
    torch.testing.assert_close(ours, tensor(entry["outputs"]["x_s"]), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in entries("solver_vdpm") if "loop" in n])
def test_v_diffusion_loops(name: str) -> None:
    entry = entries("solver_vdpm")[name]
    inputs, grid, noises = (
        entry["inputs"],
        tensor(entry["inputs"]["log_snr"]),
        entry["inputs"]["noises"],
    )
    label = tensor(inputs["label"]) if inputs["label"] else None

    def network(calls: dict[str, int], label: Tensor | None) -> Any:
        def output(x: Tensor, _: Tensor) -> Tensor:
            t = 1.0 - calls["n"] / len(grid)
            calls["n"] += 1
            named = 0.0 if label is None else 0.02 * label[:, None, None, None]
            return 0.4 * x + 0.1 * torch.sin(3.0 * x) + 0.05 * t + named

        return output

    solver, models = v_diffusion(inputs, [network({"n": 0}, label), network({"n": 0}, None)])
    denoise = Guidance(scale=inputs["w_guide"]).denoiser(*models)
    x, draws = tensor(inputs["x_T"]), tensor(noises)
    ours = solver.sample(denoise, grid, x, lambda i: draws[i])
    torch.testing.assert_close(ours, tensor(entry["outputs"]["x_0"]), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", entries("solver_diffsched"))
def test_diffsched_loops(name: str) -> None:
    entry = entries("solver_diffsched")[name]
    inputs, draws = entry["inputs"], tensor(entry["inputs"]["noises"])
    diffusion = Diffusion.model_validate({"prediction": {"kind": inputs["prediction"]}})
    denoise = diffusion.denoiser(lambda x, _: 0.4 * x + 0.1 * torch.sin(3.0 * x), clip=True)
    grid, x = tensor(inputs["log_snr"]), tensor(inputs["x_T"])
    ours = DDPM().sample(denoise, grid, x, lambda i: draws[i])
    # diffusers computes 1 - alpha^2 by subtraction; their clamp of the variance at 1e-20 plays no part
    torch.testing.assert_close(ours, tensor(entry["outputs"]["x_0"]), rtol=1e-7, atol=1e-8)


X0, EPS = (
    torch.randn(8, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for seed in (0, 1)
)


@pytest.mark.parametrize("conditioning", ["angle", "time", "log_snr", "step", "relative_step"])
def test_network_is_called_as_documented(conditioning: Any) -> None:
    """(inp x_t, condition) in the dtype of x; all conditions rise with the noise."""
    diffusion = Diffusion(prediction=Velocity(), conditioning=conditioning)
    u = torch.linspace(0.05, 0.95, 8, dtype=torch.float64)
    levels, calls = training_levels(diffusion, u), []

    def network(*arguments: Tensor) -> Tensor:
        calls.append(arguments)
        return arguments[0]

    for dtype in (torch.float32, torch.float64):
        losses_of(diffusion, network, X0.to(dtype), EPS.to(dtype), levels)
        x, condition = calls[-1]
        assert x.dtype == condition.dtype == dtype
        assert bool((condition.diff() > 0).all())
    torch.testing.assert_close(x, noise.noised(X0, EPS, levels))
    diffusion.denoise(network, X0, levels[0])
    diffusion.denoiser(network)(X0, levels[0])
    assert [len(call) for call in calls] == [2] * 4, "and of nothing else"


def test_steps_need_a_table() -> None:
    with pytest.raises(ValidationError, match="conditioning: step counts the entries of a table"):
        Diffusion(schedule=Cosine(steps=None), conditioning="step")


def test_denoise_takes_one_level_or_one_per_example() -> None:
    """And clips only if asked."""
    diffusion = Diffusion(prediction=Data())
    levels = torch.linspace(-3.0, 3.0, 8, dtype=torch.float64)

    def network(x: Tensor, condition: Tensor) -> Tensor:
        return 3.0 * x + condition[:, None]

    many = diffusion.denoise(network, X0, levels)
    for i in range(8):
        one = diffusion.denoise(network, X0[i : i + 1], levels[i])
        torch.testing.assert_close(one, many[i : i + 1])
    assert float(many.abs().max()) > 1.0
    clipped = diffusion.denoise(network, X0, levels, clip=True)
    torch.testing.assert_close(clipped, many.clamp(-1.0, 1.0))


def test_loss_is_weighted_x0_error() -> None:
    """loss = w SNR |x0 - x0_hat|^2 x importance, every factor worked out by hand.

    On betas from 0.001 to 0.2: Min-SNR weighs x0's error by min(SNR, 5); the under-sampler, which draws by
    1 - alpha^2 to the power 1/2, is undone by mean / value of that; flow's x0_hat is x_s - s F on the straight path.
    """
    diffusion = Diffusion.model_validate(
        {
            "weighting": {"kind": "min_snr"},
            "prediction": {"kind": "flow"},
            "timesteps": {"kind": "p2", "unbiased": True},
            "schedule": {"kind": "linear_beta", "steps": 100},
            "conditioning": "time",
        }
    )
    alpha_squared = torch.cumprod(1.0 - torch.linspace(0.001, 0.2, 100, dtype=torch.float64), 0)
    k = torch.tensor([0, 9, 24, 39, 54, 69, 84, 99])
    alpha, sigma = alpha_squared[k].sqrt()[:, None], (1.0 - alpha_squared[k]).sqrt()[:, None]
    s = sigma / (alpha + sigma)
    x_s = (1.0 - s) * X0 + s * EPS
    x0_hat = x_s - s * (torch.sin(x_s) + (k[:, None].double() + 1.0) / 100.0)
    drawn = (1.0 - alpha_squared).sqrt()
    importance = drawn.mean() / drawn[k]
    snr = (alpha_squared / (1.0 - alpha_squared))[k]
    wanted = importance * snr.clamp(max=5.0) * (x0_hat - X0).square().mean(1)

    def network(x: Tensor, condition: Tensor) -> Tensor:
        return torch.sin(x) + condition[:, None]

    levels = training_levels(diffusion, torch.tensor([1e-9, 1.0 - 1e-9], dtype=torch.float64))
    torch.testing.assert_close(levels.exp(), snr[[0, -1]], rtol=1e-9, atol=0.0)
    ours = losses_of(diffusion, network, X0, EPS, snr.log())
    # 1e-9: 1 - alpha^2 of the first entry, 1e-3, has lost three of sixteen digits
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=0.0)
    factor = diffusion.loss_weight(snr.log()) / s[:, 0].square()
    torch.testing.assert_close(factor, importance * snr.clamp(max=5.0), rtol=1e-9, atol=0.0)


def test_learned_variance_reaches_the_solver() -> None:
    """The channel v interpolates the step's log variance: v = -1 is small, v = 1 is large."""
    diffusion = Diffusion.model_validate({"objective": {"kind": "hybrid"}})
    t, s = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    shrink = math.log(-math.expm1(-1.5))
    for v, level in ((-1.0, s), (1.0, t)):
        denoise = diffusion.denoiser(lambda x, _, v=v: torch.cat([x, v * torch.ones_like(x)], 1))
        assert isinstance(denoise, SpreadDenoiser)
        log_variance = denoise.with_log_variance(X0, t, s)[1]
        wanted = shrink + torch.nn.functional.logsigmoid(-level)
        torch.testing.assert_close(log_variance, wanted.expand(8, 3))
    plain = Diffusion().denoiser(lambda x, _: x)
    grid = torch.stack([t, s])
    with pytest.raises(ValueError, match=r"solver\.variance: learned needs an objective"):
        DDPM(variance="learned").sample(plain, grid, X0, lambda _: X0)

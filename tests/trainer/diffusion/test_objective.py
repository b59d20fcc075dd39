"""Objectives are the published losses, and say the same whatever the prediction.

Proved here: improved-diffusion's, P2-weighting's, v-diffusion's and k-diffusion's losses and gradients in float64
(tolerances beside them); same x0_hat, same loss over the whole grid of predictions, weightings and objectives;
the bound's continuous limit; and for every member of the union: round trip, dtype, a finite gradient.
"""

import math
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from tests.trainer.diffusion.families import losses_of
from tests.trainer.diffusion.solver_cases import entries, golden, tensor
from trainer.diffusion import log_snr as noise
from trainer.diffusion.objective import (
    MSE,
    AnyObjective,
    Huber,
    LearnedUncertainty,
    Multiscale,
    Objective,
    Terms,
)
from trainer.diffusion.objective.residual import cosine_basis
from trainer.diffusion.prediction import (
    AnyPrediction,
    Both,
    Data,
    Epsilon,
    Preconditioned,
    Prediction,
    Velocity,
)
from trainer.diffusion.process import Diffusion
from trainer.diffusion.reverse import decoder_nll, normal_cdf, normal_kl, prior_bits
from trainer.diffusion.schedule import (
    VPSDE,
    Cosine,
    CosineEnds,
    Karras,
    Legacy,
    LinearBeta,
    LogLinear,
    Schedule,
)
from trainer.diffusion.timestep import Uniform
from trainer.diffusion.weighting import AnyWeighting, Simple, Weighting

MEMBERS: list[type[Objective]] = list(get_args(get_args(AnyObjective)[0]))
OBJECTIVE: TypeAdapter[Objective] = TypeAdapter(AnyObjective)
PREDICTIONS: list[type[Prediction]] = list(get_args(get_args(AnyPrediction)[0]))
WEIGHTINGS: list[type[Weighting]] = list(get_args(get_args(AnyWeighting)[0]))


class Arc(Schedule):
    """v-diffusion's cosine schedule: alpha = cos, ends at log-SNR 20 and -20."""

    finite_start = True

    def continuous(self, t: Tensor) -> Tensor:
        first, last = (2.0 / math.pi * math.atan(math.exp(end)) for end in (-10.0, 10.0))
        return -2.0 * torch.log(torch.tan(0.5 * math.pi * (first + (last - first) * t)))

    def continuous_time(self, log_snr: Tensor) -> Tensor:
        first, last = (2.0 / math.pi * math.atan(math.exp(end)) for end in (-10.0, 10.0))
        return (2.0 / math.pi * torch.atan(torch.exp(-0.5 * log_snr)) - first) / (last - first)


class Table(Schedule):
    """A chain given by its alpha^2, for improved-diffusion's respaced processes."""

    alpha_squared: tuple[float, ...] = ()

    def table(self, steps: int) -> Tensor:
        return noise.from_alpha_squared(tensor(self.alpha_squared))


class Stated(Weighting):
    """A weight the ancestors stated on x0, epsilon or the residual, translated to the epsilon-MSE."""

    form: str
    gamma: float = 0.0
    k: float = 1.0
    sigma_data: float = 1.0

    def weight(self, log_snr: Tensor, schedule: Schedule | None = None) -> Tensor:
        snr, one = torch.exp(log_snr), torch.ones_like(log_snr)
        return {
            "epsilon": (self.k + snr) ** -self.gamma,
            "x0": (self.k + snr) ** -self.gamma / snr,
            "constant": 1.0 / snr,
            "snr": one,
            "snr_trunc": torch.maximum(one, snr) / snr,
            "snr_1plus": 1.0 + 1.0 / snr,
            "karras": 1.0 + 1.0 / (snr * self.sigma_data**2),
            "soft-min-snr": 1.0 / (1.0 + snr * self.sigma_data**2),
        }[self.form]


def chain_of(inputs: dict[str, Any]) -> Schedule:
    spec = inputs["schedule"]
    schedule = (LinearBeta if spec["kind"] == "linear_beta" else Cosine)(steps=spec["steps"])
    if inputs["table"] is None:
        return schedule
    kept = torch.sigmoid(schedule.table(spec["steps"]))[inputs["table"]]
    return Table(steps=len(kept), alpha_squared=tuple(kept.tolist()))


def build(**families: Any) -> Diffusion:
    """A Diffusion with families from outside the unions."""
    return Diffusion.model_construct(**{"timesteps": Uniform(), **families})


def objective_of(inputs: dict[str, Any], steps: int) -> Objective:
    """improved-diffusion's loss types in our words; MSE with a learned variance is lambda = 1/T."""
    kind, variance = inputs["loss_type"], inputs["model_var_type"]
    learned = {"LEARNED_RANGE": "learned_range", "LEARNED": "learned"}.get(variance)
    if kind.endswith("KL"):
        fixed = 1.0 if variance == "FIXED_LARGE" else 0.0
        per_step = kind == "KL"
        return OBJECTIVE.validate_python(
            {"kind": "vlb", "variance": learned or fixed, "per_step": per_step}
        )
    if learned is None:
        return MSE()
    weight = 0.001 if kind == "RESCALED_MSE" else 1.0 / steps
    return OBJECTIVE.validate_python({"kind": "hybrid", "variance": learned, "vlb_weight": weight})


@pytest.mark.parametrize("name", [n for n in entries("objective_iddpm") if "losses/" in n])
def test_improved_diffusion_and_p2_losses(name: str) -> None:
    """Loss and gradient with respect to the network's output, with P2 weights, respacing and learned variances.

    They weigh whatever is predicted, we always state the weight on epsilon: `Stated` translates.
    """
    entry = entries("objective_iddpm")[name]
    inputs, wanted = entry["inputs"], entry["outputs"]
    schedule = chain_of(inputs)
    assert schedule.steps is not None
    space = "epsilon" if inputs["model_mean_type"] == "EPSILON" else "x0"
    diffusion = build(
        schedule=schedule,
        objective=objective_of(inputs, schedule.steps),
        prediction=Epsilon() if space == "epsilon" else Data(),
        weighting=Stated(form=space, gamma=inputs.get("p2_gamma", 0.0), k=inputs.get("p2_k", 1.0)),
    )
    levels = schedule.table(schedule.steps)[inputs["t"]]
    output = tensor(inputs["model_output"]).requires_grad_()
    x0, eps = tensor(inputs["x_start"]), tensor(inputs["noise"])
    loss = losses_of(diffusion, lambda *_: output, x0, eps, levels)
    # their 1 - alpha^2 cancels for the cleanest entries and the decoder's CDF differences amplify it: 1e-6
    torch.testing.assert_close(loss.detach(), tensor(wanted["loss"]), rtol=1e-6, atol=1e-9)
    if "grad_of_loss_sum_wrt_model_output" in wanted:
        (gradient,) = torch.autograd.grad(loss.sum(), output)
        expected = tensor(wanted["grad_of_loss_sum_wrt_model_output"])
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


def test_kl_and_decoder() -> None:
    given = entries("objective_iddpm")["normal_kl/11"]
    m1, v1, m2, v2 = (tensor(given["inputs"][k]) for k in ("mean1", "logvar1", "mean2", "logvar2"))
    torch.testing.assert_close(normal_kl(m2 - m1, v1, v2), tensor(given["outputs"]["kl"]))
    standard = normal_kl(m1, v1, torch.zeros_like(v1))
    torch.testing.assert_close(standard, tensor(given["outputs"]["kl_vs_standard"]))
    given = entries("objective_iddpm")["discretized_nll/11"]
    x, mean, scale = (tensor(given["inputs"][k]) for k in ("x", "means", "log_scales"))
    wanted = -tensor(given["outputs"]["log_probs"])
    torch.testing.assert_close(decoder_nll(x, mean, 2.0 * scale), wanted, rtol=1e-6, atol=1e-9)
    # the tanh approximation's own error
    assert float((normal_cdf(x) - torch.special.ndtr(x)).abs().max()) < 3e-4


@pytest.mark.parametrize("name", [n for n in entries("objective_iddpm") if n.startswith("vb_")])
def test_bound_terms_in_evaluation(name: str) -> None:
    """One term of the bound at given x_t; with clipping, x0_hat is clipped before it is compared."""
    entry = entries("objective_iddpm")[name]
    inputs, schedule = entry["inputs"], chain_of(entry["inputs"])
    assert schedule.steps is not None
    objective = OBJECTIVE.validate_python(
        {"kind": "vlb", "variance": "learned_range", "per_step": True}
    )
    levels = schedule.table(schedule.steps)[inputs["t"]]
    x_t, x0, raw = (tensor(inputs[k]) for k in ("x_t", "x_start", "model_output"))
    x0_hat = Epsilon().x0(raw[:, : x0.shape[1]], x_t, levels)
    x0_hat = x0_hat.clamp(-1, 1) if inputs["clip_denoised"] else x0_hat
    torch.testing.assert_close(
        x0_hat, tensor(entry["outputs"]["pred_xstart"]), rtol=1e-9, atol=1e-9
    )
    one = torch.ones_like(levels)
    extra = raw[:, x0.shape[1] :]
    loss = objective.loss(
        Terms(x0_hat, x0, one, levels, one, one, x0, x_t, Data(), schedule, extra)
    )
    torch.testing.assert_close(loss, tensor(entry["outputs"]["output"]), rtol=1e-6, atol=1e-12)


def test_bits_per_dimension_of_the_whole_chain() -> None:
    """improved-diffusion's calc_bpd_loop: prior plus all the terms, each with its own noise."""
    entry = entries("objective_iddpm")["calc_bpd_loop/cosine/T10/full/LEARNED_RANGE"]
    inputs, wanted, f = entry["inputs"], entry["outputs"], entry["inputs"]["model"]
    schedule, x0 = chain_of(inputs), tensor(inputs["x_start"])
    levels, total = schedule.table(10), torch.zeros(2, dtype=torch.float64)
    objective = OBJECTIVE.validate_python(
        {"kind": "vlb", "variance": "learned_range", "per_step": True}
    )
    for column, k in enumerate(reversed(range(10))):
        level, s = levels[k].repeat(2), k / 10
        x_t = noise.noised(x0, tensor(inputs["noise_sequence"][column]), level)
        x0_hat = Epsilon().x0(f["a"] * x_t + f["b"] * s, x_t, level).clamp(-1, 1)
        spread, one = f["c"] * x_t + f["d"] * s + f["e"], torch.ones_like(level)
        terms = Terms(x0_hat, x0, one, level, one, one, x0, x_t, Data(), schedule, spread)
        term = objective.loss(terms)
        torch.testing.assert_close(term, tensor(wanted["vb"])[:, column], rtol=1e-6, atol=1e-9)
        total += term
    prior = prior_bits(x0, levels[-1])
    torch.testing.assert_close(prior, tensor(wanted["prior_bpd"]), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(total + prior, tensor(wanted["total_bpd"]), rtol=1e-6, atol=0)


VDPM: dict[str, Prediction] = {"x0": Data(), "eps": Epsilon(), "v": Velocity(), "both": Both()}


@pytest.mark.parametrize("name", [n for n in entries("objective_vdpm") if n.startswith("train")])
def test_v_diffusion_losses(name: str) -> None:
    """Every weighting with every output, on the converted prediction as their names mean."""
    entry = entries("objective_vdpm")[name]
    inputs = entry["inputs"]
    diffusion = build(
        prediction=VDPM[inputs["model_out_type"]], weighting=Stated(form=inputs["reweight_type"])
    )
    x0, eps, levels = tensor(inputs["x0"]), tensor(inputs["noise"]), tensor(inputs["log_snr"])
    loss = losses_of(diffusion, lambda *_: tensor(inputs["model_out"]), x0, eps, levels)
    torch.testing.assert_close(loss, tensor(entry["outputs"]["loss"]), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in entries("objective_vdpm") if n.startswith("kl")])
def test_v_diffusion_bound(name: str) -> None:
    """A chain laid over a continuous schedule with finite ends: times go up to the next step, the last decodes."""
    entry = entries("objective_vdpm")[name]
    inputs, fixed = entry["inputs"], {"fixed_small": 0.0, "fixed_large": 1.0}
    variance = fixed.get(inputs["model_var_type"], inputs["intp_frac"])
    steps, prediction = inputs["sample_timesteps"], VDPM[inputs["model_out_type"]]
    objective = OBJECTIVE.validate_python(
        {"kind": "vlb", "steps": steps, "variance": variance, "per_step": True}
    )
    diffusion = build(schedule=Arc(), objective=objective, prediction=prediction)
    x0, eps = tensor(inputs["x0"]), tensor(inputs["noise"])
    seen: list[Tensor] = []

    def network(x: Tensor, _: Tensor) -> Tensor:
        seen.append(x)
        return tensor(inputs["model_out"])

    loss = losses_of(diffusion, network, x0, eps, Arc().log_snr(tensor(inputs["t_drawn"])))
    torch.testing.assert_close(seen[0], tensor(entry["outputs"]["x_t"]), rtol=1e-9, atol=1e-10)
    # their decoder's floor of 1e-12 and the rounding of the ends: 2e-7 was measured between two implementations
    wanted = tensor(entry["outputs"]["loss_per_example"])
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", entries("objective_kdiff"))
def test_k_diffusion_losses(name: str) -> None:
    """Preconditioned residuals: plain, by cosine transform, with a learned Gaussian width, and L_simple."""
    entry, shared = entries("objective_kdiff")[name], golden("objective_kdiff")["shared"]
    sigma, sigma_data = tensor(shared["sigma"]), shared["sigma_data"]
    objective = {"kind": "multiscale", "scales": entry["inputs"]["scales"]}
    form = entry["inputs"]["weighting"]
    if "variance" in name:
        objective, form = {"kind": "gaussian"}, "karras"
    elif "simple" in name:
        objective, form = {"kind": "mse"}, "snr"
    elif form == "snr":
        form = "epsilon"
    diffusion = build(
        prediction=Preconditioned(sigma_data=sigma_data),
        weighting=Stated(form=form, sigma_data=sigma_data),
        objective=OBJECTIVE.validate_python(objective),
    )

    def network(x: Tensor, _: Tensor) -> Tensor:
        output = 0.7 * torch.tanh(x) + 0.2 * sigma.log()[:, None, None, None] / 4
        if diffusion.objective.extra_channels(2) == 0:
            return output
        spread = 0.3 * x.flatten(1).mean(1) - 0.2
        return torch.cat([output, spread[:, None, None, None].expand(-1, 1, 4, 4)], 1)

    x0, eps = tensor(shared["x"]), tensor(shared["noise"])
    loss = losses_of(diffusion, network, x0, eps, noise.from_edm_sigma(sigma))
    torch.testing.assert_close(loss, tensor(entry["outputs"]["loss"]), rtol=1e-9, atol=1e-10)


def test_frequency_weights() -> None:
    for key, wanted in golden("objective_kdiff")["freq_weight"].items():
        shape, scales = key.split("/scales")
        height, width = map(int, shape.split("x"))
        weight = Multiscale(scales=float(scales)).frequency_weight(height, width)
        torch.testing.assert_close(weight, tensor(wanted))
    basis = cosine_basis(5)
    torch.testing.assert_close(basis @ basis.T, torch.eye(5, dtype=torch.float64))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X0, EPS, SPREAD = normal(0, 6, 2, 4, 4), normal(1, 6, 2, 4, 4), normal(2, 6, 2, 4, 4).clamp(-1, 1)
GUESS = X0 + 0.3 * normal(3, 6, 2, 4, 4)
CHAIN = LinearBeta(steps=100)
LEVELS = CHAIN.table(100)[[0, 1, 10, 40, 70, 99]]


def guessing(diffusion: Diffusion, levels: Tensor) -> Tensor:
    """The output that means x0_hat = GUESS, with the objective's further channels."""
    x_t = noise.noised(X0, EPS, levels)
    if diffusion.prediction.heads == 2:
        alpha, sigma = (
            noise.expand(noise.alpha(levels), x_t),
            noise.expand(noise.sigma(levels), x_t),
        )
        output = torch.cat([GUESS, (x_t - alpha * GUESS) / sigma], 1)
    else:
        c = diffusion.prediction.coefficients(levels)
        output = (GUESS - noise.expand(c.skip, x_t) * x_t) / noise.expand(c.out, x_t)
    if diffusion.prediction.heads == 2:
        alpha, sigma = noise.alpha(levels), noise.sigma(levels)
        eps = (x_t - noise.expand(alpha, x_t) * GUESS) / noise.expand(sigma, x_t)
        output = torch.cat([GUESS, eps], 1)
    extra = diffusion.objective.extra_channels(2)
    return torch.cat([output, SPREAD[:, :extra]], 1)


def loss_of(objective: Objective, levels: Tensor = LEVELS, **families: Any) -> Tensor:
    diffusion = Diffusion(objective=objective, **{"schedule": CHAIN, **families})
    output = guessing(diffusion, levels)
    assert output.shape[1] == diffusion.output_channels(2)
    part = objective.build()
    if part is not None:
        nn.init.constant_(next(part.parameters()), 0.1)
    return losses_of(diffusion, lambda *_: output, X0, EPS, levels, part=part).detach()


@pytest.mark.parametrize("member", MEMBERS)
def test_same_x0_error_same_loss(member: type[Objective]) -> None:
    """Every prediction gives the same loss for the same x0_hat, under every weighting and this objective."""
    objective = member()
    weightings = [Simple()] if objective.weighs_itself else [w() for w in WEIGHTINGS]
    for weighting in weightings:
        losses = [
            loss_of(objective, prediction=prediction(), weighting=weighting)
            for prediction in PREDICTIONS
        ]
        for loss in losses[1:]:
            # x0_hat at the noisiest level is recovered through 1/alpha = 2e2: rounding 1e-16 grows to 1e-12
            torch.testing.assert_close(loss, losses[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("member", MEMBERS)
def test_member_contract(member: type[Objective]) -> None:
    """Round trip, dtype kept, finite gradient on every level, smaller at the truth."""
    objective = member()
    assert OBJECTIVE.validate_json(objective.model_dump_json()) == objective
    diffusion, part = Diffusion(schedule=CHAIN, objective=objective), objective.build()
    for dtype in (torch.float64, torch.float32):
        output = guessing(diffusion, LEVELS).to(dtype).requires_grad_()
        x0, eps = X0.to(dtype), EPS.to(dtype)
        loss = losses_of(diffusion, lambda *_, o=output: o, x0, eps, LEVELS, part=part)
        assert loss.shape == (6,)
        assert loss.dtype == dtype
        (gradient,) = torch.autograd.grad(loss.sum(), output)
        assert bool(torch.isfinite(gradient).all())
        assert float(gradient.abs().sum()) > 0.0
    truth = torch.cat([EPS, SPREAD[:, : objective.extra_channels(2)]], 1)
    best = losses_of(diffusion, lambda *_: truth, X0, EPS, LEVELS, part=part)
    assert bool((best[1:] < loss[1:]).all())


def test_hybrid_gradient_of_the_mean_is_that_of_the_squared_error() -> None:
    """The bound trains the variance only (Nichol & Dhariwal 2021, section 3.1)."""
    hybrid = Diffusion(schedule=CHAIN, objective=OBJECTIVE.validate_python({"kind": "hybrid"}))
    output = guessing(hybrid, LEVELS).requires_grad_()
    (both,) = torch.autograd.grad(
        losses_of(hybrid, lambda *_: output, X0, EPS, LEVELS).sum(), output
    )
    plain = Diffusion(schedule=CHAIN)
    (mean,) = torch.autograd.grad(
        losses_of(plain, lambda *_: output[:, :2], X0, EPS, LEVELS).sum(), output
    )
    torch.testing.assert_close(both[:, :2], mean[:, :2])
    assert bool((both[:, 2:].flatten(1).abs().sum(1) > 0).all())


def test_huber_lies_between_square_and_absolute() -> None:
    absolute = 2e-7 * (guessing(Diffusion(), LEVELS) - EPS).abs().flatten(1).mean(1)
    torch.testing.assert_close(loss_of(Huber(c=1e6)), loss_of(MSE()), rtol=1e-6, atol=0)
    # the corner rounded at c takes c from every residual, the smallest of which average 1e-3
    torch.testing.assert_close(loss_of(Huber(c=1e-7)), absolute, rtol=1e-3, atol=0)


def test_bound_on_a_fine_chain_is_the_continuous_bound() -> None:
    """N KL -> |eps - eps_hat|^2 (-dlog_snr/dt)/2 with an error of order 1/N (Kingma et al. 2021)."""
    smooth, losses = LogLinear(log_snr_max=6.0, log_snr_min=-6.0), []
    levels = smooth.log_snr(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9, 1.0], dtype=torch.float64))
    for steps in (None, 200, 800):
        objective = OBJECTIVE.validate_python({"kind": "vlb", "steps": steps})
        losses.append(loss_of(objective, levels, schedule=smooth))
    coarse, fine = (float((loss / losses[0] - 1).abs()[:-1].max()) for loss in losses[1:])
    assert fine < 0.27 * coarse
    assert coarse < 0.05


FINITE = [LogLinear(log_snr_max=9.0, log_snr_min=-9.0), CosineEnds(), Legacy(), VPSDE(), Karras()]


@pytest.mark.parametrize("schedule", FINITE, ids=lambda s: s.kind)
@pytest.mark.parametrize("variance", [0.0, 0.3, 1.0])
def test_the_decoder_of_a_continuous_schedule_has_the_variance_of_the_step_to_zero(
    schedule: Schedule, variance: float
) -> None:
    """v-diffusion: -log p(x0) under N(x0_hat, v), log v between (1 - r) sigma^2 at t = 0 and at t = 1/8."""
    clean, first = (math.exp(float(schedule.log_snr(torch.tensor(t).double()))) for t in (0, 1 / 8))
    shrink = 1.0 - first / clean
    small, large = math.log(shrink / (1.0 + clean)), math.log(shrink / (1.0 + first))
    deviation = math.exp(0.5 * ((1.0 - variance) * small + variance * large))
    objective = OBJECTIVE.validate_python(
        {"kind": "vlb", "steps": 8, "variance": variance, "per_step": True}
    )
    x0 = torch.tensor([[[[0.1, -1.0, 1.0, 0.5]]]], dtype=torch.float64)
    x0_hat = x0 + 1 / 255 + deviation
    cell = build(schedule=schedule, objective=objective, prediction=Data())
    level = schedule.log_snr(torch.full((1,), 1 / 8, dtype=torch.float64))
    ours = losses_of(cell, lambda *_: x0_hat, x0, torch.zeros_like(x0), level)
    low, high = ((x0 - x0_hat + step) / deviation for step in (-1 / 255, 1 / 255))
    above = 0.5 * (1.0 + torch.tanh((2 / math.pi) ** 0.5 * (high + 0.044715 * high**3)))
    below = 0.5 * (1.0 + torch.tanh((2 / math.pi) ** 0.5 * (low + 0.044715 * low**3)))
    inside = torch.where(x0 < -0.999, above, torch.where(x0 > 0.999, 1.0 - below, above - below))
    wanted = -torch.log2(inside.clamp_min(1e-12)).mean()
    # 1e-6: differences of the distribution function, as in the golden losses
    torch.testing.assert_close(ours[0], wanted, rtol=1e-6, atol=0.0)


def test_learned_uncertainty_learns_the_size_of_the_loss() -> None:
    """u tends to the log of each level's weighted error, so that every level's gradient weighs alike."""
    diffusion = Diffusion(schedule=LogLinear(), objective=LearnedUncertainty())
    part = LearnedUncertainty().build()
    levels = torch.linspace(-6.0, 6.0, 64, dtype=torch.float64)
    size, x = torch.exp(-0.5 * levels), torch.zeros(64, 1, dtype=torch.float64)
    optimizer = torch.optim.Adam(part.parameters(), lr=0.05)
    for _ in range(400):
        loss = losses_of(diffusion, lambda *_: size.sqrt()[:, None], x, x, levels, part=part).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    torch.testing.assert_close(part(levels).double().detach(), size.log(), atol=0.3, rtol=0)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"objective": {"kind": "vlb"}, "weighting": {"kind": "p2"}}, "weighting: objective vlb"),
        ({"objective": {"kind": "vlb", "steps": 10}}, "objective.steps: 10 is not the"),
        ({"objective": {"kind": "hybrid"}, "schedule": {"kind": "cosine"}}, "objective.steps: hyb"),
        (
            {"objective": {"kind": "vlb", "variance": 1.0}, "schedule": {"kind": "cosine"}},
            "objective.steps: the",
        ),
        ({"objective": {"kind": "vlb", "variance": 1.2}}, "variance"),
        ({"objective": {"kind": "huber", "c": 0.0}}, "huber.c"),
        ({"objective": {"kind": "hybrid", "vlb_weight": -1.0}}, "vlb_weight"),
        ({"objective": {"kind": "mse", "c": 1.0}}, "mse.c"),
    ],
)
def test_refused_settings_name_the_field(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Diffusion.model_validate(spec)


def test_a_network_or_data_that_does_not_fit_is_refused() -> None:
    diffusion = Diffusion.model_validate({"objective": {"kind": "hybrid"}})
    with pytest.raises(ValueError, match="network has 2 output channels, objective hybrid needs 4"):
        losses_of(diffusion, lambda x, _: x, X0, EPS, LEVELS)
    flat = Diffusion.model_validate({"objective": {"kind": "multiscale"}})
    with pytest.raises(ValueError, match="no height and width"):
        losses_of(flat, lambda x, _: x, X0.flatten(1), EPS.flatten(1), LEVELS)

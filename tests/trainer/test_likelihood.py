"""Proves both likelihoods against closed forms and published sums, and that workers and batches agree on them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainer.diffusion.families import ancestor_schedule, tensor
from tests.trainer.diffusion.solver_cases import entries
from trainer.data import Digits, Gaussians, Resident
from trainer.diffusion import schedule
from trainer.diffusion.objective import VLB
from trainer.diffusion.prediction import Data
from trainer.diffusion.process import Diffusion
from trainer.diffusion.reverse import bits, chain, chain_step, decoder_nll, prior_bits
from trainer.distributed import World
from trainer.errors import UserError
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.likelihood import bits_per_dimension, flow_log_likelihood
from trainer.evaluation.metric import KINDS
from trainer.evaluation.metric.base import Shown
from trainer.evaluation.metric.likelihood import NLL, BitsPerDimension
from trainer.evaluation.protocol import Evaluation
from trainer.inputs import Labels, SuperResolution
from trainer.learner import Learner
from trainer.models import MLP
from trainer.randomness import Stream
from trainer.trial import TrialSpec

ALONE = World(0, 1)


# The flow


def gaussian(x: Tensor, log_snr: Tensor) -> Tensor:
    """The denoiser of N(0, diag(SCALES^2)): E[x0 | x_t]."""
    alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    variance = SCALES.to(x) ** 2
    return alpha * variance / (alpha**2 * variance + sigma**2) * x


SCALES = torch.tensor([0.3, 1.0, 0.7], dtype=torch.float64)


def density(x: Tensor, edm_sigma: float) -> Tensor:
    """Log density of the data noised to edm_sigma."""
    variance = SCALES**2 + edm_sigma**2
    return -0.5 * (x**2 / variance + variance.log() + math.log(2.0 * math.pi)).sum(1)


@pytest.mark.parametrize("exact", [True, False], ids=["exact trace", "signs"])
def test_the_flow_gives_a_gaussian_its_density(exact: bool) -> None:
    """Signs are exact here too: the derivative is diagonal, so every sign's estimate is its trace."""
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    signs = torch.tensor([1.0, -1.0, 1.0]).expand(2, 5, 3)
    found = flow_log_likelihood(
        gaussian, x, None if exact else signs, steps=300, edm_sigma_min=0.01, edm_sigma_max=2000.0
    )
    # the data's variance beside edm_sigma_max^2 is 2.5e-7; the rest is Runge and Kutta's error
    torch.testing.assert_close(found, density(x, 0.01), rtol=0.0, atol=1e-5)


def test_the_error_of_the_flow_falls_with_the_fourth_power_of_its_steps() -> None:
    x = torch.ones(1, 3, dtype=torch.float64)
    ends = {"edm_sigma_min": 0.01, "edm_sigma_max": 2000.0}
    exact = density(x, 0.01)
    coarse, fine = (
        (flow_log_likelihood(gaussian, x, None, steps=n, **ends) - exact).abs().item()
        for n in (40, 80)
    )
    assert 10.0 < coarse / fine < 25.0


def test_signs_are_unbiased_where_dimensions_mix() -> None:
    """A rotated Gaussian: the mean over many signs is the exact trace's value, within its standard error."""
    turn = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )[0]

    def rotated(x: Tensor, log_snr: Tensor) -> Tensor:
        return gaussian(x @ turn, log_snr) @ turn.T

    x = torch.full((1, 3), 0.4, dtype=torch.float64)
    ends = {"steps": 24, "edm_sigma_min": 0.05, "edm_sigma_max": 50.0}
    exact = float(flow_log_likelihood(rotated, x, None, **ends))
    coins = torch.randint(0, 2, (1, 400, 3), generator=torch.Generator().manual_seed(2)) * 2.0 - 1.0
    many = flow_log_likelihood(rotated, x.expand(400, 3), coins, **ends)
    assert float(many.std()) > 0.0
    assert abs(float(many.mean()) - exact) < 4.0 * float(many.std()) / 20.0


def test_points_have_their_density_in_bits() -> None:
    x = torch.tensor([[0.5, -0.2, 0.1]])
    shown = Shown(
        lambda x, _: x, Diffusion(), Gaussians(examples=4).load(Path()).codec, x, torch.arange(1), 0
    )
    metric = NLL(steps=200, log_snr_max=9.0, log_snr_min=-15.0, probes=3)
    ideal = shown._replace(diffusion=_Ideal())
    expected = -density(x.double(), math.exp(-4.5)) / (3 * math.log(2.0))
    # the network's float32
    torch.testing.assert_close(metric.values(ideal), expected, rtol=1e-4, atol=1e-4)


class _Ideal:
    """A diffusion whose network is the perfect denoiser of the Gaussian."""

    def denoiser(self, network: Any, *, clip: bool = False) -> Any:
        return gaussian


# The bound

BPD = [name for name in entries("objective_iddpm") if name.startswith("calc_bpd_loop")]


@pytest.mark.parametrize("name", [one for one in BPD if "ddim" not in one])
def test_the_bound_is_improved_diffusions(name: str) -> None:
    """calc_bpd_loop with its own noises: every term, the prior and the sum."""
    entry = entries("objective_iddpm")[name]
    given, out, f = entry["inputs"], entry["outputs"], entry["inputs"]["model"]
    kind = {"linear_beta": "linear", "cosine": "cosine"}[given["schedule"]["kind"]]
    steps = given["schedule"]["steps"]
    kept, curve = given["table"] or list(range(steps)), ancestor_schedule(kind, steps)
    if given["table"]:
        curve = schedule.Respaced(of=curve, rule=str(len(kept)))
    learned = given["model_var_type"] == "LEARNED_RANGE"
    objective = VLB(variance="learned_range" if learned else 1.0)
    diffusion = Diffusion(schedule=curve, objective=objective, conditioning="time")
    seen = iter(reversed(kept))

    def network(x: Tensor, _: Tensor) -> Tensor:
        s = next(seen) / steps
        output = f["a"] * x + f["b"] * s
        return torch.cat([output, f["c"] * x + f["d"] * s + f["e"]], 1) if learned else output

    noises = [tensor(one) for one in given["noise_sequence"]]
    found = bits_per_dimension(
        diffusion,
        network,
        tensor(given["x_start"]),
        lambda k: noises[len(kept) - 1 - k],
        steps=len(kept),
        levels=255,
        variance=objective.variance,
        clip=given["clip_denoised"],
    )
    # their 1 - alpha^2 cancels for the cleanest entries
    torch.testing.assert_close(found.terms, tensor(out["vb"]), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.prior, tensor(out["prior_bpd"]), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(found.total, tensor(out["total_bpd"]), rtol=1e-6, atol=0.0)


def test_a_decoder_of_fewer_levels_gives_its_bins_probabilities_that_sum_to_one() -> None:
    """At one level of noise, over all 17 values of a pixel: exp(-nats) sums to 1."""
    diffusion = Diffusion(schedule=schedule.Cosine(steps=20))
    values = torch.linspace(-1.0, 1.0, 17, dtype=torch.float64)[:, None]
    x0_hat = torch.full((17, 1), 0.05, dtype=torch.float64)

    class Fixed(Diffusion):
        def estimate(
            self, network: Any, x_t: Tensor, log_snr: Tensor, *, clip: bool = False
        ) -> Any:
            return x0_hat, None

    found = bits_per_dimension(
        Fixed(schedule=diffusion.schedule), lambda x, _: x, values, lambda _: torch.zeros_like(values),
        steps=20, levels=16,
    )  # fmt: skip
    # the tanh approximation of the normal's distribution function telescopes over the bins
    assert float((2.0 ** -found.terms[:, -1]).sum()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("levels", [255, 16, None])
def test_a_bound_is_trained_on_the_values_that_the_data_has(levels: int | None) -> None:
    """Its last step costs what the normal has in a value's bin, or its density where there are no bins."""
    diffusion = Diffusion(schedule=schedule.Cosine(steps=20), objective=VLB(per_step=True))
    x0 = torch.linspace(-1.0, 1.0, 1 + (levels or 16), dtype=torch.float64)[:, None]
    clean, half_bin = diffusion.schedule.table(20)[:1], None if levels is None else 1.0 / levels
    terms = diffusion.terms(
        lambda x, _: 0.1 * x, x0, torch.ones_like(x0), clean.expand(len(x0)), half_bin=half_bin
    )
    spread = (0.5 * chain_step(diffusion.schedule, 20, torch.zeros(1).long()).small).exp()
    normal = torch.distributions.Normal(terms.x0_hat(), spread)
    if half_bin is None:
        nats = -normal.log_prob(x0)
    else:
        above = torch.where(x0 > 0.999, 1.0, normal.cdf(x0 + half_bin))
        nats = -(above - torch.where(x0 < -0.999, 0.0, normal.cdf(x0 - half_bin))).log()
    # of probabilities: the tanh approximation of the normal's distribution function
    found = (-diffusion.objective.loss(terms) * math.log(2.0)).exp()
    torch.testing.assert_close(found, (-nats).exp()[:, 0], rtol=2e-2, atol=4e-4)


@pytest.mark.parametrize(("data", "levels"), [("digits", 16), ("gaussians", None)])
def test_where_a_bound_has_other_bins_than_it_had_trials_have_other_keys(
    data: str, levels: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, all bins were those of 8 bits: only a chain on other data is another trial now."""

    def spec(**diffusion: Any) -> TrialSpec:
        unet = {"kind": "unet", "channels": [8], "groups": 4}
        return TrialSpec.model_validate(
            {
                "data": {"kind": data}, "model": unet if data == "digits" else {"kind": "mlp"},
                "diffusion": diffusion, "train": {"kimg": 1},
                "evaluation": {"features": {"kind": "pixels"}, "full": {"images": 8, "steps": 2}},
            }
        )  # fmt: skip

    chain = spec(objective={"kind": "vlb"})
    limit = spec(objective={"kind": "vlb"}, schedule={"kind": "cosine", "steps": None})
    source = chain.data.load(Path())
    assert chain.data.levels == source.codec.levels == levels
    assert Learner(chain, source.codec.shape)._half_bin == (levels and 1.0 / levels)
    now = [each.key("data") for each in (chain, limit, spec())]
    monkeypatch.setattr(type(chain.data), "levels", 255)
    before = [each.key("data") for each in (chain, limit, spec())]
    assert now[0] != before[0]
    assert now[1:] == before[1:]


# As metrics


def evaluator(source: Any, cache: Path, metrics: list[Any], **values: Any) -> Evaluator:
    full = {"images": 40, "steps": 3}
    spec = {"full": full, "features": {"kind": "pixels"}, "metrics": metrics, "draws": 1, **values}
    diffusion = Diffusion(schedule=schedule.Cosine(steps=10))
    return Evaluator(Evaluation.model_validate(spec), diffusion, source, cache)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return MLP(width=16).build((2,))


def test_workers_and_batches_share_the_images_and_their_noise(
    tmp_path: Path, network: torch.nn.Module
) -> None:
    source = Gaussians(examples=100).load(Path())
    metrics = [{"kind": "nll", "steps": 4, "images": 30}]
    whole = evaluator(source, tmp_path, metrics)
    asked = whole.spec.questions[0]
    one, error, _ = whole._ask(asked, network, "full", ALONE)
    assert 0.0 < error < abs(one)
    parts = [_shares(whole, asked, network, World(rank, 3)) for rank in range(3)]
    assert sum(parts) == pytest.approx(one, rel=1e-6)  # float32 products of other sizes
    small = evaluator(source, tmp_path, metrics, batch_size=7)
    assert small._ask(asked, network, "full", ALONE)[0] == pytest.approx(one, rel=1e-6)


def _shares(whole: Evaluator, asked: Any, network: Any, world: World) -> float:
    class Silent(World):
        def sum_(self, *tensors: Tensor) -> None:
            """Each worker's part, for the test to add up."""

    return whole._ask(asked, network, "full", Silent(world.rank, world.size))[0]


def test_they_stand_beside_the_distances_in_one_measurement(
    tmp_path: Path, network: torch.nn.Module
) -> None:
    source = Gaussians(examples=100).load(Path())
    both = evaluator(source, tmp_path, ["fid", {"kind": "nll", "steps": 4}])
    measured = both.measure(network, "full", ALONE)
    assert set(measured.metrics) == set(measured.protocol) == {"eval/fid", "eval/nll"}
    assert math.isfinite(measured.metrics["eval/nll"])
    alone = evaluator(source, tmp_path, [{"kind": "nll", "steps": 4}])
    again = alone.measure(network, "full", ALONE)
    assert again.metrics["eval/nll"] == measured.metrics["eval/nll"]
    assert len(again.samples) == 40, "some are generated for the picture"
    assert both.measure(lambda x, _: x * math.nan, "full", ALONE).metrics["eval/nll"] != 0.0


def test_a_class_conditional_network_is_told_the_images_own_labels(tmp_path: Path) -> None:
    source, told = Digits().load(Path()), []

    def network(x: Tensor, _: Tensor, labels: Tensor) -> Tensor:
        told.append(labels)
        return torch.zeros_like(x)

    asked = BitsPerDimension(images=5)
    spec = Evaluation.model_validate(
        {"full": {"images": 8, "steps": 2}, "features": {"kind": "pixels"}, "metrics": [asked]}
    )
    measuring = Evaluator(
        spec, Diffusion(schedule=schedule.Cosine(steps=4)), source, tmp_path, [Labels(classes=10)]
    )
    value, _, _ = measuring._ask(asked, network, "full", ALONE)
    rows = torch.arange(5) * 1797 // 5
    assert len(told) == 4
    assert all(torch.equal(one, source.labels_of(rows)) for one in told)
    assert value > 0.0


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_network_that_enlarges_is_told_the_small_images_of_the_images(
    tmp_path: Path, level: float
) -> None:
    """Of one grey each, the enlarged image is the image: who answers with it pays for the prior and the last bins.

    Noise of the small image is a constant plane too, where it has one pixel: the network then errs by
    (cos a - 1) grey + sin a eps at every step, and each step costs the closed form of that.
    """
    grey = torch.tensor([0, 51, 119, 204, 255]).byte()
    source = Resident.of(grey[:, None, None, None].expand(5, 1, 2, 2).contiguous(), levels=255)
    enlarging = SuperResolution(factor=2, noise=level, sampling_noise=level)
    diffusion = Diffusion(schedule=schedule.Cosine(steps=10), prediction=Data())
    asked = BitsPerDimension(images=5, clip=False)
    spec = Evaluation.model_validate(
        {"full": {"images": 8, "steps": 2}, "features": {"kind": "pixels"}, "metrics": [asked]}
    )

    def network(x: Tensor, _: Tensor, vector: Tensor | None = None) -> Tensor:
        assert (vector is None) == (level == 0.0)
        return x[:, 1:]

    whole, small = (
        Evaluator(
            spec.model_copy(update={"batch_size": size}), diffusion, source, tmp_path, [enlarging]
        )
        for size in (500, 2)
    )
    found, *_ = whole._ask(asked, network, "full", ALONE)
    assert small._ask(asked, network, "full", ALONE)[0] == pytest.approx(found, rel=1e-6)
    x0 = source.codec.scale(source.examples).double()
    angle = 0.5 * math.pi * level
    eps = Stream(spec.noise_seed, "likelihood/super_resolution/eps").normal(torch.arange(5), (1, 1, 1))  # fmt: skip
    x0_hat = math.cos(angle) * x0 + math.sin(angle) * eps.double()
    bound = prior_bits(x0, chain(diffusion.schedule, 10, x0.double())[-1])
    for k in range(10):
        step = chain_step(diffusion.schedule, 10, torch.full((5,), k))
        variance = step.small.reshape(5, 1, 1, 1).double()
        if k == 0:
            cost = decoder_nll(x0, x0_hat, variance.expand_as(x0), half_bin=1.0 / 255)
        else:
            gap = step.gain.reshape(5, 1, 1, 1) * (x0_hat - x0)
            cost = 0.5 * (gap.square() / variance.exp())
        bound = bound + bits(cost)
    assert found == pytest.approx(float(bound.mean()), rel=1e-5)  # float32 images


def test_bits_per_dimension_need_whole_values(tmp_path: Path) -> None:
    points = Gaussians(examples=16).load(Path())
    with pytest.raises(UserError, match="bpd needs images of whole values: use nll"):
        evaluator(points, tmp_path, ["bpd"])
    assert KINDS["bpd"].lower_is_better


def test_the_id_of_a_likelihood_knows_no_solver() -> None:
    def of(metric: Any, **full: Any) -> str:
        spec = Evaluation.model_validate(
            {"full": {"images": 8, "steps": 2, **full}, "metrics": [metric]}
        )
        return spec.protocol_id(spec.metrics[0], "full", "data")

    plain = of({"kind": "nll", "images": 5})
    assert of({"kind": "nll", "images": 5}, steps=9) == plain
    assert of({"kind": "nll", "images": 6}) != plain
    assert of({"kind": "nll", "images": 5, "probes": 2}) != plain
    assert of({"kind": "nll"}, images=5) == plain


def test_images_of_few_are_all_of_them(tmp_path: Path, network: torch.nn.Module) -> None:
    few = Resident.of(torch.randn(3, 2), levels=None)
    asking = evaluator(few, tmp_path, [{"kind": "nll", "steps": 3}])
    assert math.isfinite(asking._ask(asking.spec.questions[0], network, "full", ALONE)[0])

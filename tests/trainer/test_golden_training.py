"""Learning rates, averages, gradients, metrics and images equal the ancestors'.

Golden entries are outputs of the ancestor systems in float64, at rtol 1e-9 unless a wider one says why;
tests/golden/README.md lists which feature is tested where. Learning rates are those that a real training applied.
"""

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.trainer.diffusion.families import ancestor_schedule, losses_of, tensor
from tests.trainer.diffusion.families import golden as entries_of
from tests.trainer.diffusion.solver_cases import golden as solver_file
from tests.trainer.diffusion.solver_cases import mixture
from tests.trainer.rates import applied_rates
from trainer.data import Codec, ImageFolder
from trainer.diffusion.process import Diffusion
from trainer.ema import Average, Constant, InversePower, Ramp
from trainer.errors import DataError
from trainer.evaluation.likelihood import log_likelihood
from trainer.evaluation.metric import (
    Manifold,
    Moments,
    Reference,
    frechet_distance,
    kernel_distance,
    precision,
    recall,
)
from trainer.optimizer import (
    AdamW,
    ConstantRate,
    CosineRate,
    ExponentialRate,
    InverseRate,
    LearningRate,
    LinearRate,
    PolynomialRate,
)


def golden(feature: str, system: str | None = None, part: str = "") -> list[Any]:
    """Entries of exactly this feature, named for the test report."""
    return [
        pytest.param(entry, id=f"{entry['system']}-{entry['name'].replace('/public', '')}")
        for entry in entries_of("training", feature)
        if entry["feature"] == feature
        and system in (None, entry["system"])
        and part in entry["name"]
    ]


def close(actual: Tensor, expected: Any, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, tensor(expected), rtol=rtol, atol=atol)


def applied(
    toy: dict[str, Any], rate: LearningRate, base: float, updates: int, directory: Path
) -> list[float]:
    """The rates of a real training of so many updates of one image, on the toy trial."""
    values = {
        **toy,
        "train": {"kimg": 1.0, "batch_size": 1},
        "optimizer": {"lr": base, "lr_schedule": rate.model_dump(mode="json")},
    }
    return applied_rates(values, updates, directory)


@pytest.mark.parametrize("entry", golden("train_loop_files_and_lr"))
def test_improved_diffusion_annealing(
    entry: dict[str, Any], toy: dict[str, Any], tmp_path: Path
) -> None:
    """From the first update, and the same ones after a resume at step 3."""
    given, out = entry["inputs"], entry["outputs"]
    ours = applied(toy, LinearRate(), given["lr"], given["lr_anneal_steps"], tmp_path)
    assert ours == pytest.approx(out["lr_used_per_update"], rel=1e-9, abs=1e-15)
    assert ours[3:] == pytest.approx(out["resume_lr_per_update"], rel=1e-9, abs=1e-15)


TRAINED = 100
"""Updates that are really trained; later ones ask the schedule as the training does."""


@pytest.mark.parametrize("entry", golden("lr_warmup"))
def test_v_diffusion_warmup(entry: dict[str, Any], toy: dict[str, Any], tmp_path: Path) -> None:
    steps, factors = entry["inputs"]["step"], entry["outputs"]["factor"]
    rate = ConstantRate(warmup_kimg=entry["inputs"]["warmup"] / 1000)
    ours = applied(toy, rate, 1.0, TRAINED, tmp_path)
    for step, factor in zip(steps, factors, strict=True):
        actual = ours[step] if step < TRAINED else rate.factor(step, TRAINED, 1)
        assert actual == pytest.approx(factor, rel=1e-9)


def k_diffusion_rate(given: dict[str, Any], base: float) -> LearningRate:
    """With updates of one image."""
    warm = given["warmup"]
    common: dict[str, Any] = {
        "warmup": "exponential",
        "warmup_kimg": -0.001 / math.log(warm) if warm else 0,
    }
    least = given.get("min_lr", 0.0) / base
    if given["cls"] == "InverseLR":
        return InverseRate(
            inv_gamma_kimg=given["inv_gamma"] / 1000, power=given["power"], least=least, **common
        )
    if given["cls"] == "ExponentialLR":
        half_life = 0.001 * given["num_steps"] * math.log(0.5) / math.log(given["decay"])
        return ExponentialRate(half_life_kimg=half_life, least=least, **common)
    return ConstantRate(**common)


@pytest.mark.parametrize("entry", golden("lr-schedule"))
def test_k_diffusion_rates(entry: dict[str, Any], toy: dict[str, Any], tmp_path: Path) -> None:
    """Its decay counts the updates made, its warm-up the one being made too."""
    given = entry["inputs"]
    for column, base in enumerate(given["base_lrs"]):
        rate = k_diffusion_rate(given, base)
        ours = applied(toy, rate, base, TRAINED, tmp_path / str(column))
        for step, row in zip(given["steps"], entry["outputs"]["lr"], strict=True):
            actual = ours[step] if step < TRAINED else base * rate.factor(step, TRAINED, 1)
            assert actual == pytest.approx(row[column], rel=1e-9)


DIFFUSERS: dict[str, Any] = {
    "linear": LinearRate,
    "cosine": CosineRate,
    "cosine_with_restarts": CosineRate,
    "polynomial": PolynomialRate,
    "constant_with_warmup": ConstantRate,
}


@pytest.mark.parametrize("entry", golden("lr_schedule"))
def test_diffusers_rates(entry: dict[str, Any], toy: dict[str, Any], tmp_path: Path) -> None:
    """Its decays begin where the warm-up ends, which begins at zero; `constant` has none."""
    given, name = entry["inputs"], entry["inputs"]["name"]
    settings: dict[str, Any] = {
        "warmup": "linear_from_zero",
        "warmup_kimg": given["warmup"] / 1000,
        "decay_from": "warmup",
    }
    if name == "polynomial":
        settings |= {"power": 1.0, "final": 1e-7 / given["lr"]}
    if name == "constant_with_warmup":
        del settings["decay_from"]
    rate = ConstantRate() if name == "constant" else DIFFUSERS[name](**settings)
    ours = applied(toy, rate, given["lr"], given["total"], tmp_path)
    expected = entry["outputs"]["lr"]
    assert [ours[step] for step in given["steps"]] == pytest.approx(expected, rel=1e-9, abs=1e-18)


def averaged(spec: Any, initial: list[float], sequence: list[list[float]]) -> list[Tensor]:
    """The average after each of the network's states."""
    network = nn.Linear(len(initial), 1, bias=False).double()
    network.weight.data = tensor(initial)[None]
    average, found = Average(spec, network, copy.deepcopy(network)), []
    for state in sequence:
        network.weight.data.copy_(tensor(state)[None])
        average.update()
        found.append(average.network.weight[0].clone())
    return found


@pytest.mark.parametrize("entry", golden("ema", "iddpm"))
def test_constant_average(entry: dict[str, Any]) -> None:
    given = entry["inputs"]
    for rate in given["rates"]:
        found = averaged(Constant(decay=rate), given["initial"], given["params_sequence"])
        close(torch.stack(found), entry["outputs"][f"rate_{rate}"])


@pytest.mark.parametrize("entry", golden("ema", "vdpm"))
def test_ramped_average(entry: dict[str, Any]) -> None:
    given, out, spec = entry["inputs"], entry["outputs"], Ramp(decay=entry["inputs"]["decay"])
    found = averaged(spec, given["initial"], given["param_after_each_step"])
    close(torch.stack(found), out["shadow_after_each_step"])
    decays = [spec.at(n + 1) for n in range(len(found))]
    assert decays == pytest.approx(out["effective_decay"], rel=1e-12)


ALMOST_ONE = math.nextafter(1.0, 0.0)


@pytest.mark.parametrize("entry", golden("ema", "kdiff", "warmup"))
def test_k_diffusion_average_warmup(entry: dict[str, Any]) -> None:
    given = entry["inputs"]["kwargs"]
    spec = InversePower(
        power=given.get("power", 1.0),
        inv_gamma=given.get("inv_gamma", 1.0),
        decay=given.get("max_value", ALMOST_ONE),
        least=given.get("min_value", 0.0),
        start=given.get("start_at", 0),
    )
    ours = [spec.at(step + 1) for step in entry["inputs"]["steps"]]
    assert ours == pytest.approx(entry["outputs"]["decay"], rel=1e-9)


class Buffered(nn.Module):
    """k-diffusion's example: a weight, a bias and a buffer."""

    running: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.register_buffer("running", torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("entry", golden("ema", "kdiff", "update"))
def test_k_diffusion_average_of_parameters_and_buffers(entry: dict[str, Any]) -> None:
    given, network = entry["inputs"], Buffered()
    spec = InversePower(power=given["power"], decay=given["max_value"])
    average = Average(spec, network, copy.deepcopy(network))
    for t, row in enumerate(entry["outputs"]["rows"]):
        network.weight.data = tensor([1, 2, 3]) * (t + 1)
        network.bias.data = tensor([0.1, -0.2, 0.3]) + t
        network.running.copy_(tensor([5, 6, 7]) * t)
        average = _rebound(average, network)
        average.update()
        assert spec.at(average.updates) == pytest.approx(row["decay"], rel=1e-9, abs=1e-15)
        ours = average.network
        assert isinstance(ours, Buffered)
        close(ours.weight, row["weight"])
        close(ours.bias, row["bias"])
        close(ours.running, row["running_mean"])


def _rebound(average: Average, network: nn.Module) -> Average:
    """The same average after the network's parameters were given new storage."""
    again = Average(average.spec, network, average.network)
    again.updates = average.updates
    return again


class Linear(nn.Module):
    """improved-diffusion's test network: out[:, c] = w[c] x[:, c % 3] + b[c] (1 + ts/1000), ts the timestep."""

    def __init__(self, w: list[float], b: list[float]) -> None:
        super().__init__()
        self.w = nn.Parameter(tensor(w))
        self.b = nn.Parameter(tensor(b))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Our condition is (ts + 1)/1000 for a table of a thousand."""
        scale = (condition + 0.999)[:, None, None, None]
        shown = x[:, torch.arange(len(self.w)) % x.shape[1]]
        return self.w[:, None, None] * shown + self.b[:, None, None] * scale


def cell(given: dict[str, Any]) -> Diffusion:
    kind = given["loss_type"]
    objective = {"kind": "vlb", "variance": "learned_range"} if kind == "RESCALED_KL" else None
    weighting = {"kind": "p2", "gamma": given.get("p2_gamma", 0.0), "k": given.get("p2_k", 1.0)}
    return Diffusion.model_validate(
        {
            "schedule": ancestor_schedule(given["schedule"], given["T"]),
            "weighting": {"kind": "simple"} if objective else weighting,
            "objective": objective or {"kind": "hybrid"},
            "conditioning": "time",
        }
    )


def losses(given: dict[str, Any], network: nn.Module, x0: Any, eps: Any) -> Tensor:
    diffusion = cell(given)
    level = diffusion.schedule.table(given["T"])[given["t"]]
    return losses_of(diffusion, network, tensor(x0), tensor(eps), level)


@pytest.mark.parametrize("entry", golden("microbatch_gradient"))
def test_gradient_of_a_batch_does_not_depend_on_its_slices(entry: dict[str, Any]) -> None:
    """Defect: the ancestor adds up the slices' means, which is the gradient times their number. Ours is the mean."""
    given, out = entry["inputs"], entry["outputs"]
    network = Linear(given["w"], given["b"])
    weighted = losses(given, network, given["batch"], given["noise"]) * tensor(given["weights"])
    size = len(weighted)
    per_slice = given["microbatch"] if given["microbatch"] > 0 else size
    for part in weighted.split(per_slice):
        (part.sum() / size).backward(retain_graph=True)
    assert network.w.grad is not None
    assert network.b.grad is not None
    slices = size // per_slice
    # the decoder's term amplifies the ancestor's rounding of 1 - alpha^2
    close(slices * network.w.grad, out["grad_w"], rtol=1e-6, atol=1e-9)
    close(slices * network.b.grad, out["grad_b"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("entry", golden("fork_grad_accum"))
def test_gradient_accumulation_is_the_mean_over_batches(entry: dict[str, Any]) -> None:
    given, out = entry["inputs"], entry["outputs"]
    network = Linear(given["w"], given["b"])
    for x0, eps in zip(given["batches"], given["noises"], strict=True):
        (losses(given, network, x0, eps).mean() / given["grad_accum"]).backward()
    assert network.w.grad is not None
    assert network.b.grad is not None
    close(network.w.grad, out["grad_w"], rtol=1e-6, atol=1e-9)
    close(network.b.grad, out["grad_b"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("entry", golden("train_step"))
def test_training_steps_of_improved_diffusion(entry: dict[str, Any]) -> None:
    """Three updates with AdamW, annealed, into two averages."""
    given, out = entry["inputs"], entry["outputs"]
    start = golden("microbatch_gradient")[0].values[0]["inputs"]
    network = Linear(start["w"], start["b"])
    spec = AdamW(lr=given["lr"], weight_decay=given["weight_decay"], lr_schedule=LinearRate())
    optimizer = spec.build(network)
    rates = given["ema_rate"]
    averages = [Average(Constant(decay=r), network, copy.deepcopy(network)) for r in rates]
    total = 1000 * given["lr_anneal_steps"]
    for step, (x0, eps) in enumerate(zip(given["batches"], given["noises"], strict=True)):
        optimizer.param_groups[0]["lr"] = spec.lr * spec.lr_schedule.factor(1000 * step, total)
        optimizer.zero_grad()
        losses(given, network, x0, eps).mean().backward()
        optimizer.step()
        for average in averages:
            average.update()
        # Adam divides the gradient by its own size, so its relative error stays
        close(network.w.detach(), out["w"][step], rtol=1e-7)
        close(network.b.detach(), out["b"][step], rtol=1e-7)
    for rate, average in zip(rates, averages, strict=True):
        assert isinstance(average.network, Linear)
        close(average.network.w, out["ema_w"][str(rate)], rtol=1e-7)
        close(average.network.b, out["ema_b"][str(rate)], rtol=1e-7)


def moments(features: Tensor) -> Moments:
    found = Moments.empty(features.shape[1])
    found.add(features)
    return found


@pytest.mark.parametrize("entry", golden("running_statistics"))
def test_streamed_statistics(entry: dict[str, Any]) -> None:
    found = Moments.empty(4)
    for chunk in entry["inputs"]["feature_chunks"]:
        found.add(tensor(chunk))
    close(found.mean(), entry["outputs"]["mean"])
    close(found.covariance(), entry["outputs"]["cov_unbiased"])


def with_statistics(mean: Any, covariance: Any) -> Tensor:
    """Features with exactly this mean and covariance: pairs at plus and minus the columns of a root."""
    values, vectors = torch.linalg.eigh(tensor(covariance))
    columns = (vectors * values.clamp_min(0.0).sqrt()).T * (len(values) - 0.5) ** 0.5
    return tensor(mean) + torch.cat([columns, -columns])


@pytest.mark.parametrize("entry", golden("frechet_distance"))
def test_frechet_distance_of_v_diffusion(entry: dict[str, Any]) -> None:
    given = entry["inputs"]
    x = with_statistics(given["mean1"], given["cov1"])
    y = with_statistics(given["mean2"], given["cov2"])
    ours = frechet_distance(moments(x), Reference.of(y))
    assert ours == pytest.approx(entry["outputs"]["fd"], rel=1e-6)


@pytest.mark.parametrize("entry", golden("fid"))
def test_frechet_distance_of_k_diffusion(entry: dict[str, Any]) -> None:
    """Theirs adds 1e-8 to the covariances' diagonals."""
    x, y = tensor(entry["inputs"]["x"]), tensor(entry["inputs"]["y"])
    ours = frechet_distance(moments(x), Reference.of(y))
    assert ours == pytest.approx(entry["outputs"]["fid"], rel=1e-7)


@pytest.mark.parametrize("entry", golden("kid"))
def test_kernel_distance_of_k_diffusion(entry: dict[str, Any]) -> None:
    """Theirs is the mean over contiguous parts of at most max_size; ours never cuts, so it is called per part."""
    x, y = tensor(entry["inputs"]["x"]), tensor(entry["inputs"]["y"])
    parts = math.ceil(max(len(x), len(y)) / entry["inputs"]["max_size"])
    values = [
        kernel_distance(
            *(f[round(i * len(f) / parts) : round((i + 1) * len(f) / parts)] for f in (x, y))
        )
        for i in range(parts)
    ]
    assert np.mean(values) == pytest.approx(entry["outputs"]["kid"], rel=1e-9)


@pytest.mark.parametrize("entry", golden("precision_recall"))
def test_precision_and_recall(entry: dict[str, Any]) -> None:
    given, out = entry["inputs"], entry["outputs"]
    fake, real, k = tensor(given["generated_features"]), tensor(given["real_features"]), given["k"]
    # their distances are rounded to float16
    for features, side in ((fake, "generated"), (real, "real")):
        close(Manifold.of(features, k).radius, out[f"kth_radius_{side}"], rtol=6e-4)
    manifold = Manifold.of(real, k)
    assert precision(fake, manifold) == pytest.approx(out["precision"], abs=1.01 / len(fake))
    assert recall(fake, manifold, k) == pytest.approx(out["recall"], abs=1.01 / len(real))


BYTES = Codec((1, 1, 1), 255)


def as_bytes(x: Tensor) -> Tensor:
    """What quantized samples are as 8-bit values."""
    return ((BYTES.quantize(x) + 1.0) * 127.5).round().int()


@pytest.mark.parametrize("entry", [*golden("sample_to_uint8"), *golden("images", part="pil")])
def test_samples_are_rounded_where_the_ancestors_truncate(entry: dict[str, Any]) -> None:
    """Defect: truncation darkens samples by half a level on average; the nearest level is theirs or the next."""
    values = entry["inputs"].get("values_float32") or entry["inputs"]["x"][0]
    x, theirs = tensor(values), torch.tensor(entry["outputs"]["uint8"])
    ours = as_bytes(x)
    assert ((ours == theirs) | (ours == theirs + 1)).all()
    exact = (x.clamp(-1.0, 1.0) + 1.0) * 127.5
    assert float((ours - exact).abs().max()) <= 0.5


@pytest.mark.parametrize("entry", golden("uint8_roundtrip"))
def test_every_level_survives_the_round_trip(entry: dict[str, Any]) -> None:
    """Defect: 63 of the 256 levels come back one lower there."""
    levels = torch.tensor(entry["inputs"]["levels"], dtype=torch.uint8)
    assert as_bytes(BYTES.scale(levels)).tolist() == entry["inputs"]["levels"]
    assert entry["outputs"]["back"] != entry["inputs"]["levels"]


def pattern(height: int, width: int, mode: str) -> Image.Image:
    """The ancestors' test image."""
    y, x = np.mgrid[:height, :width]
    channels = [(7 * y + 13 * x) % 256, (y**2 + 5 * x) % 256, (x**2 + 3 * y) % 256]
    return Image.fromarray(np.stack(channels, 2).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("entry", golden("image_loading"))
def test_images_are_resized_and_cropped(entry: dict[str, Any], tmp_path: Path) -> None:
    """2 x 2 means, bicubic on the short side, then the centre; the second step is ours by itself."""
    given = entry["inputs"]
    pattern(given["height"], given["width"], given["mode"]).save(tmp_path / "a.png")
    ours = (
        ImageFolder(path=str(tmp_path), size=given["resolution"], resize="box_halving")
        .load(Path())
        .read(torch.tensor([0]))[0]
    )
    gap = (ours.int() - torch.tensor(entry["outputs"]["uint8_chw"])).abs()
    assert int(gap.max()) == 0


@pytest.mark.parametrize("entry", golden("preprocess"))
def test_diffsched_images(entry: dict[str, Any], tmp_path: Path) -> None:
    """Without resizing; theirs resizes bilinearly, ours bicubically."""
    pixels = np.array(entry["inputs"]["image_hwc_uint8"], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = ImageFolder(path=str(tmp_path), size=entry["inputs"]["resolution"]).load(Path())
    ours = next(data.passage(1))[0]
    # one of theirs is mirrored; their float32 divides by 255 first
    gaps = [float((ours - either).abs().max()) for either in tensor(entry["outputs"]["either_of"])]
    assert min(gaps) < 2e-7


@pytest.mark.parametrize("entry", [*golden("class_labels"), *golden("datasets")])
def test_folders_are_read_in_the_same_order(entry: dict[str, Any], tmp_path: Path) -> None:
    """Recursive, sorted by path, all extensions in any case; what is no image is left alone."""
    paths = entry["outputs"]["paths"]
    for name in entry["inputs"]["files"]:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name not in paths:
            file.write_text("no image")
            continue
        kind = {"jpg": "jpeg"}.get(file.suffix[1:].lower(), file.suffix[1:].lower())
        Image.new("RGB", (8, 8), (20 * paths.index(name),) * 3).save(file, format=kind)
    source = ImageFolder(path=str(tmp_path), size=8, labels="none").load(Path())
    examples = source.read(torch.arange(len(source)))
    shades = examples.float().mean((1, 2, 3)) / 20.0
    assert shades.round().int().tolist() == list(range(len(paths)))


@pytest.mark.parametrize("entry", golden("class_labels"))
def test_classes_from_prefixes(entry: dict[str, Any], tmp_path: Path) -> None:
    """A name without underscore is an error here: there `bird.png` is the whole name of a class of its own."""
    out = entry["outputs"]
    for path in out["paths"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / path)
    spec = ImageFolder(path=str(tmp_path), size=8, labels="prefix")
    with pytest.raises(DataError, match=r"1 of 6 images have no underscore \(bird\.png\)"):
        spec.load(Path())
    (tmp_path / "bird.png").rename(tmp_path / "bird.png_")  # their class, as a prefix
    (tmp_path / "bird.png_").rename(tmp_path / "bird.png_.png")
    source = spec.load(Path())
    assert source.labels_of(torch.arange(len(source))).tolist() == out["classes"]
    assert source.codec.label_names == ("ant", "bird.png", "cat", "dog")


SIGNS = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)), dtype=torch.float64)


@pytest.mark.parametrize("entry", golden("log-likelihood"))
def test_log_likelihood_of_k_diffusion(entry: dict[str, Any]) -> None:
    """With its probe, and with the mean over all probes, whose trace is exact."""
    given, out = entry["inputs"], entry["outputs"]
    x = tensor(solver_file("solver_kdiff")["shared"]["x0_public"])
    settings = {"edm_sigma_min": given["sigma_min"], "edm_sigma_max": given["sigma_max"]}
    settings |= {"rtol": given["rtol"], "atol": given["atol"]}
    if "ll" in out:
        ours = log_likelihood(mixture(), x, tensor(given["v"]), **settings)
        # two adaptive integrators at the tolerance asked for
        loose = given["rtol"] > 1e-6
        close(ours, out["ll"], rtol=0.0 if loose else 1e-6, atol=0.02 if loose else 0.0)
        return
    probes = SIGNS.repeat(len(x), 1).reshape(-1, *x.shape[1:])
    every = log_likelihood(mixture(), x.repeat_interleave(len(SIGNS), 0), probes, **settings)
    mean = every.reshape(len(x), -1).mean(1)
    close(mean, out["ll_mean_over_all_v"], rtol=1e-5)
    # the prior at sigma_max 10 still holds a little of the data
    close(mean, out["exact_logp_at_sigma_min"], rtol=0.02)


def test_log_likelihood_says_when_it_stalls() -> None:
    x = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="smaller than edm_sigma_max"):
        log_likelihood(mixture(), x, x, edm_sigma_min=1.0, edm_sigma_max=0.5)
    with pytest.raises(ValueError, match=r"stalled at edm_sigma 0\.1"):
        log_likelihood(lambda x, _: x * math.nan, x, x, edm_sigma_min=0.1, edm_sigma_max=1.0)
    with pytest.raises(ValueError, match="more than 5 evaluations"):
        log_likelihood(
            lambda x, _: 0.5 * x, x, x, edm_sigma_min=0.1, edm_sigma_max=9.0, max_evaluations=5
        )

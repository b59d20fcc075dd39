"""Proves that every preset is a valid trial that builds at full size and trains at a reduced one.

A new preset is tested by being in the folder.
"""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from service.experiment import Experiment
from trainer.data import Digits
from trainer.diffusion.passport import findings, passport
from trainer.distributed import World
from trainer.learner import build_network
from trainer.loop import train
from trainer.models import UNet
from trainer.record import Record
from trainer.training import Training
from trainer.trial import TrialSpec
from trainer.yaml.keys import split
from trainer.yaml.overrides import Layered, Origin, read_option
from trainer.yaml.source import read

FOLDER = Path(__file__).parents[2] / "experiments" / "presets"
PRESETS = [pytest.param(file, id=file.stem) for file in sorted(FOLDER.glob("*.yaml"))]


def load(file: Path) -> TrialSpec:
    return TrialSpec.model_validate(read(file).data)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight noisy images of 8 x 8 in two classes."""
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for i in range(8):
        file = folder / f"class{i % 2}" / f"kind{i % 2}_{i}.png"
        file.parent.mkdir(exist_ok=True)
        pixels = torch.randint(0, 256, (8, 8, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(file)
    return folder


def reduced(trial: TrialSpec, images: Path) -> TrialSpec:
    """Two steps of four tiny images through a tiny network; all that is diffusion stays as it is."""
    values = trial.model_dump(mode="json")
    data = values["data"]
    if data["kind"] == "image_folder":
        data |= {"path": str(images), "size": 8}
    elif data["kind"] == "torchvision":
        kept = {"flip": data["flip"], "grayscale": data["grayscale"]}
        values["data"] = {"kind": "image_folder", "path": str(images), "size": 8, **kept}
        values["inputs"] = [one for one in values["inputs"] if one["kind"] != "tags"]  # CelebA's
    values["model"] |= small(values["model"])
    values["train"] |= {"kimg": 0.008, "batch_size": 4, "microbatch": 2}
    values["evaluation"] |= {"evaluations": 1, "features": {"kind": "pixels"}, "batch_size": 4}
    for name in ("full", "rung"):
        if values["evaluation"][name]:
            values["evaluation"][name] |= {"images": 4, "steps": 2}
    return TrialSpec.model_validate(values)


def small(model: dict[str, Any]) -> dict[str, Any]:
    """What makes a network of this kind small, keeping its options."""
    if model["kind"] == "unet":
        levels = min(len(model["channels"]), 3)
        return {
            "channels": [8] * levels,
            "blocks": 1,
            "attention": sorted({min(level, levels - 1) for level in model["attention"]}),
            "heads": model["heads"] and min(model["heads"], 2),
            "head_width": 4,
            "groups": 4,
            "embedding": 8,
        }
    if model["kind"] == "diffusers_unet":
        down, up = (model["config"][f"{side}_block_types"] for side in ("down", "up"))
        kinds = {"down_block_types": down[-2:], "up_block_types": up[:2]}
        return {"config": kinds | {"block_out_channels": [8, 16], "norm_num_groups": 4}}
    return {"width": 16, "depth": 1, "heads": 2} if model["kind"] == "dit" else {}


@pytest.mark.parametrize("file", PRESETS)
def test_says_where_it_comes_from(file: Path) -> None:
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert len(header) >= 3
    assert not any(len(line) > 120 for line in file.read_text().splitlines())
    if not isinstance(load(file).data, Digits):
        assert any(line.startswith("# Data: ") for line in header)
        assert any("arXiv" in line for line in header)
        assert any(line.startswith("# Deviations: ") for line in header)


@pytest.mark.parametrize("file", PRESETS)
def test_is_the_base_of_an_experiment(file: Path) -> None:
    experiment = Experiment.from_mapping(
        {"name": "one", "base": str(file), "seeds": 1, "arms": {"published": {}}}
    )
    (cell,) = experiment.cells
    assert cell.trial == load(file)


@pytest.mark.parametrize("file", PRESETS)
def test_builds_at_full_size_with_as_many_parameters_as_it_says(file: Path) -> None:
    trial = load(file)
    shape = trial.data.shape
    with torch.device("meta"):
        network = build_network(trial, shape)
        planes = sum(one.planes(shape) for one in trial.network_inputs())
        x = torch.empty(1, shape[0] + planes, *shape[1:])
        y = network(x, torch.empty(1), torch.zeros(1, dtype=torch.int64))
    assert y.shape == (1, trial.diffusion.output_channels(shape[0]), *shape[1:])
    said = re.search(r"^# Parameters: ([\d,]+\d)", file.read_text(), re.MULTILINE)
    if said is None:
        assert file.stem == "digits"
    else:
        assert sum(p.numel() for p in network.parameters()) == int(said[1].replace(",", ""))


@pytest.mark.parametrize("file", PRESETS)
def test_objective_is_known_without_training(file: Path) -> None:
    card = passport(load(file).diffusion)
    assert math.isfinite(card.effective_sample_size)
    assert card.effective_sample_size > 0.0


@pytest.mark.parametrize("file", PRESETS)
def test_trains_two_steps_at_reduced_size(file: Path, images: Path, tmp_path: Path) -> None:
    trial = reduced(load(file), images)
    reports = list(train(trial, tmp_path / "trial", cache=tmp_path / "cache", device="cpu"))
    last = reports[-1]
    assert last.done
    assert last.failure is None
    assert last.images == 8
    assert math.isfinite(last.metrics["train/loss"])
    assert math.isfinite(last.metrics["eval/fid"])


def test_only_published_oddities_are_found_in_the_objectives() -> None:
    """A preset with another finding is most likely mistyped."""
    odd = {file.stem for file in FOLDER.glob("*.yaml") if findings({"it": load(file).diffusion})}
    assert odd == {
        "p2_fork_ffhq128_readme",  # P2 twice
        "p2_fork_ffhq128_under05",  # the under-sampler rescales the VLB term
        "v_diffusion_cifar10_uncond",  # truncated SNR, up to exp(20), on the x0 error
        "improved_diffusion_cifar10_vlb",  # what learns is shown as it starts
        "improved_diffusion_imagenet64_vlb",
        "vdm_cifar10",
    }


def test_the_forks_curves_differ_in_where_the_p2_weight_stands() -> None:
    """README: both sides, so P2 at gamma 1; the two curves: one side each."""
    diffusion = {
        name: load(FOLDER / f"p2_fork_ffhq128_{name}.yaml").diffusion
        for name in ("readme", "uni05", "under05")
    }
    sides = {
        name: (spec.timesteps.kind == "p2", spec.weighting.kind == "p2")
        for name, spec in diffusion.items()
    }
    assert sides == {"readme": (True, True), "uni05": (False, True), "under05": (True, False)}
    level = torch.linspace(-8.0, 8.0, 33, dtype=torch.float64)
    product = {
        name: spec.timesteps.relative(level, spec.schedule) * spec.loss_weight(level)
        for name, spec in diffusion.items()
    }
    ratio = product["uni05"] / product["under05"]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))  # one objective, estimated twice
    gamma = (
        torch.log(product["readme"] / product["uni05"]).diff() / torch.log(product["uni05"]).diff()
    )
    torch.testing.assert_close(gamma, torch.ones_like(gamma), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("improved_diffusion_cifar10", 52_546_438),
        ("improved_diffusion_imagenet64", 121_063_942),
        ("improved_diffusion_imagenet64_cond", 273_049_350 + 768),  # and a row for "no label"
        ("improved_diffusion_lsun_bedroom_lr1e-4", 113_676_678),
        ("improved_diffusion_lsun_bedroom_lr2e-5", 113_676_678),
        ("v_diffusion_cifar10", 60_813_318),
        ("v_diffusion_cifar10_cond", 60_806_403),
        ("v_diffusion_celeba", 31_518_150 - 768),  # without a bias in what reads the 40 tags
        ("diffsched_oxford_flowers", 113_673_219),
    ],
)
def test_networks_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    """What the original code builds of these settings."""
    header = (FOLDER / f"{name}.yaml").read_text()
    assert f"# Parameters: {parameters:,}" in header


def test_the_network_of_p2_at_256_pixels_has_its_93_million_parameters() -> None:
    """The fork's at 128 is of the same layout, with other widths."""
    fork = load(FOLDER / "p2_fork_ffhq128_uni05.yaml")
    widths = {"channels": (128, 128, 256, 256, 512, 512), "blocks": 1, "attention": (4,)}
    with torch.device("meta"):
        network = UNet.model_validate({**fork.model.model_dump(), **widths}).build((3, 256, 256), 6)
    assert sum(p.numel() for p in network.parameters()) == 93_563_910


def advised(file: Path) -> list[str]:
    """Every option that a preset's header tells to write."""
    lines = [line[1:].strip() for line in file.read_text().splitlines() if line.startswith("#")]
    return [
        a or b for a, b in re.findall(r"-o (?:'([^']+)'|([^\s,;)]+[^\s,;.:)]))", " ".join(lines))
    ]


ADVICE = [
    pytest.param(file.values[0], option, id=f"{file.id}: {option}")
    for file in PRESETS
    for option in advised(file.values[0])  # type: ignore[arg-type]
]


def test_advice_is_found() -> None:
    assert len(ADVICE) >= 9


@pytest.mark.parametrize(("file", "option"), ADVICE)
def test_what_a_header_advises_is_a_trial(
    file: Path, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `-o`, as `python -m trainer` reads it. What must go together is written together."""
    monkeypatch.chdir(tmp_path)
    where, value = read_option(option)
    if where == "start_from":
        begun(Path(value.data["trial"]))
    source = read(file)
    tree = Layered(source.data, Origin(source, ()), TrialSpec)
    for each in together(option, advised(file)):
        where, value = read_option(each)
        assert not tree.merge(split(where), value.data, Origin(value, split(where))).problems
    assert tree.model_or_raise() != load(file)


def together(option: str, options: list[str]) -> list[str]:
    """The options of one family that only fit together: those of a learned schedule."""
    learned = ["diffusion.schedule={kind: learned}", "diffusion.objective={kind: vlb}"]
    learned.append("diffusion.conditioning=time")
    return learned if option in learned and set(learned) <= set(options) else [option]


def begun(directory: Path) -> None:
    """A trained model where an advice expects one."""
    trial = load(FOLDER / "digits.yaml")
    training = Training(trial, trial.data.load(Path()), World(0, 1))
    record = Record(directory)
    record.begin(trial, 0)
    record.save_checkpoint(0, training.state())

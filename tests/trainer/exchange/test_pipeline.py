"""Proves that an exported folder is the model: of the same noise diffusers makes the images that we make."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import toy_trial
from tests.trainer.exchange.models import labelled, spec, trained
from trainer.diffusion.schedule import Respaced
from trainer.diffusion.solver import DDIM
from trainer.errors import UserError
from trainer.exchange.card import Exported, Story
from trainer.exchange.levels import Table, turned
from trainer.exchange.own_code import source_of
from trainer.exchange.pipeline import export
from trainer.exchange.unet2d import largest_gap, obstacle
from trainer.models import MLP, AnyModel, DiT, UNet
from trainer.models.embedding import sinusoidal
from trainer.trained import Trained
from trainer.trial import TrialSpec

diffusers = pytest.importorskip("diffusers")

STEPS = 10
TOLERANCE = 2e-3
"""Of the range [-1, 1], a quarter of a grey level: float32 tables of a thousand factors, seen through ten steps of
networks that are nearly untrained and therefore not smooth."""

DDPM: dict[str, Any] = {
    "layout": "ddpm",
    "embedding": 8,
    "channels": [8, 16],
    "blocks": 1,
    "groups": 4,
}


@pytest.fixture(autouse=True)
def _code_of_models_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers copies a folder's code into a cache of the user's before it runs it."""
    from diffusers.utils import dynamic_modules_utils

    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def exported(trial: TrialSpec, folder: Path) -> tuple[Trained, Exported]:
    model = Trained.load(trained(trial, folder / "trial"), "cpu")
    return model, export(model, folder / "out", Story("a model", "0123"))


def ours(model: Trained, noise: Tensor, steps: int, clip: bool, **asked: Any) -> Tensor:
    """Our DDIM on the levels that diffusers' scheduler visits, of the same noise, in [0, 1]."""
    table = Table.of(model.diffusion)
    visited = [len(table) * j // steps - 1 for j in range(steps, 0, -1)]
    generation = model.trial.evaluation.full.model_copy(update={"solver": DDIM(), "clip": clip})
    way = model.way(model.ask(generation, **asked), torch.arange(len(noise)))
    with torch.inference_mode():
        x0 = replace(way, grid=table.log_snr[visited]).walk(noise)
    return (x0 / 2.0 + 0.5).clamp(0.0, 1.0)


def noise_of(model: Trained, n: int, seed: int) -> Tensor:
    return torch.randn((n, *model.codec.shape), generator=torch.Generator().manual_seed(seed))


def pixels(images: Any) -> Tensor:
    """[B, C, H, W] of what `output_type="np"` or `"pt"` gives."""
    x = torch.as_tensor(images)
    return x if x.shape[-1] > 4 else x.permute(0, 3, 1, 2)


CONTINUOUS: dict[str, Any] = {"kind": "cosine_ends", "log_snr_max": 12.0, "log_snr_min": -12.0}
ZERO_TERMINAL: dict[str, Any] = {
    "kind": "modified", "of": {"kind": "scaled_linear_beta"}, "zero_terminal_snr": True, "steps": 1000,
}  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "epsilon, cosine table": (DDPM, {}, "squaredcos_cap_v2"),
    "data, linear table": (
        DDPM | {"scale_shift": True, "heads": 1, "attention": [0]},
        {"prediction": {"kind": "data"}, "schedule": {"kind": "linear_beta", "steps": 1000}, "conditioning": "time"},
        "linear",
    ),
    "velocity, continuous": (
        DDPM | {"resample": "residual"},
        {"prediction": {"kind": "velocity"}, "schedule": CONTINUOUS},
        None,
    ),
    "learned variance, 400 levels": (
        DDPM | {"blocks": 2, "embedding": 6},
        {"objective": {"kind": "hybrid"}, "schedule": {"kind": "sigmoid", "steps": 400}},
        None,
    ),
    "zero terminal SNR": (
        DDPM,
        {
            "prediction": {"kind": "velocity"},
            "schedule": ZERO_TERMINAL,
        },
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_standard_networks_load_without_code_and_make_our_images(name: str, tmp_path: Path) -> None:
    network, diffusion, schedule = CASES[name]
    model, result = exported(spec(model=network, diffusion=diffusion), tmp_path)
    assert (result.network, result.pipeline, result.own_code) == (
        "UNet2DModel",
        "DDIMPipeline",
        None,
    )
    assert not list(result.folder.rglob("*.py"))
    assert not list(result.folder.rglob("*.bin"))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(result.folder)
    assert type(pipeline).__name__ == "DDIMPipeline"
    config = pipeline.scheduler.config
    assert (config.trained_betas is None) == (schedule is not None)
    if schedule is not None:
        assert config.beta_schedule == schedule
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        batch_size=3, generator=torch.Generator().manual_seed(4), num_inference_steps=STEPS,
        use_clipped_model_output=True, output_type="np",
    ).images  # fmt: skip
    expected = ours(model, noise_of(model, 3, 4), STEPS, clip=True)
    assert float(expected.std()) > 0.1, "images of one grey would prove nothing"
    torch.testing.assert_close(pixels(made), expected, rtol=0.0, atol=TOLERANCE)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
def test_labels_reach_the_network(prediction: str, clip: bool, tmp_path: Path) -> None:
    """As the folder stands, at the settings it comes with."""
    full = {"images": 16, "steps": 6, "clip": clip}
    evaluation = {"evaluation": {"features": {"kind": "pixels"}, "full": full}}
    trial = labelled(model=DDPM, diffusion={"prediction": {"kind": prediction}}, **evaluation)
    model, result = exported(trial, tmp_path)
    assert (result.network, result.own_code) == ("UNet2DModel", None)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(result.folder)
    pipeline.set_progress_bar_config(disable=True)
    sets = {}
    for labels in ([3, 7, 3], [0, 0, 0], [10, 10, 10]):
        made = pipeline(
            batch_size=3, class_labels=labels, generator=torch.Generator().manual_seed(4),
            num_inference_steps=STEPS, output_type="np",
        ).images  # fmt: skip
        sets[tuple(labels)] = pixels(made)
        if labels[0] < 10:
            expected = ours(model, noise_of(model, 3, 4), STEPS, clip=clip, labels=labels)
            torch.testing.assert_close(pixels(made), expected, rtol=0.0, atol=TOLERANCE)
    assert not torch.allclose(sets[3, 7, 3], sets[0, 0, 0], atol=1e-2)
    assert not torch.allclose(sets[10, 10, 10], sets[0, 0, 0], atol=1e-2)


DIT: dict[str, Any] = {"kind": "dit", "width": 16, "depth": 1, "heads": 2}
OWN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "compact": ({"channels": [8, 16], "groups": 4}, {}, "model.layout: compact"),
    "levels of another depth": (DDPM | {"blocks": [1, 2]}, {"prediction": {"kind": "data"}}, "model.blocks"),
    "dit": (DIT, {"prediction": {"kind": "preconditioned"}}, "model.kind: dit"),
    "flow": (DDPM, {"prediction": {"kind": "flow"}, "schedule": {"kind": "interpolant"}}, "diffusion.prediction: flow"),
    "two heads": (DDPM, {"prediction": {"kind": "both"}, "schedule": CONTINUOUS}, "diffusion.prediction: both"),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_other_networks_bring_their_source_and_make_our_images(name: str, tmp_path: Path) -> None:
    network, diffusion, reason = OWN[name]
    trial = spec(diffusion=diffusion).model_dump(mode="json") | {
        "model": {"kind": "unet"} | network
    }
    model, result = exported(TrialSpec.model_validate(trial), tmp_path)
    assert result.own_code is not None
    assert result.own_code.startswith(reason)
    with pytest.raises(ValueError, match="trust_remote_code"):
        diffusers.DiffusionPipeline.from_pretrained(result.folder)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(result.folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        batch_size=3, generator=torch.Generator().manual_seed(4), num_inference_steps=STEPS,
        use_clipped_model_output=True, output_type="np",
    ).images  # fmt: skip
    expected = ours(model, noise_of(model, 3, 4), STEPS, clip=True)
    torch.testing.assert_close(pixels(made), expected, rtol=0.0, atol=TOLERANCE)


def test_a_network_with_its_source_takes_labels_too(tmp_path: Path) -> None:
    model, result = exported(labelled(), tmp_path)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(result.folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        batch_size=2, class_labels=[3, 7], generator=torch.Generator().manual_seed(4),
        num_inference_steps=STEPS, output_type="np",
    ).images  # fmt: skip
    expected = ours(model, noise_of(model, 2, 4), STEPS, clip=True, labels=[3, 7])
    torch.testing.assert_close(pixels(made), expected, rtol=0.0, atol=TOLERANCE)


def test_other_schedulers_of_diffusers_walk_the_same_model(tmp_path: Path) -> None:
    """DPM-Solver++ in many steps ends where DDIM in many steps ends."""
    model, result = exported(spec(model=DDPM), tmp_path)
    pipeline = diffusers.DDPMPipeline.from_pretrained(result.folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config
    )
    made = pipeline(
        batch_size=2,
        generator=torch.Generator().manual_seed(4),
        num_inference_steps=250,
        output_type="np",
    ).images
    expected = ours(model, noise_of(model, 2, 4), 1000, clip=False)
    # both discretize: 250 steps of second order, 1000 of first
    assert float((pixels(made) - expected).abs().mean()) < 0.02


@pytest.mark.parametrize(
    "schedule",
    [
        {"kind": "linear_beta"},
        {"kind": "cosine", "steps": 50},
        {"kind": "interpolant"},
        {"kind": "ve_sde"},
        {"kind": "karras"},
        {"kind": "log_linear", "log_snr_max": 9.0, "log_snr_min": -9.0},
        {"kind": "respaced", "of": {"kind": "cosine", "steps": 1000}, "rule": "100"},
    ],
)
def test_any_schedule_is_a_table_of_betas(schedule: dict[str, Any]) -> None:
    diffusion = spec(diffusion={"schedule": schedule}).diffusion
    table = Table.of(diffusion)
    scheduler = table.scheduler("epsilon", clip=True)
    alpha_squared = torch.sigmoid(table.log_snr)
    # float32 of numbers below one
    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(), alpha_squared, rtol=1e-4, atol=1e-6
    )
    assert float(scheduler.betas.max()) <= 0.9991
    assert float(scheduler.alphas_cumprod[-1]) > 0.0
    levels = diffusion.schedule.table(len(table))
    # the table is the schedule's, up to the bound on the last beta
    inside = levels > table.log_snr - 1e-9
    assert int(inside.sum()) >= len(table) - 2


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", [{"kind": "linear_beta"}, CONTINUOUS, ZERO_TERMINAL])
def test_the_scheduler_of_labels_is_ddim_with_the_noise_of_what_was_clipped(
    schedule: dict[str, Any], prediction: str
) -> None:
    """Of any network that overshoots, at every step: both schedulers of diffusers, walked side by side."""
    table = Table.of(spec(diffusion={"schedule": schedule}).diffusion)
    one = table.scheduler(prediction, clip=True)
    other = table.scheduler(prediction, clip=True, labels=True)
    one.set_timesteps(STEPS)
    other.set_timesteps(STEPS)
    assert torch.equal(one.timesteps, other.timesteps)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for k in one.timesteps:
        answer = 0.9 * torch.sin(3.0 * x) + 0.3
        step = one.step(answer, k, x, use_clipped_model_output=True).prev_sample
        # float32 levels, two ways around; epsilon at alpha = 1e-4 multiplies rounding
        torch.testing.assert_close(other.step(answer, k, x).prev_sample, step, rtol=0, atol=1e-3)
        x = step


@pytest.mark.parametrize("schedule", [{"kind": "linear_beta"}, {"kind": "cosine", "steps": 1000}])
def test_a_grid_of_ours_visits_the_levels_of_the_pipeline(schedule: dict[str, Any]) -> None:
    table = Table.of(spec(diffusion={"schedule": schedule}).diffusion)
    scheduler = table.scheduler("epsilon", clip=True)
    scheduler.set_timesteps(STEPS)
    of = schedule | {"steps": len(table)}
    grid = Respaced.model_validate({"of": of, "rule": f"trailing{STEPS}"}).grid(STEPS)
    # the last beta is bounded in the table
    torch.testing.assert_close(grid, table.log_snr[scheduler.timesteps], rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("width", [8, 9])
def test_sinusoids_of_another_phase_are_a_rotation(last: bool, width: int) -> None:
    weight = torch.randn(5, width, dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64)
    there = sinusoidal(t + 0.00125, width, last=last) @ weight.T
    here = sinusoidal(t, width, last=last) @ turned(weight, 1.25, last=last).T
    # phases up to a thousand in float64
    torch.testing.assert_close(here, there, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("kind", [UNet, DiT, MLP])
def test_the_source_of_every_network_stands_alone(kind: type) -> None:
    source = source_of(kind)
    assert "trainer" not in source.replace("`trainer.", "")
    compile(source, "network.py", "exec")


# What is refused, and the folder


def test_what_no_pipeline_can_run_is_refused_by_name(tmp_path: Path) -> None:
    points = Trained.load(trained(TrialSpec.model_validate(toy_trial()), tmp_path / "toy"), "cpu")
    with pytest.raises(UserError, match="this model makes points"):
        export(points, tmp_path / "out", Story("x"))
    model = Trained.load(trained(labelled(), tmp_path / "labelled"), "cpu")
    wide = replace(model, codec=replace(model.codec, shape=(1, 8, 16)))
    with pytest.raises(UserError, match="images of 8 x 16 with labels"):
        export(wide, tmp_path / "out", Story("x"))
    bands = replace(model, codec=replace(model.codec, shape=(5, 8, 8)))
    with pytest.raises(UserError, match="this model makes 5 channels that are no colours"):
        export(bands, tmp_path / "out", Story("x"))
    assert not (tmp_path / "out").exists()


def test_only_an_exported_folder_is_replaced(tmp_path: Path) -> None:
    model, result = exported(spec(), tmp_path)
    before = {file.name: file.read_bytes() for file in result.folder.rglob("*") if file.is_file()}
    export(model, result.folder, Story("a model", "0123"))
    after = {file.name: file.read_bytes() for file in result.folder.rglob("*") if file.is_file()}
    assert before == after
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match="holds other files than an exported model"):
        export(model, other, Story("x"))
    assert (other / "model_index.json").read_text() == "{}"


def test_the_card_says_what_the_model_is(tmp_path: Path) -> None:
    model = Trained.load(trained(labelled(model=DDPM), tmp_path / "trial"), "cpu")
    story = Story(
        "under, seed 0", "0123abcd", {"eval/fid": 4.25}, {"eval/fid": "a1b2c3d4e5f6"},
        ("`under` is BETTER than `uniform` in FID.",),
    )  # fmt: skip
    export(model, tmp_path / "out", story)
    text = (tmp_path / "out" / "README.md").read_text()
    for part in (
        "library_name: diffusers", "# under, seed 0", "digits, 1,797 examples", "1 channel of 8 x 8",
        "| eval/fid | 4.25 | a1b2c3d4e5f6 |", "`under` is BETTER than `uniform`", "Trial 0123abcd",
        "class_labels=[0, 1, 0, 1]", '10 is "no label"', "0.096 of 0.096 thousand images",
    ):  # fmt: skip
        assert part in text
    origin = json.loads((tmp_path / "out" / "diffsweep.json").read_text())
    assert TrialSpec.saved(origin["trial"]) == model.trial


def test_why_a_network_is_no_standard_one(tmp_path: Path) -> None:
    model = Trained.load(trained(spec(model=DDPM), tmp_path / "trial"), "cpu")
    for change, reason in (
        ({"embedding": 16}, "model.embedding: 16 exceeds"),
        ({"heads": 2, "attention": [0]}, "model.heads"),
        (
            {"resample": "residual", "attention_after_resample": True},
            "model.attention_after_resample",
        ),
    ):
        other = replace(model, trial=spec(model=DDPM | change))
        assert (obstacle(other) or "").startswith(reason)


THEIRS: dict[str, Any] = {
    "block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "layers_per_block": 1, "norm_num_groups": 4,
    "attention_head_dim": 8,
}  # fmt: skip


@pytest.mark.skipif("diffusers_unet" not in str(AnyModel), reason="there is no such kind here")
@pytest.mark.parametrize("conditioning", ["step", "angle"])
def test_a_network_of_diffusers_leaves_as_it_is(conditioning: str, tmp_path: Path) -> None:
    """Told k it keeps its sinusoids; told anything else they become its table of timesteps."""
    trial = labelled(diffusion={"conditioning": conditioning}).model_dump(mode="json")
    network = {"kind": "diffusers_unet", "config": THEIRS, "classes": 10}
    model, result = exported(TrialSpec.model_validate(trial | {"model": network}), tmp_path)
    assert (result.network, result.own_code) == ("UNet2DModel", None)
    table = Table.of(model.diffusion)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(result.folder)
    kind = "positional" if conditioning == "step" else "learned"
    assert pipeline.unet.config.time_embedding_type == kind
    # one class of module on both sides
    assert largest_gap(model, table, pipeline.unet) < 1e-6

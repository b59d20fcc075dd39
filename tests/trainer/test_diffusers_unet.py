"""Proves that diffusers' UNet2DModel trains here by its own config: same weights, same outputs, errors at its keys."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from pydantic import TypeAdapter, ValidationError

from service.experiment import Experiment
from trainer.data import Digits
from trainer.distributed import World
from trainer.errors import EnvironmentProblem, InputError
from trainer.learner import Learner
from trainer.models import AnyModel, DiffusersUNet
from trainer.training import Training
from trainer.trial import TrialSpec

CONFIG: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}


def spec(**values: Any) -> Any:
    return TypeAdapter(AnyModel).validate_python(
        {"kind": "diffusers_unet", "config": CONFIG, **values}
    )


def trial(**values: Any) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": spec(**values),
            "diffusion": {
                "schedule": {"kind": "linear_beta", "steps": 1000},
                "conditioning": "step",
            },
            "train": {"kimg": 0.02, "batch_size": 10},
            "evaluation": {"features": {"kind": "pixels"}, "full": {"images": 4, "steps": 2}},
        }
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"num_class_embeds": 3},
        {"time_embedding_type": "learned", "num_train_timesteps": 1000},
        {"center_input_sample": True, "resnet_time_scale_shift": "scale_shift", "dropout": 0.1},
    ],
    ids=["plain", "labels", "learned", "others"],
)
def test_is_their_network_with_their_weights(more: dict[str, Any]) -> None:
    """Equal to the last bit at integer timesteps, from equal seeds; "no label" is one row more."""
    torch.manual_seed(4)
    rows = {"num_class_embeds": 4} if "num_class_embeds" in more else {}
    theirs = UNet2DModel(**{**CONFIG, **more, **rows}).eval()  # type: ignore[arg-type]
    torch.manual_seed(4)
    ours = spec(config={**CONFIG, **more}).build((3, 8, 8)).eval()
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    x, steps = torch.randn(2, 3, 8, 8), torch.tensor([3, 700])
    labels = torch.tensor([0, 2]) if rows else None
    expected = theirs(x, steps, labels, return_dict=False)[0]
    assert torch.equal(ours(x, steps / 1000.0, labels), expected)


def test_the_network_is_told_the_integers_that_diffusers_trains_with() -> None:
    told: list[torch.Tensor] = []
    learner = Learner(trial(), (1, 8, 8))
    learner.network.unet.time_proj.register_forward_pre_hook(lambda _, given: told.append(given[0]))  # type: ignore
    learner(torch.zeros(64, 1, 8, 8), torch.arange(64), {})
    steps = torch.cat(told)
    # float32 holds 1000 times (k/1000) to 1e-4 where k < 1000
    torch.testing.assert_close(steps, steps.round(), rtol=0.0, atol=1e-4)
    assert int(steps.round().min()) >= 0
    assert 900 < int(steps.round().max()) <= 999


def test_a_file_or_folder_is_its_content(tmp_path: Path) -> None:
    """So that a trial's key does not change with the place, nor with diffusers' version."""
    UNet2DModel(**{**CONFIG, "num_class_embeds": 3}).save_config(tmp_path / "unet")
    config = json.loads((tmp_path / "unet" / "config.json").read_text())
    assert config["_class_name"] == "UNet2DModel"
    models = [
        spec(config=given)
        for given in (
            config,
            str(tmp_path),
            str(tmp_path / "unet"),
            str(tmp_path / "unet" / "config.json"),
            {**config, "_diffusers_version": "0.1", "sample_size": 64},
        )
    ]
    assert len({model.digest() for model in models}) == 1
    assert models[0].classes == 3
    assert spec(**models[0].model_dump(exclude={"kind"})) == models[0]


def test_trains_with_labels_and_goes_on_from_its_state() -> None:
    spec, digits = trial(classes=10), Digits().load(Path())
    first, second = (Training(spec, digits, World(0, 1)) for _ in range(2))
    first.step()
    second.restore(copy.deepcopy(first.state()))
    first.step()
    second.step()
    weights = [t.learner.network.state_dict() for t in (first, second)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"classes": 5, "config": {"num_class_embeds": 3}}, "num_class_embeds: 3 contradicts"),
        ({"config": {"class_embed_type": "identity"}}, "config.class_embed_type: labels are read"),
        ({"config": {"time_embedding_type": "fourier"}}, "config.time_embedding_type: fourier"),
        ({"config": {"time_embedding_type": "learned"}}, "config.num_train_timesteps: a learned"),
        ({"config": {"_class_name": "VQModel"}}, "config._class_name: VQModel is another network"),
        ({"config": "nowhere"}, "config: no config.json at 'nowhere'"),
        ({"config": 3}, "valid dictionary"),
    ],
)
def test_specs_refuse_what_cannot_be_told(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**model)


def test_files_that_are_no_config_are_refused(tmp_path: Path) -> None:
    for name, content in (("a.json", b"{"), ("b.json", b"[1]"), ("c.json", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValidationError, match=r"config: .*: name a config\.json of diffusers"):
            spec(config=str(tmp_path / name))


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        ({"layer_per_block": 2}, (3, 8, 8), r"layer_per_block: .* mean `layers_per_block`"),
        (
            {"layers_per_block": "many"},
            (3, 8, 8),
            r'config\.layers_per_block: "many": input should',
        ),
        ({"in_channels": 1}, (3, 8, 8), r"config\.in_channels: 1, but .* need 3: leave it out"),
        ({"norm_num_groups": 3}, (3, 8, 8), r"config\.norm_num_groups: UNet2DModel cannot"),
        (
            {"block_out_channels": [-8, 16]},
            (3, 8, 8),
            r"config\.block_out_channels: \[-8, 16\]: must be 1 or more",
        ),
        ({"attention_head_dim": 0}, (3, 8, 8), r"config\.attention_head_dim: 0: must be 1 or more"),
        ({"act_fn": "no"}, (3, 8, 8), r"config\.act_fn: UNet2DModel cannot be built so"),
        ({"down_block_types": ["DownBlock2D"]}, (3, 8, 8), r"config\.down_block_types: "),
        ({"down_block_types": ["DownBlock2D", "No"]}, (3, 8, 8), "No does not exist"),
        ({}, (3, 7, 8), r"images of 7 x 8 .* 2 levels, .* divisible by 2"),
        ({}, (2,), "diffusers_unet needs images"),
    ],
)
def test_build_names_the_key_that_diffusers_refuses(
    config: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        spec(config={**CONFIG, **config}).build(shape)


def test_building_says_how_to_get_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert isinstance(spec(), DiffusersUNet), "a spec is read without it"
    with pytest.raises(EnvironmentProblem, match="pip install diffusers"):
        spec().build((3, 8, 8))


def test_an_error_stands_at_the_line_of_its_key(tmp_path: Path) -> None:
    lines = [
        "name: lines", "seeds: 1", "arms: {one: {}}", "base:", "  data: {kind: digits}",
        "  train: {kimg: 1}", "  evaluation: {features: {kind: pixels}, full: {images: 8, steps: 2}}", "  model:",
        "    kind: diffusers_unet", "    config:", "      block_out_channels: [8]",
        "      down_block_types: [DownBlock2D]", "      up_block_types: [UpBlock2D]", "      norm_num_groups: 3",
    ]  # fmt: skip
    file = tmp_path / "lines.yaml"
    file.write_text("\n".join(lines))
    with pytest.raises(
        InputError, match=r"lines\.yaml:14: base\.model\.config\.norm_num_groups: UNet2D"
    ):
        Experiment.from_yaml(file)
    file.write_text("\n".join([*lines[:-1], "      _class_name: VQModel"]))
    with pytest.raises(
        InputError, match=r"lines\.yaml:14: base\.model\.config\._class_name: VQModel"
    ):
        Experiment.from_yaml(file)


def test_an_experiment_varies_its_keys_and_finds_the_wrong_one() -> None:
    document: dict[str, Any] = {
        "name": "diffusers",
        "base": trial().model_dump(mode="json", exclude={"seed"}),
        "seeds": 1,
        "arms": {"one": {}, "two": {"model.config.layers_per_block": 2}},
    }
    one, two = Experiment.from_mapping(document).cells
    assert (one.trial.model.config["layers_per_block"], two.trial.model.config) == (  # type: ignore[union-attr]
        1,
        {**one.trial.model.config, "layers_per_block": 2},  # type: ignore[union-attr]
    )
    document["arms"]["two"] = {"model.config.layers_per_blok": 2}
    with pytest.raises(
        InputError, match=r"model\.config\.layers_per_blok: .* mean `layers_per_block`"
    ):
        Experiment.from_mapping(document)

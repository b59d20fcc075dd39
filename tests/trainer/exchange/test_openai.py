"""Proves that published weights of improved- and guided-diffusion answer here as they did there, and then sample."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainer.exchange.models import spec
from trainer.errors import UserError
from trainer.exchange.card import Story
from trainer.exchange.incoming import take_in
from trainer.exchange.openai import Order
from trainer.exchange.pipeline import export
from trainer.trained import Trained
from trainer.trial import TrialSpec

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES: dict[str, list[str]] = json.loads((GOLDEN / "openai_names.json").read_text())
ENTRIES: dict[str, dict[str, Any]] = {
    entry["name"]: entry
    for entry in json.loads((GOLDEN / "models.json").read_text())["entries"]
    if entry["feature"] == "unet_forward"
}


def published(name: str) -> dict[str, Tensor]:
    """The weights of a golden entry under their published names, filled by its formula."""
    weights = {}
    for k, text in enumerate(NAMES[name]):
        path, _, size = text.partition(":")
        shape: list[int] = json.loads(size)
        count = torch.Size(shape).numel()
        value = 0.05 * torch.sin(1.0 + 0.37 * torch.arange(count).double() + 0.11 * k)
        is_norm = len(shape) == 1 and path.endswith("weight")
        weights[path] = (value.reshape(shape) + is_norm).float()
    return weights


def trial_of(name: str, **changes: Any) -> TrialSpec:
    flags = ENTRIES[name]["inputs"]["config"]
    width = flags["model_channels"]
    heads = flags.get("num_heads")
    model = {
        "layout": "ddpm",
        "channels": [width * factor for factor in flags["channel_mult"]],
        "blocks": flags["num_res_blocks"],
        "attention": [{1: 0, 2: 1}[factor] for factor in flags["attention_resolutions"]],
        **({"heads": heads} if heads else {"head_width": flags["num_head_channels"]}),
        "groups": 32,
        "scale_shift": True,
        "resample": "residual" if flags.get("resblock_updown") else "conv",
        "embedding": width,
        "embedding_multiplier": 4,
    }
    diffusion = {
        "schedule": {"kind": "linear_beta", "steps": 1000},
        "objective": {"kind": "hybrid", "variance": "learned_range"},
        "conditioning": "time",
    }
    data = {"kind": "image_folder", "path": "nowhere", "size": 8}
    whole = {"model": {"kind": "unet"} | model, "diffusion": diffusion, "data": data}
    return TrialSpec.model_validate(spec().model_dump(mode="json") | whole | changes)


def order_of(name: str) -> Order:
    new = ENTRIES[name]["inputs"]["config"].get("use_new_attention_order")
    return "qkv_first" if new else "heads_first"


@pytest.mark.parametrize("name", ENTRIES)
def test_published_weights_answer_as_they_did(name: str, tmp_path: Path) -> None:
    torch.save(published(name), tmp_path / "ema_0.9999_500000.pt")
    notes = take_in(
        tmp_path / "ema_0.9999_500000.pt", trial_of(name), tmp_path / "model", order=order_of(name)
    )
    assert ["the data is not here" in note for note in notes] == [True]
    model = Trained.load(tmp_path / "model", "cpu")
    entry = ENTRIES[name]
    x = torch.tensor(entry["inputs"]["x"], dtype=torch.float64)
    k = torch.tensor(entry["inputs"]["timesteps"], dtype=torch.float64)
    levels = model.diffusion.schedule.log_snr((k + 1.0) / 1000.0)
    network = model.network.double()
    answer = network(x, model.diffusion.condition(levels))
    expected = torch.tensor(entry["outputs"]["output"], dtype=torch.float64)
    # their sinusoids, and the turned layer, are rounded to float32
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


def test_it_samples_and_leaves_again(tmp_path: Path) -> None:
    name = "unet_forward/32_2_1_2"
    torch.save(published(name), tmp_path / "w.pt")
    take_in(tmp_path / "w.pt", trial_of(name), tmp_path / "model")
    model = Trained.load(tmp_path / "model", "cpu")
    assert model.codec.levels == 255
    assert model.sample(2).shape == (2, 3, 8, 8)
    assert export(model, tmp_path / "out", Story("imported")).own_code is None


def test_labels_get_a_silent_row_for_none(tmp_path: Path) -> None:
    name = "unet_forward/32_2_1_2"
    trial = trial_of(name).model_dump(mode="json")
    trial["model"]["classes"] = 5
    weights = published(name) | {"label_emb.weight": torch.randn(5, 128)}
    torch.save(weights, tmp_path / "w.pt")
    take_in(tmp_path / "w.pt", TrialSpec.model_validate(trial), tmp_path / "model")
    model = Trained.load(tmp_path / "model", "cpu")
    rows = model.network.state_dict()["embed.labels.weight"]
    assert torch.equal(rows[:5], weights["label_emb.weight"])
    assert not rows[5].any()
    assert model.codec.label_names == ("0", "1", "2", "3", "4")
    assert model.sample(2, labels=4).shape == (2, 3, 8, 8)


def test_weights_of_another_network_are_told_apart(tmp_path: Path) -> None:
    name = "unet_forward/32_2_1_2"
    weights = published(name)
    lacking = {key: value for key, value in weights.items() if not key.startswith("out.2")}
    wide = weights | {"out.0.weight": torch.zeros(64)}
    more = weights | {"low_res.0.weight": torch.zeros(1)}
    for given, message in (
        (lacking, r"they lack `out\.2\.weight`, `out\.2\.bias`; look at"),
        (wide, r"`out\.0\.weight` is 64, the model of the YAML has 32 there"),
        (more, r"have besides `low_res\.0\.weight`"),
    ):
        torch.save(given, tmp_path / "w.pt")
        with pytest.raises(UserError, match=message):
            take_in(tmp_path / "w.pt", trial_of(name), tmp_path / "model")
        assert not (tmp_path / "model").exists()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    trial = trial_of("unet_forward/32_2_1_2")
    (tmp_path / "text.pt").write_text("dear")
    torch.save({"a": Path("x")}, tmp_path / "code.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("dear")
    for file, folder, message in (
        ("nowhere.pt", "m", "is not there"),
        ("text.pt", "m", "is no file of plain tensors"),
        ("code.pt", "m", "is no file of plain tensors"),
        ("list.pt", "m", "holds no tensors by name"),
        ("list.pt", "full", "is not empty"),
    ):
        with pytest.raises(UserError, match=message):
            take_in(tmp_path / file, trial, tmp_path / folder)


def test_what_the_network_was_told_must_be_said(tmp_path: Path) -> None:
    name = "unet_forward/32_2_1_2"
    torch.save(published(name), tmp_path / "w.pt")
    trial = trial_of(name).model_dump(mode="json")
    trial["diffusion"]["conditioning"] = "angle"
    with pytest.raises(UserError, match="conditioning: angle is not what"):
        take_in(tmp_path / "w.pt", TrialSpec.model_validate(trial), tmp_path / "model")
    compact = spec()
    with pytest.raises(UserError, match="layout ddpm"):
        take_in(tmp_path / "w.pt", compact, tmp_path / "model")

"""Proves that what a network is told beside its noise level is bound outside the core, in training and in samples."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.data import Batches, Codec, Digits, Resident
from trainer.distributed import World
from trainer.errors import UserError
from trainer.inputs import Batch, Labels, bound, together
from trainer.inputs.mirrored import Mirrored
from trainer.learner import build_network
from trainer.loop import train
from trainer.record import Record
from trainer.training import Training
from trainer.trial import TrialSpec

IMAGES = Resident.of(
    torch.arange(60 * 16).reshape(60, 1, 4, 4).to(torch.uint8),
    torch.arange(60) % 3,
    levels=255,
    flip=True,
)

FLIPPED = {"kind": "image_folder", "path": "not read", "size": 8, "grayscale": True}


def batch(count: int = 40, first: int = 0) -> Batch:
    batches = Batches(IMAGES, seed=0)
    return Batch.of(batches, batches.draw(first, count), seed=0)


def trial(model: dict[str, Any], **values: Any) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": model,
            "train": {"kimg": 0.04, "batch_size": 20},
            "evaluation": {
                "features": {"kind": "pixels"},
                "full": {"images": 4, "steps": 2},
            },
            **values,
        }
    )


def test_the_core_calls_a_bound_network_with_two_arguments() -> None:
    """Labels and vectors go along by name, planes are stacked on x."""
    calls: list[Any] = []

    def network(*arguments: Tensor, **rest: Tensor) -> Tensor:
        calls.append((arguments, rest))
        return arguments[0]

    x, condition, labels = torch.ones(2, 3, 4, 4), torch.zeros(2), torch.tensor([1, 2])
    parts = [
        {"labels": labels, "vector": torch.ones(2, 1), "planes": torch.zeros(2, 1, 4, 4)},
        {"vector": torch.zeros(2, 2), "planes": torch.zeros(2, 2, 4, 4)},
    ]
    bound(network, together(parts))(x, condition)
    (seen, told), rest = calls[0]
    assert seen.shape == (2, 6, 4, 4)
    assert torch.equal(seen[:, :3], x)
    assert told is condition
    assert rest["labels"] is labels
    assert rest["vector"].tolist() == [[1.0, 0.0, 0.0]] * 2
    assert bound(network, {}) is network


def test_labels_are_those_of_the_examples_hidden_at_the_stated_rate() -> None:
    seen = batch(count=3000)
    rows = Batches(IMAGES, seed=0).rows(0, 3000)
    plain = Labels(classes=3).trained(seen)["labels"]
    assert torch.equal(plain, IMAGES.labels_of(rows))
    dropped = Labels(classes=3, rate=0.2).trained(seen)["labels"]
    hidden = dropped == 3
    assert torch.equal(dropped[~hidden], plain[~hidden])
    # standard error of a share at 3000 draws is 0.0073
    assert float(hidden.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert Labels(classes=3).hidden({"labels": plain})["labels"].unique().tolist() == [3]


def test_samples_have_labels_as_often_as_the_data_and_the_same_for_every_trial() -> None:
    codec = Codec((1,), None, ("a", "b", "c"), (100, 0, 300))
    drawn = Labels(classes=5).generated(codec, torch.arange(4000), 7)["labels"]
    assert torch.equal(drawn, Labels(classes=3).generated(codec, torch.arange(4000), 7)["labels"])
    counts = torch.bincount(drawn, minlength=3) / 4000
    # standard error of a share at 4000 draws is 0.0068
    assert counts.tolist() == pytest.approx([0.25, 0.0, 0.75], abs=0.028)


def test_a_network_is_told_which_images_are_mirrored() -> None:
    seen = batch()
    vector = Mirrored().trained(seen)["vector"]
    rows = Batches(IMAGES, seed=0).rows(0, 40)
    plain = IMAGES.codec.scale(IMAGES.read(rows))
    for x, flipped, original in zip(seen.x0, vector[:, 0], plain, strict=True):
        assert torch.equal(x, original.flip(-1) if flipped else original)
    assert 5 < int(vector.sum()) < 35
    told = Mirrored().generated(IMAGES.codec, torch.arange(3), 0)
    assert told["vector"].tolist() == [[0.0]] * 3
    assert Mirrored().hidden(told) is told


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "unet", "channels": [8], "groups": 4},
        {"kind": "unet", "channels": [8], "groups": 4, "layout": "ddpm", "attention": []},
        {"kind": "dit", "patch": 2, "width": 16, "depth": 1, "heads": 2},
        {"kind": "mlp", "width": 16},
        {"kind": "unet", "channels": [8], "groups": 4, "fourier": 1.0},
        {
            "kind": "diffusers_unet",
            "config": {
                "block_out_channels": [8],
                "norm_num_groups": 4,
                "down_block_types": ["DownBlock2D"],
                "up_block_types": ["UpBlock2D"],
            },
        },
    ],
    ids=["compact", "ddpm", "dit", "mlp", "fourier", "diffusers"],
)
def test_an_input_is_silent_at_first_and_is_learned(model: dict[str, Any]) -> None:
    """Cells with and without it share their initial weights, and then it moves."""
    plain, more = (trial(model, data=FLIPPED, inputs=told) for told in ([], [{"kind": "mirrored"}]))
    without, told = (build_network(spec, (1, 8, 8)).state_dict() for spec in (plain, more))
    added = sorted(set(told) - set(without))
    assert len(added) == 1
    assert not told[added[0]].any()
    assert all(torch.equal(told[name], value) for name, value in without.items())
    digits = Digits().load(Path())
    flipping = Resident.of(
        digits.read(torch.arange(40)), torch.arange(40) % 10, levels=16, flip=True
    )
    training = Training(more, flipping, World(0, 1))
    for _ in range(2):  # the zero output layer passes no gradient at the first step
        training.step()
    training.step()
    assert training.learner.network.state_dict()[added[0]].any()


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "unet", "channels": [8], "groups": 4, "fourier": 1.0},
        {"kind": "unet", "channels": [8, 8], "groups": 4, "layout": "ddpm", "patch": 2},
        {"kind": "dit", "patch": 2, "width": 16, "depth": 1, "heads": 2},
        {"kind": "mlp", "width": 16},
    ],
    ids=["compact", "ddpm", "dit", "mlp"],
)
def test_planes_are_silent_at_first_and_are_learned(model: dict[str, Any]) -> None:
    """The first layer has weights for them, and they are zero."""
    shown = [{"kind": "super_resolution", "factor": 2, "noise": 0.5}]
    plain, more = (trial(model, inputs=told) for told in ([], shown))
    without, told = (build_network(spec, (1, 8, 8)).eval() for spec in (plain, more))
    for network in (without, told):  # the last layer is zero, too
        network.outward.weight.data.fill_(0.1)  # type: ignore[union-attr, operator]
    x, planes, condition = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8), torch.rand(2)
    expected = without(x, condition)
    torch.testing.assert_close(told(torch.cat([x, planes], 1), condition), expected)
    training = Training(more, Digits().load(Path()), World(0, 1))
    for _ in range(3):
        training.step()
    assert training.learner.network.inward.weight[:, -1].any()  # type: ignore[union-attr, index]


TOLD: list[dict[str, Any]] = [
    {"kind": "augmented", "probability": 0.5},
    {"kind": "super_resolution", "factor": 2, "noise": 0.5, "sampling_noise": 0.1},
]


def conditioned(**model: Any) -> TrialSpec:
    spec = trial(
        {"kind": "unet", "channels": [8], "groups": 4, "classes": 10, **model},
        inputs=TOLD,
        train={"kimg": 0.16, "batch_size": 20, "label_dropout": 0.2},
    )
    evaluation = spec.evaluation.model_copy(update={"every_kimg": 0.04})
    return spec.model_copy(update={"evaluation": evaluation})


def test_stopped_and_continued_is_uninterrupted(tmp_path: Path) -> None:
    """To the last bit, whatever the network is told."""
    spec = conditioned()
    whole = list(train(spec, tmp_path / "whole", cache=tmp_path / "c", device="cpu"))
    parts = [
        report
        for images in (40, 80, None)
        for report in train(
            spec, tmp_path / "parts", cache=tmp_path / "c", device="cpu", until_images=images
        )
    ]
    assert [report.images for report in parts] == [report.images for report in whole]
    for one, other in zip(whole, parts, strict=True):
        assert one.series == other.series
        assert one.metrics["eval/fid"] == other.metrics["eval/fid"]


@pytest.mark.slow
def test_two_workers_see_and_are_told_the_same(tmp_path: Path) -> None:
    """`torchrun -m trainer` on two gloo workers agrees with one process to float32 reduction order."""
    spec = conditioned()
    file = tmp_path / "trial.yaml"
    file.write_text(json.dumps(spec.model_dump(mode="json")))
    alone = list(train(spec, tmp_path / "alone", cache=tmp_path / "c", device="cpu"))
    subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer",
            str(file), "--out", str(tmp_path / "two"), "--cache", str(tmp_path / "c"), "--device", "cpu",
        ],
        check=True, timeout=240, capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PET_LOG_DIR": str(tmp_path / "logs")},
    )  # fmt: skip
    for a, b in zip(alone, Record(tmp_path / "two").reports(), strict=True):
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=1e-4)
        assert a.metrics["eval/fid"] == pytest.approx(b.metrics["eval/fid"], rel=2e-3)


def test_labels_that_the_data_never_shows_are_remarked() -> None:
    source = trial({"kind": "mlp"}).data.load(Path())
    assert Labels(classes=10).remarks(source) == []
    (line,) = Labels(classes=12).remarks(source)
    assert line.startswith(
        "model.classes: 12, but the data never shows the labels 10, 11: what the network knows of them stays as it "
        "began; set it to 10"
    )
    gap = Resident.of(torch.zeros(2, 1), torch.tensor([0, 2]), levels=None)
    (line,) = Labels(classes=3).remarks(gap)
    assert "never shows the label 1: what the network knows of it" in line
    assert line.endswith("number the labels without gaps")


def test_an_input_is_there_once(toy: dict[str, Any]) -> None:
    warps = [{"kind": "augmented"}, {"kind": "augmented"}]
    with pytest.raises(ValidationError, match="augmented is there twice"):
        TrialSpec.model_validate({**toy, "inputs": warps})


def test_a_training_says_so_in_its_first_report(tmp_path: Path) -> None:
    spec = trial({"kind": "mlp", "classes": 11})
    first, *rest = train(spec, tmp_path / "t", cache=tmp_path / "c", device="cpu")
    assert [line.split(",")[0] for line in first.notes] == ["model.classes: 11"]
    assert not any(report.notes for report in rest)


def test_what_the_data_cannot_give_is_refused() -> None:
    spec = trial({"kind": "mlp"}, data=FLIPPED, inputs=[{"kind": "mirrored"}])
    never = r"inputs: mirrored .* never flipped: set data\.flip: true"
    with pytest.raises(UserError, match=never):
        Training(spec, Digits().load(Path()), World(0, 1))
    for data in ({"kind": "digits"}, {"kind": "gaussians"}, {**FLIPPED, "flip": False}):
        with pytest.raises(ValidationError, match=never):
            trial({"kind": "mlp"}, data=data, inputs=[{"kind": "mirrored"}])
    few = trial({"kind": "mlp", "classes": 3})
    with pytest.raises(UserError, match="3 is too few, the data has 10 classes"):
        Training(few, few.data.load(Path()), World(0, 1))
    unlabelled = copy.copy(IMAGES.codec)
    assert unlabelled.classes == 3
    with pytest.raises(UserError, match="the data has no labels"):
        Labels(classes=3).check(Resident.of(torch.zeros(4, 2), levels=None))

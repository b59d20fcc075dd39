"""Proves of every kind of data set: it trains, evaluates, survives kill -9 to the bit, and is the same for 1, 2 and 4.

A new kind is one function and one line in KINDS. Each is streamed where it can be, and compared with being resident.
"""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainer.data import published
from tests.trainer.data.published import Patch, mnist, pixels
from tests.trainer.gloo import met
from trainer.data.stored import VARIABLE
from trainer.loop import train
from trainer.record import Record
from trainer.report import Report
from trainer.step import Step
from trainer.trial import TrialSpec

STEPS, BATCH = 50, 8
TIMINGS = ("sys/img_per_s", "sys/eval_s")
FORK = multiprocessing.get_context("fork")


def image_folder(place: Path, _: Patch) -> dict[str, Any]:
    """Thirteen photographs in two classes: an epoch is no whole number of batches."""
    for i in range(13):
        file = place / ("cat" if i % 3 else "dog") / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return {"kind": "image_folder", "path": str(place), "size": 8}


def rectangles(place: Path, patch: Patch) -> dict[str, Any]:
    """The same, not square."""
    return {**image_folder(place, patch), "size": [4, 8], "grayscale": True, "flip": False}


def transparent(place: Path, _: Patch) -> dict[str, Any]:
    """Eleven pictures with transparency, which is kept: four channels."""
    place.mkdir(exist_ok=True)
    for i in range(11):
        Image.fromarray(pixels(i, 9, 9, 4)).save(place / f"{i % 2}_{i}.png")
    return {
        "kind": "image_folder",
        "path": str(place),
        "size": 8,
        "labels": "prefix",
        "alpha": True,
    }


def npz(place: Path, _: Patch) -> dict[str, Any]:
    """As guided-diffusion writes them, not all of the size that is asked for."""
    place.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (21, 10, 8, 3), dtype=np.uint8)
    np.savez(place / "a.npz", arr_0=images, arr_1=np.arange(21) % 3)
    return {"kind": "npz", "path": str(place / "a.npz"), "size": 8}


def torchvision(place: Path, _: Patch) -> dict[str, Any]:
    """MNIST's files, with 25 pictures."""
    mnist(place)
    return {"kind": "torchvision", "name": "MNIST", "root": str(place), "pad": 2, "size": 8}


def celeba(place: Path, patch: Patch) -> dict[str, Any]:
    """CelebA's files, with 11 pictures to train on, and tags; torchvision checks them by the sums of these files.

    The processes that are killed are forks: they look the sums up where this one has put them.
    """
    published.celeba(place, patch, count=33)
    crop = [40, 15, 148, 148]
    return {"kind": "torchvision", "name": "CelebA", "root": str(place), "crop": crop, "size": 8}


def huggingface(place: Path, _: Patch) -> dict[str, Any]:
    """A parquet file of twelve pictures, classes as text, one row without an image."""
    datasets = pytest.importorskip("datasets")
    images = [Image.fromarray(pixels(i, 9, 9, 3)) for i in range(12)]
    columns = {"image": [*images, None], "label": [f"class {i % 3}" for i in range(13)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    place.mkdir(exist_ok=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(place / "x.parquet")
    return {"kind": "huggingface", "path": str(place / "x.parquet"), "size": 8, "damaged": "skip"}


def digits(_: Path, __: Patch) -> dict[str, Any]:
    """Shipped."""
    return {"kind": "digits"}


def gaussians(_: Path, __: Patch) -> dict[str, Any]:
    """Points."""
    return {"kind": "gaussians", "examples": 100}


KINDS: dict[str, Callable[[Path, Patch], dict[str, Any]]] = {
    "image_folder": image_folder,
    "rectangles": rectangles,
    "transparent": transparent,
    "npz": npz,
    "torchvision": torchvision,
    "celeba": celeba,
    "huggingface": huggingface,
    "digits": digits,
    "gaussians": gaussians,
}
EACH = [
    pytest.param(kind, id=kind, marks=[] if kind == "gaussians" else pytest.mark.slow)
    for kind in KINDS
]
CLASSES: dict[str, int | None] = {
    "image_folder": 2, "rectangles": 2, "npz": 3, "torchvision": 10, "huggingface": 3, "digits": 10, "gaussians": 8,
    "celeba": None, "transparent": 2,
}  # fmt: skip


def trial(kind: str, place: Path, patch: Patch) -> TrialSpec:
    """Conditioned on labels, or on tags where those are what the data has."""
    points, tagged = kind == "gaussians", CLASSES[kind] is None
    unet = {"kind": "unet", "channels": [8], "blocks": 1, "attention": [], "groups": 4}
    return TrialSpec.model_validate(
        {
            "data": KINDS[kind](place, patch),
            "model": {**({"kind": "mlp", "width": 16, "depth": 1} if points else unet), "classes": CLASSES[kind]},
            "inputs": [{"kind": "tags", "count": 40, "dropout": 0.1}] if tagged else [],
            "train": {
                "kimg": STEPS * BATCH / 1000, "batch_size": BATCH, "microbatch": 3,
                "label_dropout": 0.0 if tagged else 0.1, "log_every_kimg": 0.08,
            },
            "evaluation": {
                "evaluations": 2, "features": {"kind": "pixels"}, "full": {"images": 16, "steps": 2}, "draws": 1,
            },
            "seed": 3,
        }
    )  # fmt: skip


def run(spec: TrialSpec, directory: Path) -> list[Report]:
    """A checkpoint at every point of the loss curve."""
    cache = directory.parent / "cache"
    return list(train(spec, directory, cache=cache, device="cpu", checkpoint_every_s=0.0))


def numbers(directory: Path) -> list[Any]:
    """Everything but the clock."""
    return [
        (r.images, {k: v for k, v in r.metrics.items() if k not in TIMINGS}, r.series, r.draws)
        for r in Record(directory).reports()
    ]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    state, _ = Record(directory).newest_state(torch.device("cpu"))
    assert state is not None
    return {**state["learner"], **{f"ema.{k}": v for k, v in state["average"].items()}}


def _killed(spec: TrialSpec, directory: Path, step: int) -> None:
    """In a process of its own: SIGKILL in the middle of a step."""
    torch.set_num_threads(1)
    accumulate, count = Step._accumulate, 0

    def counted(self: Step, *where: Any, **options: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 3 * step - 1:  # the second of three slices
            os.kill(os.getpid(), signal.SIGKILL)
        return accumulate(self, *where, **options)

    Step._accumulate = counted  # type: ignore[method-assign]
    run(spec, directory)


@pytest.mark.parametrize("kind", EACH)
def test_five_kills_change_no_bit(kind: str, tmp_path: Path, monkeypatch: Patch) -> None:
    """Killed while it streams, at five random steps counted from where it went on; compared with a resident run."""
    spec = trial(kind, tmp_path / "images", monkeypatch)
    monkeypatch.setenv(VARIABLE, "always")
    run(spec, tmp_path / "whole")
    monkeypatch.setenv(VARIABLE, "never")
    steps = random.Random(kind)
    for _ in range(5):
        process = FORK.Process(target=_killed, args=(spec, tmp_path / "cut", steps.randint(4, 16)))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    run(spec, tmp_path / "cut")
    assert numbers(tmp_path / "cut") == numbers(tmp_path / "whole")
    cut = weights(tmp_path / "cut")
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, cut[name]), name


def _worker(spec: TrialSpec, directory: Path, rank: int, size: int) -> None:
    with met(directory, rank, size):
        run(spec, directory)


@pytest.mark.parametrize("kind", EACH)
def test_one_two_and_four_workers_agree(kind: str, tmp_path: Path, monkeypatch: Patch) -> None:
    """Float32 sums in another order over 50 AdamW steps, streamed: some 1e-6 a step at these sizes."""
    monkeypatch.setenv(VARIABLE, "never")
    spec = trial(kind, tmp_path / "images", monkeypatch)
    run(spec, tmp_path / "1")
    alone = numbers(tmp_path / "1")
    for size in (2, 4):
        workers = [
            FORK.Process(target=_worker, args=(spec, tmp_path / str(size), rank, size))
            for rank in range(size)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert [worker.exitcode for worker in workers] == [0] * size
        many = numbers(tmp_path / str(size))
        assert [report[0] for report in many] == [report[0] for report in alone]
        for one, other in zip(alone, many, strict=True):
            assert other[1]["train/loss"] == pytest.approx(one[1]["train/loss"], rel=1e-3)
            assert other[1]["eval/fid"] == pytest.approx(one[1]["eval/fid"], rel=1e-2)

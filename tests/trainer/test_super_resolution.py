"""Proves that a network enlarges what it is shown: planes, noise and its level, samples for rows, data or not."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.data import Batches, Codec, Digits, Resident
from trainer.distributed import World
from trainer.errors import DataError, UserError
from trainer.evaluation.generation import Generation, generate
from trainer.inputs import Batch
from trainer.inputs.super_resolution import SuperResolution, larger, smaller, waves
from trainer.loop import train
from trainer.trained import Trained
from trainer.training import Training
from trainer.trial import TrialSpec

IMAGES = torch.randint(0, 256, (90, 3, 4, 8), generator=torch.Generator().manual_seed(0)).byte()
DATA = Resident.of(IMAGES, levels=255)


def batch(first: int, count: int) -> Batch:
    batches = Batches(DATA, seed=1)
    return Batch.of(batches, batches.draw(first, count), seed=1)


def trial(kimg: float = 0.04, images: int = 70, **values: Any) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits"},
            "model": {"kind": "unet", "channels": [16], "groups": 4},
            "inputs": [{"kind": "super_resolution", "factor": 2, **values}],
            "diffusion": {"prediction": {"kind": "velocity"}},
            "optimizer": {"kind": "adamw", "lr": 2e-3},
            "train": {"kimg": kimg, "batch_size": 40},
            "evaluation": {
                "features": {"kind": "pixels"},
                "full": {"images": images, "steps": 2},
            },
        }
    )


def test_the_network_sees_the_example_made_small_and_large_again() -> None:
    """Means of areas, then bilinear, as improved-diffusion's super_res_train.py."""
    seen = batch(0, 5)
    (planes,) = SuperResolution(factor=2).trained(seen).values()
    means = seen.x0.reshape(5, 3, 2, 2, 4, 2).mean((3, 5))
    assert planes.shape == seen.x0.shape
    torch.testing.assert_close(planes[..., 0, 0], means[..., 0, 0])  # a corner repeats
    torch.testing.assert_close(planes[..., 0, 1], 0.75 * means[..., 0, 0] + 0.25 * means[..., 0, 1])


def test_noise_is_of_the_level_that_is_told() -> None:
    spec, seen = SuperResolution(factor=2, noise=0.6, sampling_noise=0.3), batch(0, 80)
    told = spec.trained(seen)
    assert told["vector"].shape == (80, spec.vector())
    level = torch.atan2(told["vector"][:, 4], told["vector"][:, 0] + 1.0) / math.pi
    assert 0.0 < float(level.min()) < 0.05
    assert 0.55 < float(level.max()) < 0.6
    torch.testing.assert_close(waves(level), told["vector"], rtol=0.0, atol=1e-5)
    angle = (0.5 * math.pi * level)[:, None, None, None]
    eps = (told["planes"] - angle.cos() * larger(smaller(seen.x0, 2), 2)) / angle.sin()
    # what is left is enlarged unit noise, whose corners are the noise itself
    corner = eps[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    # standard error of a standard deviation over 960 numbers: 0.023
    assert float(corner.std()) == pytest.approx(1.0, abs=0.09)
    parts = [spec.trained(batch(first, 16)) for first in range(0, 80, 16)]
    assert torch.equal(torch.cat([part["planes"] for part in parts]), told["planes"])
    fixed = spec.live(DATA).generated(DATA.codec, torch.arange(7), 5)["vector"]
    assert torch.equal(fixed, waves(torch.full((7,), 0.3)))


def test_samples_are_made_for_rows_in_a_circle() -> None:
    spec = SuperResolution(factor=2).live(DATA)
    planes = spec.generated(DATA.codec, torch.tensor([3, 93]), 0)["planes"]
    x0 = DATA.codec.scale(IMAGES[3:4])
    assert torch.equal(planes, larger(smaller(x0, 2), 2).expand(2, -1, -1, -1))
    with pytest.raises(DataError, match="neither the data set nor a file"):
        SuperResolution().generated(DATA.codec, torch.arange(2), 0)


def test_or_for_the_images_of_a_file(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (4, 2, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "base.npz", small)
    np.save(tmp_path / "base.npy", small)
    x = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    for name in ("base.npz", "base.npy"):
        spec = SuperResolution(factor=2).of_file(tmp_path / name, DATA.codec)
        planes = spec.generated(DATA.codec, torch.tensor([1, 7]), 0)["planes"]
        assert torch.equal(planes, larger(x[[1, 3]], 2))
    np.save(tmp_path / "wrong.npy", small.astype(np.float32))
    np.savez(tmp_path / "other.npz", other=small)
    (tmp_path / "text.npy").write_text("no array")
    for name, why in (
        ("wrong", "float32"),
        ("other.npz", "arr_0"),
        ("text", "no array"),
        ("x", "x.npy"),
    ):
        path = tmp_path / (name if "." in name else f"{name}.npy")
        with pytest.raises(DataError, match=why):
            SuperResolution(factor=2).of_file(path, DATA.codec)


def test_a_trained_model_keeps_the_first_examples(tmp_path: Path) -> None:
    """Its samples are those of the evaluation, without the data; beyond what is kept it says so."""
    spec = trial(noise=0.4, sampling_noise=0.1)
    *_, last = train(spec, tmp_path / "t", cache=tmp_path / "c", device="cpu")
    assert last.done
    model = Trained.load(tmp_path / "t", "cpu")
    source = Digits().load(Path())
    inputs = spec.live(source).network_inputs()
    generation = spec.evaluation.full
    expected = generate(
        model.network, model.diffusion, source.codec, generation, range(60, 64), 0, inputs
    )
    assert torch.equal(model.generate(index=range(60, 64), seed=0), expected)
    with pytest.raises(DataError, match="keeps the first 64 of them: ask for samples 0 to 63"):
        model.generate(index=range(63, 65))
    base = np.zeros((2, 4, 4, 1), np.uint8)
    base[1] = 255
    np.savez(tmp_path / "base.npz", base)
    other = model.enlarging(tmp_path / "base.npz")
    samples = other.generate(index=range(1797, 1801), seed=0)
    assert samples.shape == (4, 1, 8, 8)
    told = [one.generated(source.codec, torch.arange(3), 0) for one in other.trial.inputs]
    assert told[0]["planes"].shape == (3, 1, 8, 8)


def test_a_model_that_does_not_enlarge_takes_no_file(tmp_path: Path) -> None:
    spec = trial().model_copy(update={"inputs": ()})
    list(train(spec, tmp_path / "t", cache=tmp_path / "c", device="cpu"))
    with pytest.raises(UserError, match="this model enlarges nothing"):
        Trained.load(tmp_path / "t", "cpu").enlarging(tmp_path / "x.npz")


def test_what_cannot_be_enlarged_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"factor: 3 does not divide images of 8 x 8"):
        trial(factor=3)
    with pytest.raises(UserError, match=r"enlarges images, and the data has shape \(2,\)"):
        SuperResolution().check(Resident.of(torch.zeros(4, 2), levels=None))
    with pytest.raises(ValidationError, match=r"sampling_noise: 0\.2 is more than"):
        SuperResolution(sampling_noise=0.2, noise=0.1)
    assert Codec((3, 4, 8), 255) == DATA.codec


@pytest.mark.slow
def test_it_learns_to_do_better_than_bilinear() -> None:
    """Digits of 4 x 4 to 8 x 8: the mean of two samples is nearer to the truth than what the network was shown."""
    spec = trial(kimg=20)
    training = Training(spec, Digits().load(Path()), World(0, 1))
    source = training.source
    x0 = source.codec.scale(source.read(torch.arange(100)))
    generation = Generation.model_validate({"images": 100, "steps": 6})

    def error() -> float:
        samples: list[Tensor] = [
            generate(
                training.average.network, training.diffusion, source.codec, generation, range(100),
                noise, training.inputs,
            )
            for noise in (0, 1)
        ]  # fmt: skip
        return float((sum(samples) / 2.0 - x0).square().mean())

    bilinear = float((larger(smaller(x0, 2), 2) - x0).square().mean())
    before = error()
    for _ in range(250):
        training.step()
    assert error() < 0.85 * bilinear < before

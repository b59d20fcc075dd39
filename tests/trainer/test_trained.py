"""Proves that a trained model needs nothing of its data set to generate and to be measured."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.errors import CheckpointError, DataError
from trainer.evaluation.generation import Generation
from trainer.loop import train
from trainer.record import Record
from trainer.trained import Trained
from trainer.trial import TrialSpec

ALONE = """
import json, sys
from pathlib import Path
from trainer.trained import Trained
trained = Trained.load(Path(sys.argv[1]), device="cpu")
samples = trained.generate(index=range(6))
measured = trained.measure(Path(sys.argv[2]))
print(json.dumps([list(samples.shape), measured.metrics, measured.protocol, trained.codec.label_names]))
"""


def photographs(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for i in range(24):
        target = folder / ("cat" if i % 3 else "dog") / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(target)


def trial(folder: Path) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "data": {"kind": "image_folder", "path": str(folder), "size": 8},
            "model": {"kind": "unet", "channels": [8, 8], "groups": 4, "classes": 2},
            "inputs": [{"kind": "mirrored"}],
            "diffusion": {"schedule": {"kind": "learned"}, "objective": {"kind": "vlb"}},
            "train": {"kimg": 0.128, "batch_size": 32},
            "evaluation": {
                "evaluations": 2,
                "features": {"kind": "pixels"},
                "metrics": ["fid", "kid", "precision", {"kind": "fid", "features": {"kind": "classifier", "steps": 5}}],
                "full": {"images": 32, "steps": 3, "grid": None},
            },
        }
    )  # fmt: skip


@pytest.mark.slow
def test_it_generates_and_measures_in_a_process_where_the_data_is_absent(tmp_path: Path) -> None:
    photographs(tmp_path / "photos")
    spec = trial(tmp_path / "photos")
    reports = list(train(spec, tmp_path / "trial", cache=tmp_path / "cache", device="cpu"))
    samples = Trained.load(Record(tmp_path / "trial"), "cpu").generate(index=range(6))
    shutil.rmtree(tmp_path / "photos")
    finished = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "trial"), str(tmp_path / "cache")],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    shape, metrics, protocol, names = json.loads(finished.stdout.splitlines()[-1])
    assert shape == [6, 3, 8, 8]
    assert list(samples.shape) == shape
    assert names == ["cat", "dog"]
    assert set(metrics) == {"eval/fid", "eval/kid", "eval/precision", "eval/fid-classifier"}
    assert metrics == {name: reports[-1].metrics[name] for name in metrics}
    result = Record(tmp_path / "trial").result()
    assert result is not None
    assert protocol == result.protocol
    assert len(set(protocol.values())) == 4, "one protocol per metric"
    # without the cache there is nothing to compare with
    with pytest.raises(DataError, match="copy the cache"):
        Trained.load(tmp_path / "trial", "cpu").measure(tmp_path / "other cache")


def test_samples_are_those_of_the_evaluation(toy: dict[str, Any], tmp_path: Path) -> None:
    """In any number, by any generation."""
    spec = TrialSpec.model_validate(toy)
    list(train(spec, tmp_path / "trial", cache=tmp_path / "cache", device="cpu"))
    trained = Trained.load(tmp_path / "trial", "cpu")
    assert trained.images == spec.total_images()
    assert trained.generate().shape == (256, 2)
    few = trained.generate(index=range(10, 14))
    torch.testing.assert_close(trained.generate(index=range(14))[10:], few, rtol=1e-5, atol=1e-5)
    ddim = Generation.model_validate({"images": 4, "steps": 8, "solver": {"kind": "ddim"}})
    assert not torch.equal(trained.generate(ddim, range(10, 14)), few)
    assert not torch.equal(trained.generate(index=range(10, 14), seed=1), few)


def test_what_is_left_out_is_as_the_trial_was_measured(toy: dict[str, Any], tmp_path: Path) -> None:
    """Its noise, its number of images, and no more of them at once than an evaluation makes."""
    toy["evaluation"] |= {"noise_seed": 7, "batch_size": 100}
    list(
        train(TrialSpec.model_validate(toy), tmp_path / "a", cache=tmp_path / "cache", device="cpu")
    )
    trained = Trained.load(tmp_path / "a", "cpu")
    sizes: list[int] = []
    trained.network.register_forward_hook(lambda _module, given, _out: sizes.append(len(given[0])))
    samples = trained.generate()
    assert set(sizes) == {100, 56}
    assert torch.equal(samples[:64], trained.measure(tmp_path / "cache").samples)


def test_a_directory_without_a_model_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no trained model; train it first"):
        Trained.load(tmp_path / "nothing")

"""Proves that every command of `experiments/README.md` runs as it is written, at a reduced size.

The presets are put where the commands look for them, with eight tiny images and a tiny network; numbers of samples and
of steps are made small. What `torchrun` starts are two real processes.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.cli import invoke
from tests.experiments.test_presets import FOLDER, images, load, reduced  # noqa: F401
from tests.trainer.exchange import test_openai as published
from trainer.__main__ import main as train
from trainer.yaml.writer import yaml_document

README = FOLDER.parent / "README.md"
SIZES = {
    "-n": "4",
    "--per-class": "1",
    "--batch-size": "2",
}
"""Options of ours that only say how much."""


def sections() -> dict[str, list[str]]:
    """Our commands of each table."""
    text = README.read_text().split("\n## Their commands", 1)[1].partition("\n## ")[0]
    found = {}
    for section in text.split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        rows = [line for line in body.splitlines() if line.startswith("| ")]
        found[title] = [row.rsplit(" | `", 1)[1].removesuffix("` |") for row in rows[1:]]
    return found


def smaller(words: list[str]) -> list[str]:
    """The same command for a few samples and steps."""
    out: list[str] = []
    for word in words:
        before = out[-1] if out else ""
        if before == "--steps":
            word = str(min(int(word), 3))
        word = SIZES.get(before, word)
        word = re.sub(r"evaluation\.full\.steps=\d+", "evaluation.full.steps=2", word)
        word = re.sub(r"train\.batch_size=\d+", "train.batch_size=4", word)
        word = re.sub(r"train\.microbatch=\d+", "train.microbatch=2", word)
        out.append(word)
    return out


def run(command: str) -> int:
    """In this process, but for what starts processes itself."""
    program, *words = smaller(shlex.split(command))
    if program == "diffsweep":
        return invoke(words)
    if words[:2] == ["-m", "trainer"]:
        return train([*words[2:], "--device", "cpu"])
    start = (
        [sys.executable, "-m", "torch.distributed.run"]
        if program == "torchrun"
        else [sys.executable]
    )
    root = str(FOLDER.parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PET_LOG_DIR": "logs"}
    device = ["--device", "cpu"] if program == "torchrun" else []
    return subprocess.run(
        [*start, *words, *device], env=environment, timeout=200, check=False
    ).returncode


@pytest.fixture
def house(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A working directory with reduced presets, and the files that some commands take."""
    presets = tmp_path / "experiments" / "presets"
    presets.mkdir(parents=True)
    for file in FOLDER.glob("*.yaml"):
        values = reduced(load(file), images).model_dump(mode="json")
        (presets / file.name).write_text(yaml_document(without_seed(values)))
    monkeypatch.chdir(tmp_path)
    for name in ("DIFFSWEEP_HOME", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    small = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 3), dtype=np.uint8)
    np.savez("small.npz", arr_0=small)
    return tmp_path


def publish(house: Path) -> None:
    """A checkpoint of the published layout, and the preset of its network."""
    name = next(iter(published.ENTRIES))
    torch.save(published.published(name), house / "cifar10_uncond_50M_500K.pt")
    values = published.trial_of(name).model_dump(mode="json")
    preset = house / "experiments" / "presets" / "improved_diffusion_cifar10.yaml"
    preset.write_text(yaml_document(without_seed(values)))


def without_seed(values: dict[str, Any]) -> dict[str, Any]:
    """A preset has none."""
    return {name: value for name, value in values.items() if name != "seed"}


def test_the_tables_have_every_ancestor() -> None:
    counts = {title: len(commands) for title, commands in sections().items()}
    assert list(counts.values()) == [11, 5, 19, 12, 10]
    presets = {name for commands in sections().values() for c in commands for name in named(c)}
    others = {"digits", "edm_cifar10", "min_snr_imagenet64", "sd3_flow_logit_normal", "vdm_cifar10"}
    of_later = {file.stem for file in FOLDER.glob("*.yaml")} - presets - others
    assert of_later == {
        *("k_diffusion_32x32_small", "k_diffusion_butterflies", "k_diffusion_oxford_flowers"),
        *("k_diffusion_cifar10_transformer", "k_diffusion_mnist_transformer"),
        *("k_diffusion_mnist_soft_min_snr", "v_diffusion_cifar10_uncond", "v_diffusion_defaults"),
    }  # configurations that no README mentions


def named(command: str) -> list[str]:
    return re.findall(r"experiments/presets/(\S+)\.yaml", command)


@pytest.mark.slow
@pytest.mark.parametrize("title", sections())
def test_every_command_runs(title: str, house: Path, capfd: pytest.CaptureFixture[str]) -> None:
    failed = []
    for command in sections()[title]:
        if " import " in command:
            publish(house)
        if (code := run(command)) != 0:
            said = [x for x in capfd.readouterr().err.splitlines() if not x.startswith("note: ")]
            failed.append(f"{code}: {command}\n" + "\n".join(said[-8:]))
    assert not failed, "\n".join(failed)

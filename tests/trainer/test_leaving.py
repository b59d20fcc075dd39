"""Proves that a training that is told to leave keeps a checkpoint at once, and goes on elsewhere, with any workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.service.sweeps import wait_for
from tests.trainer.test_loop import LEARNED, REMEMBERING, STEPS, numbers, run, trial, weights
from trainer.leaving import Left
from trainer.pulse import pulse
from trainer.record import Record
from trainer.report import Report
from trainer.trial import TrialSpec


@pytest.mark.parametrize(
    ("steps", "more"),
    [(1, {}), (13, {"diffusion": REMEMBERING}), (13, {"diffusion": LEARNED}), (17, STEPS)],
)
def test_what_left_goes_on_to_the_last_bit(
    toy: dict[str, Any], tmp_path: Path, more: dict[str, Any], steps: int
) -> None:
    """Between two points of the loss curve and two reports."""
    spec = trial(toy, train__log_every_kimg=0.32, train__tally_gradients=3, **more)
    whole = run(spec, tmp_path / "whole")
    asked = iter([False] * (steps - 1) + [True])
    with pytest.raises(Left) as left:
        run(spec, tmp_path / "cut", leave=lambda: next(asked))
    assert left.value.images == Record(tmp_path / "cut").images() == 64 * (steps + steps // 10)
    assert pulse(tmp_path / "cut") is None
    run(spec, tmp_path / "cut")
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "cut")[name]), name


def together(spec: TrialSpec, folder: Path) -> subprocess.Popen[str]:
    """Two workers of `torchrun -m trainer`."""
    file = folder / "trial.yaml"
    file.write_text(json.dumps(spec.model_dump(mode="json")))
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer",
            str(file), "--out", str(folder / "out"), "--cache", str(folder / "cache"), "--device", "cpu",
        ],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PET_LOG_DIR": str(folder / "logs")},
    )  # fmt: skip


def agree(record: Record, alone: list[Report]) -> None:
    """As far as float32 gradients in other sums do, over some hundred steps; the examples are the same ones."""
    others = record.reports()
    assert [r.images for r in others] == [r.images for r in alone]
    for a, b in zip(alone, others, strict=True):
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=1e-3)
        assert a.metrics["rung/fid"] == pytest.approx(b.metrics["rung/fid"], rel=0.02)
        assert a.metrics["train/gns"] == pytest.approx(b.metrics["train/gns"], rel=0.02)
        assert [row[:2] for row in a.levels] == [row[:2] for row in b.levels]


ELASTIC = {"train__gns": True, "train__microbatch": 16, "train__tally_gradients": 100}


@pytest.mark.slow
def test_of_two_workers_one_is_told_and_a_single_one_goes_on(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    spec = trial(toy, train__kimg=38.4, **ELASTIC)
    begun = together(spec, tmp_path)
    try:
        seen = wait_for(lambda: pulse(tmp_path / "out"), "a sign of life")
        psutil.Process(begun.pid).children()[-1].send_signal(signal.SIGTERM)
        said, _ = begun.communicate(timeout=100)
    finally:
        begun.kill()
    record = Record(tmp_path / "out")
    assert record.result() is None, said
    assert seen.images <= record.images()
    words = f"it left after {record.images() / 1000:g} kimg, with a checkpoint; the same command continues"
    assert said.count(words) == 2, said
    run(spec, tmp_path / "out")
    agree(record, run(spec, tmp_path / "alone"))


@pytest.mark.slow
def test_what_one_worker_left_two_go_on_with(toy: dict[str, Any], tmp_path: Path) -> None:
    spec = trial(toy, train__kimg=6.4, train__log_every_kimg=1.6, **ELASTIC)
    asked = iter([False] * 12 + [True])
    with pytest.raises(Left):
        run(spec, tmp_path / "out", leave=lambda: next(asked))
    many = together(spec, tmp_path)
    try:
        said, _ = many.communicate(timeout=150)
    finally:
        many.kill()
    assert many.returncode == 0, said
    agree(Record(tmp_path / "out"), run(spec, tmp_path / "alone"))

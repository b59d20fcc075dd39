"""Proves what happens where memory runs out in a step: the same step in smaller passes, nothing lost, and told."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainer.test_loop import REMEMBERING, STEPS, numbers, run, trial, weights
from trainer import footprint
from trainer import learner as learning
from trainer.distributed import World
from trainer.errors import TooLittleMemory
from trainer.footprint import Footprint
from trainer.passes import Kept, Passes, SmallerPasses
from trainer.record import Record
from trainer.training import Training
from trainer.trial import TrialSpec

ALONE = World(0, 1)
Tight = Callable[..., None]


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> Tight:
    """Training passes over more than so many images ask for memory that no machine has, from one pass to another."""
    built = learning.build_network

    def narrow(images: int, first: int = 0, killed: int = 10**9) -> None:
        seen = 0

        def ask(network: nn.Module, inputs: tuple[Any, ...]) -> None:
            nonlocal seen
            if network.training and torch.is_grad_enabled():
                seen += 1
                if seen > killed:
                    raise KeyboardInterrupt
                if seen > first and len(inputs[0]) > images:
                    torch.empty(2**60, dtype=torch.uint8)

        def build(*arguments: Any) -> nn.Module:
            network = built(*arguments)
            network.register_forward_pre_hook(ask)
            return network

        monkeypatch.setattr(learning, "build_network", build)

    return narrow


@pytest.mark.parametrize("more", [{"diffusion": REMEMBERING}, STEPS])
def test_it_is_the_training_that_had_smaller_passes_from_the_start(
    toy: dict[str, Any], tmp_path: Path, tight: Tight, more: dict[str, Any]
) -> None:
    """To the last bit: gradients, loss by noise level, noise scale, averages."""
    settings = {**more, "train__microbatch": 64}
    whole = run(trial(toy, **{**settings, "train__microbatch": 16}), tmp_path / "whole")
    tight(16)
    reports = run(trial(toy, **settings), tmp_path / "cut")
    assert numbers(reports) == numbers(whole)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "cut")[name]), name
    (note,) = (note for report in reports for note in report.notes)
    assert note.startswith("out of memory after 0 kimg: goes on with 16 images in a pass")
    result = Record(tmp_path / "cut").result()
    assert result is not None
    assert result.microbatch == 16


def test_in_the_middle_it_differs_from_an_easy_training_in_rounding_alone(
    toy: dict[str, Any], tmp_path: Path, tight: Tight
) -> None:
    spec = trial(toy, train__gns=True)
    easy = run(spec, tmp_path / "easy")
    tight(8, first=50)
    reports = run(spec, tmp_path / "tight")
    assert [len(r.notes) for r in reports] == [0, 0, 1, 0]
    for a, b in zip(easy, reports, strict=True):
        # float32 gradients in other sums, over forty steps
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=1e-5)
        assert a.metrics["rung/fid"] == pytest.approx(b.metrics["rung/fid"], rel=1e-3)
        assert [row[:2] for row in a.levels] == [row[:2] for row in b.levels]
    assert numbers(reports[:1]) == numbers(easy[:1]), "before, nothing differs"


def test_who_continues_has_smaller_passes_too(
    toy: dict[str, Any], tmp_path: Path, tight: Tight
) -> None:
    """Killed right after memory ran out, between two points of the loss curve; to the last bit."""
    spec = trial(toy, train__log_every_kimg=0.64)
    tight(16, first=13)
    whole = run(spec, tmp_path / "whole")
    tight(16, first=13, killed=22)
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "cut")
    assert Kept.of(tmp_path / "cut") == Kept(16, 13 * 64)
    assert Record(tmp_path / "cut").images() == 14 * 64
    tight(64)
    assert numbers(run(spec, tmp_path / "cut")) == numbers(whole)[1:]
    assert numbers(Record(tmp_path / "cut").reports()) == numbers(whole)


def test_what_nothing_helps_says_what_the_network_takes(
    toy: dict[str, Any], tmp_path: Path, tight: Tight, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight(0)
    spec = trial(toy, ema=[{"kind": "ramp", "decay": 0.9}, {"kind": "ramp", "name": "slow"}])
    with pytest.raises(TooLittleMemory) as refusal:
        run(spec, tmp_path / "a")
    said = str(refusal.value)
    assert said.startswith("out of memory on the processor (")
    parameters = sum(p.numel() for p in Training(spec, spec.data.load(Path()), ALONE).learner.parameters())  # fmt: skip
    assert f"not even one image fits beside the network: {parameters:,} parameters take " in said
    assert said.endswith(
        "lower model.width or model.depth, have fewer averages (ema), set train.checkpointing: true, "
        "or use a larger device"
    )
    found = Footprint.of(spec, (2,))
    assert found is not None
    monkeypatch.setattr(footprint, "capacity", lambda _: found.whole)
    assert f"the network does not fit: {parameters:,} parameters take " in footprint.too_large(
        spec, spec.data.load(Path())
    )
    assert found.whole == 4 * parameters * (1 + 1 + 2 + 2), "weights, gradients, AdamW, averages"


def test_it_is_halved_only_where_that_is_wanted(
    toy: dict[str, Any], tmp_path: Path, tight: Tight
) -> None:
    tight(16)
    with pytest.raises(TooLittleMemory) as refusal:
        run(trial(toy), tmp_path / "a", on_oom="fail")
    said = str(refusal.value)
    assert said.startswith("out of memory in training, 64 images in a pass, on the processor (")
    assert said.endswith("halved (on_oom: halve_microbatch), or lower train.microbatch")
    assert Kept.of(tmp_path / "a") is None


def test_an_evaluation_that_does_not_fit_says_what_to_lower(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.evaluation import evaluator

    def generate(*_: object) -> torch.Tensor:
        return torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(evaluator, "generate", generate)
    with pytest.raises(TooLittleMemory, match=r"in evaluation, \d+ images at once, on .*: lower "):
        run(trial(toy), tmp_path / "a")


@pytest.mark.parametrize(("size", "halves"), [(64, [32, 16, 8, 4, 2, 1]), (100, [50, 25, 13])])
def test_halves(toy: dict[str, Any], size: int, halves: list[int]) -> None:
    passes = Passes(trial(toy, train__batch_size=size), ALONE, on_oom="halve_microbatch")
    for half in halves:
        assert passes.half() == half
        passes.size = half
        assert sum(passes.counts()) == size
    assert Passes(trial(toy), ALONE).half() is None


def test_several_workers_begin_again_together(toy: dict[str, Any], tight: Tight) -> None:
    """One alone cannot repeat its part: the others wait for it."""
    tight(16)
    spec = trial(toy)
    passes = Passes(spec, ALONE, on_oom="halve_microbatch")
    training = Training(spec, spec.data.load(Path()), ALONE, passes)
    training.update.world = World(0, 2)
    with pytest.raises(SmallerPasses) as found:
        training.step()
    assert found.value.microbatch == pickle.loads(pickle.dumps(found.value)).microbatch == 32


_LIMITED = """
import resource, sys
from pathlib import Path
import torch
from trainer.loop import train
from trainer.trial import TrialSpec

torch.set_num_threads(1)
spec, directory = TrialSpec.model_validate_json(sys.argv[1]), Path(sys.argv[2])
torch.zeros(64, 64).requires_grad_().matmul(torch.ones(64, 64)).sum().backward()
held = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (1024 * held + int(sys.argv[3]), -1))
for report in train(spec, directory, cache=directory / "cache", device="cpu"):
    print(*report.notes)
"""


@pytest.mark.slow
def test_a_process_that_may_have_so_much_and_no_more(toy: dict[str, Any], tmp_path: Path) -> None:
    """The kernel refuses the allocation: activations of a batch are some 1.2 GB, which is more than is left."""
    spec = trial(
        toy,
        model={"kind": "mlp", "width": 512, "depth": 3},
        train={"kimg": 32.768, "batch_size": 32768},
        evaluation__evaluations=1,
    )
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, spec.model_dump_json(), str(tmp_path / "a"), str(800 * 2**20)],
        text=True, capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out of memory after 0 kimg: goes on with "), done.stdout
    assert TrialSpec.model_validate(spec) == Record(tmp_path / "a").trial()

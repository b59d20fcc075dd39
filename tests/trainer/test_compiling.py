"""Proves that a graph is compiled once for all trials, gives the eager numbers to rounding, and resumes exactly."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

from tests.trainer.test_loop import numbers, run, trial
from trainer.compiling import Filled, compile_network, eager, filled, is_compiled, share
from trainer.distributed import World
from trainer.errors import EnvironmentProblem
from trainer.loop import train
from trainer.training import Training
from trainer.trial import TrialSpec

CPU = torch.device("cpu")
COMPILED = {"train__compile": True, "evaluation__batch_size": 100}
"""Three batches of 256 images: the last is filled up."""


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody chose a folder, and nothing is compiled yet."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def afresh() -> None:
    """As a process that begins."""
    torch._dynamo.reset()
    counters.clear()


def libraries(place: Path) -> set[Path]:
    """What a compiler made under the cache."""
    return set((place / "cache" / "compiled").rglob("*.so"))


@pytest.mark.slow
def test_a_graph_is_compiled_once_for_all_trials_and_resumes_to_the_bit(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """Within the rounding of float32 of the eager training: losses, and distances of what is generated."""
    spec = trial(toy, **COMPILED)
    whole = run(spec, tmp_path / "whole")
    made = libraries(tmp_path)
    assert made, "the home's cache holds what was compiled"
    assert counters["aot_autograd"]["autograd_cache_miss"] == 3  # a step, and two batch sizes
    afresh()
    again = run(trial(toy, seed=1, **COMPILED), tmp_path / "seed")
    assert libraries(tmp_path) == made
    assert counters["aot_autograd"]["autograd_cache_miss"] == 0
    assert len(again) == len(whole)
    # cut after the second report, continued by another process
    parts = [next(_reports(spec, tmp_path / "cut"))]
    afresh()
    parts += run(spec, tmp_path / "cut")
    assert numbers(parts) == numbers(whole)
    plain = run(trial(toy, evaluation__batch_size=100), tmp_path / "plain")
    for mine, theirs in zip(whole, plain, strict=True):
        for name in (name for name in mine.metrics if not name.startswith("sys/")):
            assert mine.metrics[name] == pytest.approx(theirs.metrics[name], rel=1e-4), name


def _reports(spec: TrialSpec, directory: Path, device: str = "cpu") -> Iterator[Any]:
    yield from train(spec, directory, cache=directory.parent / "cache", device=device)


@pytest.mark.slow
def test_two_processes_compile_into_one_cache_at_the_same_time(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    code = (
        "import sys, pathlib, torch, trainer.loop, trainer.trial\n"
        "torch.set_num_threads(1)\n"
        "spec = trainer.trial.TrialSpec.model_validate_json(sys.argv[1])\n"
        "place = pathlib.Path(sys.argv[2])\n"
        "last = [*trainer.loop.train(spec, place / sys.argv[3], cache=place / 'cache', device='cpu')][-1]\n"
        "print(sorted((k, v) for k, v in last.metrics.items() if 'fid' in k))\n"
    )
    text = trial(toy, **COMPILED).model_dump_json()
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", code, text, str(tmp_path), name],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    said = {one.communicate(timeout=250)[0] for one in begun}
    assert [one.returncode for one in begun] == [0, 0]
    assert len(said) == 1
    assert "fid" in said.pop()


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_compiled_training_that_is_cut_gives_the_same(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """Samples too, whose network is compiled first and recorded as a graph then."""
    unet = {"kind": "unet", "channels": [16, 32], "blocks": 1}
    spec = trial(toy, data={"kind": "digits"}, model=unet, **COMPILED)
    whole = list(_reports(spec, tmp_path / "whole", "cuda"))
    parts = [next(_reports(spec, tmp_path / "cut", "cuda"))]
    afresh()
    parts += list(_reports(spec, tmp_path / "cut", "cuda"))
    assert numbers(parts) == numbers(whole)


def test_the_home_is_where_it_is_kept_unless_somebody_chose_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for home in ("one", "other"):
        share(tmp_path / home, CPU)
        assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == tmp_path / home / "compiled"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "chosen"))
    share(tmp_path / "one", CPU)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "chosen")


def test_a_machine_without_a_compiler_or_headers_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"no g\+\+: install one .*or leave train.compile"):
        share(tmp_path, CPU)
    with pytest.raises(EnvironmentProblem, match=r"no gcc or clang or cc: .*name yours in CC"):
        share(tmp_path, torch.device("cuda"))
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"no .*Python.h: install them"):
        share(tmp_path, CPU)


def test_many_graphs_of_one_class_are_all_compiled(tmp_path: Path) -> None:
    """Torch gives up at eight of them, and goes on without compiling: then bits would depend on what ran before."""
    share(tmp_path, CPU)
    counted = CompileCounter()
    for width in range(1, 12):
        network = nn.Sequential(nn.Linear(width, 1), nn.SiLU())
        network.compile(backend=counted, dynamic=False)
        network(torch.zeros(2, width))
    assert counted.frame_count == 11


def test_average_and_network_are_both_compiled(toy: dict[str, Any]) -> None:
    spec = trial(toy, ema=[{"kind": "ramp", "decay": 0.9}, {"kind": "constant"}], **COMPILED)
    training = Training(spec, spec.data.load(Path()), World(0, 1))
    networks = [training.learner.network, training.average.network, training.further[0].network]
    assert all(map(is_compiled, networks))
    assert not is_compiled(eager(networks[0]))


class Seen(nn.Module):
    """Notes the batches that it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, x: Tensor, condition: Tensor, labels: Tensor | None = None) -> Tensor:
        self.sizes.append(len(x))
        assert len(condition) == len(x)
        assert labels is None or len(labels) == len(x)
        return 2.0 * x + condition[:, None]


def test_fewer_rows_are_filled_up_and_taken_away() -> None:
    network = Seen()
    few = Filled(network, [250, 500])
    for count in (1, 250, 251, 500, 501):
        x, condition = torch.rand(count, 3), torch.rand(count)
        told = {"labels": torch.arange(count)}
        assert torch.equal(few(x, condition, **told), 2.0 * x + condition[:, None])
    assert network.sizes == [250, 250, 500, 500, 501]


def test_a_network_that_is_not_compiled_is_called_as_it_is() -> None:
    network = Seen()
    assert filled(network, [4]) is network
    assert eager(network) is network
    compile_network(network)
    assert isinstance(filled(network, [4]), Filled)
    assert eager(network)(torch.rand(2, 3), torch.rand(2)).shape == (2, 3)

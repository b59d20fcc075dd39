"""What does a training step cost the host outside of forward and backward, and how many operations does it call?

Whole steps of ours and of public loops (`public_loops`), over the same network and folder of images. Forward is the
call of the network, backward that of autograd; everything else is the loop's own: data, draws, noising, clip,
optimizer, average, logging. The gate trains diffusers' loop on the draws of ours: the loss curves are equal.
"""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.benchmarks.public_loops import HuggingFace, peers
from tests.benchmarks.side_by_side import (
    Ratio,
    Report,
    Result,
    Spent,
    Unit,
    cpu_s,
    gate,
    one_thread,
)
from tests.benchmarks.trained_alike import HOST_BOUND, QUICKSTART, Inside, Loop, Ours, Setting
from trainer.compiling import is_compiled
from trainer.data import Batches
from trainer.randomness import Stream

ROW = 1
HOST_GOAL, CALLS_GOAL = 5.0, 3.5
STEPS, ROUNDS = 10, 7
CURVE = 12
"""Steps over which the gate compares losses."""
MOST_APART = 1e-5
_KERNEL = re.compile(r"^ +cpp_fused\w*\(", re.MULTILINE)
"""Where a graph calls a kernel that was made for it."""


class _Calls(TorchDispatchMode):
    """Counts operations."""

    def __init__(self, inside: Inside) -> None:
        super().__init__()
        self.inside, self.count, self.beside = inside, 0, 0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """A graph runs while its operations are counted."""
        return True

    def __torch_dispatch__(
        self, operation: Any, kinds: Any, given: Any = (), named: Any = None
    ) -> Any:
        self.count += 1
        self.beside += not self.inside.now
        return operation(*given, **(named or {}))


def calls(loop: Loop, inside: Inside, steps: int = 4) -> tuple[float, float]:
    """Operations that a step calls: all of them, and those beside network and backward.

    A kernel that was made for a compiled network is an operation, too.
    """
    made = generated_kernels() if is_compiled(loop.network) else 0
    with _Calls(inside) as counted:
        loop.steps(steps)
    return counted.count / steps + made, counted.beside / steps


def generated_kernels() -> int:
    """How often the graphs that this process has compiled call kernels of their own, each graph once."""
    from torch._inductor.codecache import PyCodeCache

    files = {
        module.__file__ for module in PyCodeCache.modules
    }  # one that was found again is there twice
    return sum(len(_KERNEL.findall(Path(file).read_text())) for file in files)


def outside(loop: Loop, inside: Inside) -> Callable[[], float]:
    """Some steps: CPU seconds of one of them beside network and backward."""

    def once() -> float:
        inside.seconds, began = 0.0, cpu_s()
        loop.steps(STEPS)
        return (cpu_s() - began - inside.seconds) / STEPS

    return once


def drawn(setting: Setting, images: Path, place: Path) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What ours trains on, step by step, by the addresses of its random numbers: x0, noise, entry of the table."""
    trial = setting.trial(images)
    source = trial.data.load(Path(), place / "cache").to(torch.device("cpu"))
    batches, first = Batches(source, trial.seed), 0
    eps, time = Stream(trial.seed, "train/eps"), Stream(trial.seed, "train/time")
    while True:
        index = torch.arange(first, first + setting.batch)
        clean = batches.get(first, setting.batch)
        entry = (time.uniform(index) * 1000.0).floor().long()
        yield clean, eps.normal(index, tuple(clean.shape[1:])), entry
        first += setting.batch


def curves(
    setting: Setting, images: Path, place: Path, steps: int = CURVE, *, compiled: bool = False
) -> float:
    """Largest distance of the loss curves of ours and of diffusers' loop on the same draws."""
    ours = Ours(setting.trial(images, compiled=compiled), place)
    (place / "gate").mkdir()
    theirs, given = HuggingFace(setting, images, place / "gate"), drawn(setting, images, place)
    apart = 0.0
    for _ in range(steps):
        before = len(ours.training._pending)
        ours.training.step()
        mine = float(ours.training._pending[before])
        apart = max(apart, abs(mine - theirs.update(*next(given))))
    return apart


@contextmanager
def folder(setting: Setting) -> Iterator[tuple[Path, Path]]:
    """The setting's images, and a place for everything else."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        yield setting.images(place), place


def main(
    report: Report = print,
    settings: tuple[tuple[Setting, bool], ...] = (
        (QUICKSTART, False),
        (HOST_BOUND, False),
        (HOST_BOUND, True),
    ),
) -> list[Result]:
    """Print host time and calls of each network, as it is or compiled, beside each peer."""
    one_thread()
    found = []
    for setting, compiled in settings:
        name = f"{setting.name}{', compiled' * compiled}"
        with folder(setting) as (images, place):
            apart = curves(setting, images, place, compiled=compiled)
            gate(report, f"{name}: loss curves", apart, MOST_APART)
            mine = Ours(setting.trial(images, compiled=compiled), place)
            there: dict[str, Loop | None] = {"": mine}
            there |= peers(setting, images, place)
            loops = {name: loop for name, loop in there.items() if loop is not None}
            for loop in loops.values():
                loop.steps(4)
            inside = {who: Inside(loop) for who, loop in loops.items()}
            counts = {who: calls(loop, inside[who]) for who, loop in loops.items()}
            works = {who: outside(loop, inside[who]) for who, loop in loops.items()}
            seconds: dict[str, list[float]] = {who: [] for who in works}
            for _ in range(ROUNDS):
                for who, work in works.items():
                    seconds[who].append(work())
        for peer in filter(None, there):
            found += _results(name, peer, seconds, counts)
    for one in found:
        report(str(one))
    return found


def _results(
    network: str,
    peer: str,
    seconds: dict[str, list[float]],
    counts: dict[str, tuple[float, float]],
) -> list[Result]:
    """Host time and calls beside one peer."""
    there = peer in seconds
    spent = {name: [Spent(one, one) for one in each] for name, each in seconds.items()}
    cost = {name: 1e3 * statistics.median(each) for name, each in seconds.items()}
    found = [
        Result(
            ROW, f"host beside forward and backward, {network}", peer, HOST_GOAL,
            Unit("ms per step", 1e3), cost[""], cost.get(peer),
            Ratio.of(spent[peer], spent[""]) if there else None,
        )
    ]  # fmt: skip
    for place, what in enumerate(("operations", "operations beside forward and backward")):
        ours, theirs = counts[""][place], counts[peer][place] if there else None
        times = None if theirs is None else theirs / ours
        found.append(
            Result(
                ROW, f"{what}, {network}", peer, CALLS_GOAL, Unit("per step", 1.0),
                ours, theirs, None if times is None else Ratio(times, times, times),
            )
        )  # fmt: skip
    return found

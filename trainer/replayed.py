"""How does a GPU take a whole step, or network, at one call? Recorded as a CUDA graph, replayed on other numbers.

A small network waits for the host, which launches some thousand kernels a step. A graph launches them together: the
same kernels on the same numbers, so that nothing changes by it, to the last bit.
"""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from trainer.lazily import torch
from trainer.memory import ran_out, release
from trainer.randomness import GENERATOR

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.data import Drawn
    from trainer.step import Step

T = TypeVar("T")

BEFORE = 3
"""Steps that are taken one kernel at a time first: libraries choose their kernels, the optimizer makes its state."""
_RECORDING = GENERATOR
"""One thread records at a time, and nobody asks torch's generator meanwhile, which takes part in what is recorded."""


class Steps(Protocol):
    """A step of one training, or of several that take it together; lists have one entry for each."""

    @property
    def members(self) -> Sequence[Step]:
        """Whose steps they are."""

    def gradients(self, drawn: Sequence[Drawn]) -> list[Tensor]:
        """Those of a batch each; the mean losses [] of each."""

    def move(self) -> None:
        """Along the gradients."""

    def forget(self) -> None:
        """What was computed of batches that moved nothing."""


class Replayed:
    """The steps that a graph takes."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._taken = 0
        self._graph: _Graph | None = None
        self._fits = all(fits(one) for one in steps.members)
        self._sizes = self._sized()

    def take(self, drawn: Sequence[Drawn], first: Sequence[int]) -> list[Tensor] | None:
        """Move the weights by a batch each, from global index `first` on: mean losses []; None: a graph cannot (yet).

        The learners have seen the batches then, as if they had been called.
        """
        self._taken += 1
        if not self._fits or self._taken <= BEFORE:
            return None
        if self._sizes != self._sized():  # memory ran out meanwhile
            self._sizes, self._graph, self._taken = self._sized(), None, 0
            return None
        if self._graph is None and not self._record(drawn):
            return None
        assert self._graph is not None
        with contextlib.ExitStack() as seeds:
            for step, begin in zip(self._steps.members, first, strict=True):
                seeds.enter_context(step.seeded(begin))
            found = self._graph.replay(drawn)
        for step, (_, row) in zip(self._steps.members, found, strict=True):
            step.learner.has_seen(row)
        return [loss for loss, _ in found]

    def _sized(self) -> list[int]:
        return [one.passes.size for one in self._steps.members]

    def release(self) -> bool:
        """Give back the memory of a graph, which the next step records again; whether there was one."""
        if self._graph is None:
            return False
        self._graph = None
        gc.collect()
        release(self._steps.members[0].source.device)
        return True

    def _record(self, drawn: Sequence[Drawn]) -> bool:
        """Whether there is a graph now; where a network cannot be recorded, its kernels are launched one by one."""
        try:
            with _RECORDING:
                self._graph = _Graph(self._steps, drawn)
        except Exception as error:
            self._fits = False
            self._steps.forget()
            if not (ran_out(error) or isinstance(error, RuntimeError)):
                raise
            return False
        return True


def fits(step: Step) -> bool:
    """Whether a graph can take the steps: all on one GPU, and nothing that the host decides or remembers on the way."""
    train, spec = step.trial.train, step.trial.optimizer
    return (
        step.source.device.type == "cuda"
        and step.world.size == 1
        and spec.records
        and step.noise is None
        and train.precision != "fp16"
        and not train.checkpointing
        and not step.learner.remembers
    )


def _recorded(
    device: torch.device, before: Callable[[], object], work: Callable[[], T]
) -> tuple[torch.cuda.CUDAGraph, T]:
    """A graph of `work` on a device, which may not be the current one, and where it leaves what it gives."""
    current = torch.cuda.current_stream(device)
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(current)
    with torch.cuda.stream(aside):  # the stream of a record has to have seen the kernels before
        before()
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
        left = work()
    return graph, left


class _Graph:
    """One step of each, with tensors of its own for what is drawn."""

    def __init__(self, steps: Steps, drawn: Sequence[Drawn]) -> None:
        self._given = [one.copy() for one in drawn]
        device = drawn[0].index.device
        release(device)  # it is kept by stream: what earlier steps took would lie idle

        def before() -> None:
            steps.gradients(self._given)
            steps.forget()

        def whole() -> list[tuple[Tensor, Tensor]]:
            losses = steps.gradients(self._given)
            steps.move()
            seen = [one.learner.seen() for one in steps.members]
            return list(zip(losses, seen, strict=True))

        self._graph, self._left = _recorded(device, before, whole)

    def replay(self, drawn: Sequence[Drawn]) -> list[tuple[Tensor, Tensor]]:
        """Of each its mean loss [], and what its learner has seen [3, B]."""
        for mine, theirs in zip(self._given, drawn, strict=True):
            mine.become(theirs)
        self._graph.replay()
        return [(loss.clone(), row.clone()) for loss, row in self._left]


class Forward:
    """A network without gradients, as samples are made with it: recorded for each shape and precision after some calls.

    On the processor it is the network. Nobody changes where its weights lie while it is in use.
    """

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self._network = network
        self._calls: Counter[Hashable] = Counter()
        self._passes: dict[Hashable, _Pass | None] = {}

    def __call__(self, x: Tensor, condition: Tensor, **told: Tensor) -> Tensor:
        """As the network."""
        if not x.is_cuda:
            return self._network(x, condition, **told)
        given = {"x": x, "condition": condition, **told}
        cast = torch.is_autocast_enabled(x.device.type)
        shape = (cast, *((name, value.shape, value.dtype) for name, value in given.items()))
        self._calls[shape] += 1
        if shape not in self._passes and self._calls[shape] > BEFORE:
            self._passes[shape] = self._recorded(given)
        if (one := self._passes.get(shape)) is None:
            return self._network(x, condition, **told)
        return one.replay(given)

    def _recorded(self, given: dict[str, Tensor]) -> _Pass | None:
        """None where it cannot be, as with kernels that ask the host, or too little memory."""
        try:
            with _RECORDING:
                return _Pass(self._network, given)
        except RuntimeError:
            return None


class _Pass:
    """One call of a network, with tensors of its own for what it is given."""

    def __init__(self, network: Callable[..., Tensor], given: dict[str, Tensor]) -> None:
        self._given = {name: value.clone() for name, value in given.items()}
        call = partial(self._call, network)
        self._graph, self._out = _recorded(given["x"].device, call, call)

    def _call(self, network: Callable[..., Tensor]) -> Tensor:
        x, condition, *rest = self._given.values()
        return network(x, condition, **dict(zip(list(self._given)[2:], rest, strict=True)))

    def replay(self, given: dict[str, Tensor]) -> Tensor:
        """What it gives."""
        for name, value in given.items():
            self._given[name].copy_(value)
        self._graph.replay()
        return self._out.clone()

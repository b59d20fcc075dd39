"""What does an evaluation find? Numbers by name, with what made them comparable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainer.evaluation.generation import Also
from trainer.evaluation.metric import AnyMeasure

if TYPE_CHECKING:
    from torch import Tensor


Part = Literal["full", "rung"]
"""Which of an evaluation's two protocols."""
PREFIX: dict[Part, str] = {"full": "eval", "rung": "rung"}
"""How the names of their metrics begin."""
SHOWN: dict[Part, int] = {"full": 64, "rung": 16}
"""Samples kept for the picture of each protocol."""
Watch = Callable[[int, int], None]
"""Hears how many images of how many are done."""


@dataclass(frozen=True)
class Measurement:
    """Metrics under one protocol, and the first samples."""

    metrics: dict[str, float]
    """Each is the mean over the draws."""
    draws: dict[str, list[float]]
    """Each metric's value under every noise, in order."""
    samples: Tensor
    """Of the first draw."""
    seconds: float
    finite: bool
    """Whether all samples of all draws were; if not, every metric is NaN."""
    protocol: dict[str, str]
    """Protocol id of each metric."""
    errors: dict[str, float] = field(default_factory=dict)
    """`se/fid`: the standard error of the mean over the draws, from their images alone; where asked for."""
    terms: dict[str, dict[str, float]] = field(default_factory=dict)
    """`eval/bpd` to what it consists of by name, where that is known: they add up to it."""


@dataclass(frozen=True)
class Draw:
    """One generated set, measured."""

    values: dict[str, float]
    """Metric to number."""
    finite: bool
    samples: Tensor
    """The first ones."""
    errors: dict[str, float]
    """Metric to its standard error, where asked for."""


def unheard(_done: int, _total: int) -> None:
    """Nobody listens."""


class Heard:
    """How many images are done, told to whoever listens."""

    def __init__(self, watch: Watch, total: int) -> None:
        self.total = total
        self._watch, self._done = watch, 0.0

    def more(self, count: float) -> None:
        """So many more are done."""
        self._done += count
        self._watch(min(self.total, round(self._done)), self.total)

    def each(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same batches, told as they come."""
        for x in images:
            yield x
            self.more(len(x))


def measurement(
    drawn: Sequence[Draw],
    draws: dict[str, list[float]],
    start: float,
    protocol: dict[str, str],
    errors: dict[str, float],
    terms: dict[str, dict[str, float]] | None = None,
) -> Measurement:
    """What was measured since `start`: the means over the draws, and the pictures of the first."""
    return Measurement(
        {name: sum(values) / len(values) for name, values in draws.items()},
        draws,
        drawn[0].samples,
        time.perf_counter() - start,
        all(one.finite for one in drawn),
        protocol,
        errors,
        terms or {},
    )


def named(metric: AnyMeasure, part: Part | Also) -> str:
    """`eval/fid`, `rung/fid`, `eval/fid.NAME`."""
    if isinstance(part, Also):
        return f"{PREFIX['full']}/{metric.name}.{part.name}"
    return f"{PREFIX[part]}/{metric.name}"

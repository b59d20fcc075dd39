"""What does a network say of real images? Metrics of the network alone, over all workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.data import Source
from trainer.diffusion.process import Diffusion, Network
from trainer.distributed import World
from trainer.evaluation.metric import ModelMetric
from trainer.evaluation.metric.base import Shown
from trainer.inputs import NetworkInput, bound, together


class Answer(NamedTuple):
    """What a network says of real images."""

    value: float
    """The mean."""
    error: float
    """Its standard error."""
    terms: dict[str, float]
    """What the mean consists of."""


def ask(
    metric: ModelMetric,
    network: Callable[..., Tensor],
    diffusion: Diffusion,
    inputs: Sequence[NetworkInput],
    source: Source,
    count: int,
    world: World,
    *,
    seed: int,
    batch: int,
    more: Callable[[float], None],
) -> Answer:
    """Of `count` evenly spaced images, shared by the workers, `batch` at a time; noise is a function of `seed` and row.

    `more` hears of each pass of the network as its share of the images.
    """
    passes, mine = metric.passes(diffusion), world.share(count)
    total = torch.zeros(2 + len(metric.parts), dtype=torch.float64, device=source.device)
    for first in range(mine.start, mine.stop, batch):
        numbers = torch.arange(first, min(first + batch, mine.stop), device=source.device)
        rows = numbers * len(source) // count
        asked = bound(network, together([one.known(source, rows, seed) for one in inputs]))

        def passed(x: Tensor, condition: Tensor, asked: Network = asked) -> Tensor:
            more(len(x) / passes)
            return asked(x, condition)

        x0 = source.codec.scale(source.read(rows))
        values, terms = metric.explained(Shown(passed, diffusion, source.codec, x0, rows, seed))
        columns = [values, values.double().square(), *(terms[name] for name in metric.parts)]
        total += torch.stack([column.double().sum() for column in columns])
    world.sum_(total)
    mean, square, *parts = (total / count).tolist()
    error = math.sqrt(max(0.0, square - mean**2) / max(1, count - 1))
    return Answer(mean, error, dict(zip(metric.parts, parts, strict=True)))

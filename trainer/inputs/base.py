"""What is a network told beside x_t and its noise level? Inputs that training and generation bind to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from trainer.data import Batches, Codec, Drawn, Source
from trainer.data.base import DataSpec
from trainer.diffusion.process import Network
from trainer.errors import UserError
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


Conditions: TypeAlias = "Mapping[str, Tensor]"
"""`labels` int64 [B], `vector` [B, V] added to the embedded noise level, `planes` [B, P, H, W] stacked on x_t."""


@dataclass(frozen=True)
class Batch:
    """The examples of a training step, as an input may look at them."""

    index: Tensor
    """Global indices int64 [B]."""
    x0: Tensor
    """[B, ...], as it is noised."""
    seed: int
    """The trial's."""
    labels: Tensor | None = None
    """int64 [B]; None: the data has none."""
    tags: Tensor | None = None
    """Which of the codec's tags each has, bool [B, K]; None: the data has none."""
    mirrored: Tensor | None = None
    """Which are seen mirrored, bool [B]; None: never any."""

    @classmethod
    def of(cls, batches: Batches, drawn: Drawn, seed: int) -> Batch:
        """The drawn examples as the data shows them."""
        x0 = batches.seen(drawn)
        return cls(drawn.index, x0, seed, drawn.labels, drawn.tags, drawn.mirrored)


class Hiding(NamedTuple):
    """What guidance hides of an input, and how often training did."""

    what: str
    """`label`, `tags`."""
    path: str
    """Where the share is set."""
    share: float


class NetworkInput(Spec):
    """A member of the family: what it adds to the network, and what it says in training and in generation."""

    def vector(self) -> int:
        """Entries that it adds to the vector."""
        return 0

    def planes(self, shape: tuple[int, ...]) -> int:
        """Channels that it adds to x_t, for data of `shape`."""
        return 0

    def foresee(self, data: DataSpec) -> None:
        """Raise UserError if it is known before reading that the data cannot give it."""

    def check(self, source: Source) -> None:
        """Raise UserError if the data cannot give it."""

    def remarks(self, source: Source) -> list[str]:
        """What a person should know about it and this data, though it can be trained."""
        return []

    def seen(self, batch: Batch) -> Tensor:
        """x0 [B, ...] as training is to see it: as it is, unless the input tells what it did to it."""
        return batch.x0

    def trained(self, batch: Batch) -> Conditions:
        """What the network is told of the examples of a training step, as they are seen."""
        raise NotImplementedError

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        """What it is told of the samples of these numbers [B]: equal for all trials of an experiment."""
        raise NotImplementedError

    def known(self, source: Source, rows: Tensor, noise_seed: int) -> Conditions:
        """What it is told of these rows [B] of the data themselves, when their likelihood is asked for."""
        raise UserError(
            "evaluation.metrics: the likelihood of real images is not defined for a network with such an input "
            f"({type(self).__name__}): "
            "leave bpd and nll out"
        )

    def live(self, source: Source) -> NetworkInput:
        """The same, with the data set at hand whose examples it shows to samples."""
        return self

    def examples_kept(self) -> int:
        """How many of the data's first examples a checkpoint keeps, to show to samples where the data is absent."""
        return 0

    def tags_kept(self) -> int:
        """The same of their tags."""
        return 0

    def hiding(self) -> Hiding | None:
        """How often training hides what it tells, as guidance needs; None: guidance does not hide it either."""
        return None

    def hidden(self, conditions: Conditions) -> Conditions:
        """The same without the condition, which guidance compares with."""
        return conditions


def trained(inputs: Sequence[NetworkInput], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """x0 [B, ...] of a training step as all inputs leave it, and what the network is told of it."""
    for one in inputs:
        batch = replace(batch, x0=one.seen(batch))
    return batch.x0, together([one.trained(batch) for one in inputs])


def unguided(inputs: Sequence[NetworkInput]) -> str | None:
    """Why guidance cannot steer a network that is told these; None: it can."""
    hidden = [each for one in inputs if (each := one.hiding()) is not None]
    if not hidden:
        return (
            "steers by labels or tags, and this network is told neither (model.classes, inputs: tags); "
            "leave it out"
        )
    never = [each for each in hidden if each.share == 0.0]
    if not never:
        return None
    what, paths = (" and ".join(words) for words in list(zip(*never, strict=True))[:2])
    return (
        f"compares with the network that is not told its {what}, which is never trained at {paths}: 0; "
        "set it to 0.1 for training, or leave guidance out"
    )


def together(parts: Sequence[Conditions]) -> dict[str, Tensor]:
    """What several inputs say; vectors and planes are put one after another."""
    merged: dict[str, Tensor] = {}
    for part in parts:
        for name, value in part.items():
            merged[name] = torch.cat([merged[name], value], 1) if name in merged else value
    return merged


def bound(network: Callable[..., Tensor], conditions: Conditions) -> Network:
    """The network with what it is told: (x, condition) is all that the core knows of it."""
    if not conditions:
        return network
    rest = beside(conditions)

    def informed(x: Tensor, condition: Tensor) -> Tensor:
        return network(with_planes(x, conditions), condition, **rest)

    return informed


def with_planes(x: Tensor, conditions: Conditions) -> Tensor:
    """What the network sees [B, C + P, ...]: x [B, C, ...], and the planes that it is shown beside it."""
    planes = conditions.get("planes")
    return x if planes is None else torch.cat([x, planes.to(x.dtype)], 1)


def beside(conditions: Conditions) -> Conditions:
    """What it is told by name."""
    return {name: value for name, value in conditions.items() if name != "planes"}

"""What is a metric? A number of generated images beside real ones in a feature space, or of the network itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Self, TypeAlias

from trainer.bounds import Count
from trainer.data import Codec, Split
from trainer.diffusion.process import Diffusion, Network
from trainer.evaluation.features import AnyFeatures
from trainer.lazily import torch
from trainer.spec import Neutral, Spec

if TYPE_CHECKING:
    from torch import Tensor


Need = Literal["moments", "features", "probabilities"]
"""What a metric looks at: sums over all images, or a row of every image."""
BLOCK = 1024
"""Rows that become float64 at once, and are compared with as many others: bounds the memory of every metric."""


@dataclass
class Moments:
    """Count, sum and sum of outer products of features, float64; addable across batches and workers."""

    count: Tensor
    total: Tensor
    outer: Tensor

    @classmethod
    def empty(cls, width: int, device: torch.device | str = "cpu") -> Moments:
        """No features yet, `width` dimensions."""
        zero = torch.zeros(width, dtype=torch.float64, device=device)
        return cls(zero.new_zeros(()), zero, zero.new_zeros(width, width))

    def add(self, features: Tensor) -> None:
        """Add features [B, D]."""
        features = features.double()
        self.count += len(features)
        self.total += features.sum(0)
        self.outer += features.T @ features

    def mean(self) -> Tensor:
        """[D]."""
        return self.total / self.count

    def covariance(self) -> Tensor:
        """Unbiased [D, D]; needs at least two features."""
        mean = self.mean()
        return (self.outer - self.count * torch.outer(mean, mean)) / (self.count - 1.0)

    def span(self) -> int:
        """The most dimensions in which so many features can differ from their mean."""
        return int(self.count) - 1


@dataclass(frozen=True)
class Statistics:
    """What was seen of a set of images in one feature space: as much as some metric needs."""

    moments: Moments
    features: Tensor | None = None
    """[N, D] of every image, in order, if a metric asked for them, or where they are fewer than their dimensions."""
    classify: Callable[[Tensor], Tensor] | None = None
    """Features [B, D] -> class probabilities [B, K], in a space that has classes."""

    def kept(self) -> Tensor:
        """Features [N, D] as they were extracted."""
        assert self.features is not None, "a metric that needs features says so"
        return self.features

    def probabilities(self) -> Tensor:
        """Class probabilities float64 [N, K]."""
        assert self.classify is not None, "a metric that needs probabilities says so"
        return torch.cat([self.classify(rows).double() for rows in torch.split(self.kept(), BLOCK)])


Prepared: TypeAlias = "dict[str, Tensor]"
"""What a metric keeps of the real images: made once per data set and feature space, cached on disk."""


class Real(NamedTuple):
    """What is known of the real images when generated ones are measured."""

    prepared: Prepared
    """What the metric keeps of them."""
    features: Tensor | None = None
    """[N, D], one tensor for all metrics that look at them."""

    def kept(self) -> Tensor:
        """Features [N, D] as they were extracted."""
        assert self.features is not None, "a metric that needs features says so"
        return self.features


class AnyMeasure(Spec):
    """What the two kinds of members share: what they are called, and in which direction they are good."""

    title: ClassVar[str]
    """For people: `FID`."""
    unit: ClassVar[str] = ""
    """Of the number; empty: it has none."""
    lower_is_better: ClassVar[bool]
    ratio: ClassVar[bool] = True
    """Whether two numbers are compared by their ratio; False where they may be near zero or negative."""

    kind: str
    split: Annotated[Split | None, Neutral(None)] = None
    """Which real images it looks at: `train`, or `test`, those that training does not see; null: as
    `evaluation.reference` says, `train` beside published statistics."""

    @property
    def name(self) -> str:
        """As in `eval/<name>` and `rung/<name>`; `bpd-test` where it names a split of its own."""
        return self.kind if self.split is None else f"{self.kind}-{self.split}"

    def plain(self) -> Self:
        """What it computes, whatever it is computed of: for identities."""
        return self.model_copy(update={"split": None})


class Metric(AnyMeasure):
    """A member that compares generated images with real ones: what it looks at, and the number."""

    needs: ClassVar[Need]
    looks_at_pairs: ClassVar[bool] = False
    """Whether its time grows with generated times real images."""
    """What `measure` and `prepare` look at; moments are always there."""
    fewest_images: ClassVar[int] = 2
    """Fewer images than this never have such a number."""
    fewest_real: ClassVar[int] = 2
    """Fewer real images than this have nothing to compare with."""
    keeps: ClassVar[str | None] = None
    """Name of what `prepare` gives, if several members keep the same."""

    features: AnyFeatures | None = None
    """Feature space of this metric alone; null: that of `evaluation.features`."""

    @property
    def name(self) -> str:
        """`fid`, or `fid-inception` in a feature space of its own: `eval/<name>` and `rung/<name>`."""
        space = "" if self.features is None else f"-{self.features.kind}"
        return f"{self.kind}{space}" + ("" if self.split is None else f"-{self.split}")

    def plain(self) -> Self:
        """Of no feature space in particular."""
        return super().plain().model_copy(update={"features": None})

    @property
    def fewest(self) -> int:
        """Fewer images than this have no such number with these settings."""
        return self.fewest_images

    @abstractmethod
    def prepare(self, real: Statistics) -> Prepared:
        """What `measure` wants to know of the real images beside their features, which are kept anyhow."""

    @abstractmethod
    def measure(self, generated: Statistics, real: Real) -> float:
        """The number; finite features in, finite number out."""


class Shown(NamedTuple):
    """Real images, and the network that is asked about them."""

    network: Network
    """The averaged weights, told what it is told of these images."""
    diffusion: Diffusion
    codec: Codec
    x0: Tensor
    """[B, ...]."""
    rows: Tensor
    """Where they stand in the data set, int64 [B]: all noise is a function of it."""
    seed: int
    """Of that noise."""


class ModelMetric(AnyMeasure):
    """A member that asks the network about real images, without generating any: the mean of a value of each."""

    lower_is_better: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ()
    """Names of the terms that its number is the sum of."""

    images: Count | None = None
    """Real images that are asked about, evenly spaced over the data; null: as many as the protocol generates."""

    def plain(self) -> Self:
        """Of no number of images in particular."""
        return super().plain().model_copy(update={"images": None})

    def check(self, codec: Codec) -> None:
        """Raise UserError if this data has no such number."""

    @abstractmethod
    def values(self, shown: Shown) -> Tensor:
        """The number of each image [B]."""

    def explained(self, shown: Shown) -> tuple[Tensor, dict[str, Tensor]]:
        """The same, and each of its `parts` [B] by name."""
        return self.values(shown), {}

    @abstractmethod
    def passes(self, diffusion: Diffusion) -> int:
        """How often the network is asked about each image."""

    def work(self, diffusion: Diffusion) -> float:
        """What each image costs, in forward passes: for what a plan says."""
        return float(self.passes(diffusion))

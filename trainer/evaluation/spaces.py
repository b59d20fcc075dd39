"""In which feature spaces are images compared, and with which real ones? Built once for a trial."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.data import Source, Split
from trainer.distributed import World
from trainer.evaluation.errors import standard_errors
from trainer.evaluation.features import Extractor, FeatureSpace
from trainer.evaluation.generation import Also
from trainer.evaluation.measurement import SHOWN, Draw, Part
from trainer.evaluation.metric import Metric
from trainer.evaluation.metric.base import Real
from trainer.evaluation.protocol import Evaluation
from trainer.evaluation.published import published
from trainer.evaluation.reference import Gathered, reference

Splits = dict[Split, Source]
"""The real images, as far as something looks at them."""


@dataclass(frozen=True)
class Space:
    """One feature space and what is measured in it."""

    extractor: Extractor
    metrics: list[Metric]
    identities: dict[str, str]
    """Of the real images that a metric looks at, extractor and weights, by the metric's name."""
    real: dict[str, Real]


class Spaces:
    """All feature spaces of an evaluation."""

    def __init__(self, spec: Evaluation, splits: Splits, cache: Path) -> None:
        """Extractors come from the data that is trained on, references from what each metric looks at."""
        self._spec, self._splits, self._cache = spec, splits, cache
        self._extractors: dict[str, Extractor] = {}
        self._all = [self._built(space, "full") for space in spec.spaces()]
        self._cheap = self._all
        if spec.spaces("rung") != spec.spaces():
            self._cheap = [self._built(space, "rung") for space in spec.spaces("rung")]

    def __bool__(self) -> bool:
        return bool(self._all)

    def _under(self, part: Part | Also) -> list[Space]:
        return self._cheap if part == "rung" else self._all

    def identities(self, part: Part | Also) -> dict[str, str]:
        """Of the real images that each metric looks at, extractor and weights, by the metric's name."""
        return {name: one for space in self._under(part) for name, one in space.identities.items()}

    def remarks(self) -> dict[str, str]:
        """Kind of a feature space to what is known of it."""
        pairs = zip(self._spec.spaces(), self._all, strict=True)
        said = {space.kind: self._remark(space, built.extractor) for space, built in pairs}
        return {kind: remark for kind, remark in said.items() if remark}

    def draw(
        self,
        images: Iterable[Tensor],
        count: int,
        world: World,
        part: Part,
        groups: int,
    ) -> Draw:
        """One set of `count` images, of which this worker gives its share; its first ones, and standard errors by so
        many groups."""
        spaces, kept = self._under(part), SHOWN[part]
        share = len(world.share(count))
        gathered = [
            Gathered(space.extractor, space.metrics, share, of=count, keep=groups > 0)
            for space in spaces
        ]
        shown: list[Tensor] = []
        for x in images:
            for features in gathered:
                features.add(x)
            if sum(map(len, shown)) < kept:
                shown.append(x)
        values, errors = self._distances(spaces, gathered, world, groups)
        none = {metric.name: math.nan for metric in self._spec.comparisons}
        first = torch.cat(shown)[:kept]
        return Draw(none if values is None else values, values is not None, first, errors)

    def _built(self, space: FeatureSpace, part: Part) -> Space:
        source = self._splits["train"]
        if space.digest() not in self._extractors:
            self._extractors[space.digest()] = space.build(source, self._cache)
        extractor = self._extractors[space.digest()]
        ending = f"{space.digest()}-{extractor.weights}"
        identities: dict[str, str] = {}
        real: dict[str, Real] = {}
        spec = self._spec
        mine = [one for one in spec.comparisons if spec.space_of(one, part) == space]
        for split, images in self._splits.items():
            metrics = [one for one in spec.comparisons_with(split) if one in mine]
            if metrics:
                identity = f"{images.fingerprint}-{ending}"
                real |= reference(images, identity, extractor, metrics, self._cache)
                identities |= {metric.name: identity for metric in metrics}
        for metric in mine:
            if metric.name not in real:  # what others published
                width = space.dimensions(source.codec.shape)
                kept, content = published(spec.reference, width, source.device)
                real[metric.name] = kept
                identities[metric.name] = f"{content}-{ending}"
        return Space(extractor, mine, identities, real)

    def _remark(self, space: FeatureSpace, extractor: Extractor) -> str:
        unseen = self._splits.get("test")
        said = "" if unseen is None else space.unseen(extractor, unseen, self._cache)
        return ", ".join(filter(None, [extractor.remark, said]))

    @staticmethod
    def _distances(
        spaces: list[Space], gathered: list[Gathered], world: World, groups: int
    ) -> tuple[dict[str, float] | None, dict[str, float]]:
        """Every metric by name, over all workers, and standard errors; None if features are not finite."""
        values: dict[str, float] = {}
        errors: dict[str, float] = {}
        for space, features in zip(spaces, gathered, strict=True):
            statistics = features.of_all(world)
            if not bool(torch.isfinite(statistics.moments.outer).all()):
                return None, {}
            for metric in space.metrics:
                values[metric.name] = metric.measure(statistics, space.real[metric.name])
            if groups:
                errors |= standard_errors(space.metrics, statistics, space.real, groups)
        return values, errors

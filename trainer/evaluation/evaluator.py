"""How good are the samples now? Generates on all workers, streams features, returns metrics."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from trainer.data import Source
from trainer.diffusion.process import Diffusion
from trainer.distributed import World
from trainer.evaluation.errors import of_mean, standard_errors
from trainer.evaluation.features import Extractor
from trainer.evaluation.generation import generate
from trainer.evaluation.metric import AnyMeasure, Metric, ModelMetric
from trainer.evaluation.metric.base import Real, Shown
from trainer.evaluation.protocol import Also, Evaluation, Generation
from trainer.evaluation.published import published
from trainer.evaluation.reference import Gathered, reference
from trainer.inputs import NetworkInput, bound, together

Part = Literal["full", "rung"]
"""Which of an evaluation's two protocols."""
PREFIX: dict[Part, str] = {"full": "eval", "rung": "rung"}
"""How the names of their metrics begin."""
SHOWN: dict[Part, int] = {"full": 64, "rung": 16}
"""Samples kept for the picture of each protocol."""


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


@dataclass(frozen=True)
class _Space:
    """One feature space and what is measured in it."""

    extractor: Extractor
    identity: str
    """Of data, extractor and weights."""
    metrics: list[Metric]
    real: dict[str, Real]


@dataclass(frozen=True)
class _Draw:
    """One generated set, measured."""

    values: dict[str, float]
    """Metric to number."""
    finite: bool
    samples: Tensor
    """The first ones."""
    errors: dict[str, float]
    """Metric to its standard error, where asked for."""


class Evaluator:
    """The extractors and the reference of one trial, ready to measure."""

    def __init__(
        self,
        spec: Evaluation,
        diffusion: Diffusion,
        source: Source,
        cache: Path,
        inputs: Sequence[NetworkInput] = (),
    ) -> None:
        self.spec = spec
        self.diffusion = diffusion
        self.source = source
        self.inputs = inputs
        for one in spec.questions:
            one.check(source.codec)
        self._spaces = self._prepare(cache)
        self.spaces = {
            spec.kind: space.extractor.remark
            for spec, space in zip(spec.spaces(), self._spaces, strict=True)
            if space.extractor.remark
        }
        """Kind of a feature space to what is known of it."""

    def _prepare(self, cache: Path) -> list[_Space]:
        """One space for every extractor that some metric asks for."""
        spaces = []
        for space in self.spec.spaces():
            metrics = [one for one in self.spec.comparisons if self.spec.space_of(one) == space]
            extractor = space.build(self.source, cache)
            identity = f"{self.source.fingerprint}-{space.digest()}-{extractor.weights}"
            if self.spec.reference == "train":
                real = reference(self.source, identity, extractor, metrics, cache)
            else:
                width = space.dimensions(self.source.codec.shape)
                kept, content = published(self.spec.reference, width, self.source.device)
                identity = f"{content}-{space.digest()}-{extractor.weights}"
                real = {metric.name: kept for metric in metrics}
            spaces.append(_Space(extractor, identity, metrics, real))
        return spaces

    def protocols(self) -> dict[str, str]:
        """Protocol id of every metric: `eval/...`, and `rung/...` if there is a cheap curve."""
        parts: list[Part] = ["full"] if self.spec.rung is None else ["full", "rung"]
        return {
            name: identifier
            for part in (*parts, *self.spec.also)
            for name, identifier in self._protocol(part).items()
        }

    def _protocol(self, part: Part | Also) -> dict[str, str]:
        spaces = {metric.name: space.identity for space in self._spaces for metric in space.metrics}
        metrics = self.spec.comparisons if isinstance(part, Also) else self.spec.metrics
        return {
            _named(metric, part): self.spec.protocol_id(
                metric, part, spaces.get(metric.name, self.source.fingerprint)
            )
            for metric in metrics
        }

    def measure(self, network: Callable[..., Tensor], part: Part, world: World) -> Measurement:
        """Generate with `network` under one protocol, once from every noise, and compare with the reference.

        Metrics are named `eval/...` for the full protocol and `rung/...` for the cheap one.
        """
        start = time.perf_counter()
        noises = self.spec.noises(part) if self._spaces else self.spec.noises(part)[:1]
        generation, groups = self._generation(part), self.spec.error_groups if part == "full" else 0
        drawn = [
            self._draw(network, generation, noise, world, SHOWN[part], groups) for noise in noises
        ]
        draws = self._values(drawn, part)
        finite, errors = all(one.finite for one in drawn), of_mean([one.errors for one in drawn])
        for metric in self.spec.questions:
            answer, error = self._ask(metric, network, part, world) if finite else (math.nan, 0.0)
            draws[_named(metric, part)] = [answer]
            if part == "full" and self.spec.error_groups and finite:
                errors[f"se/{metric.name}"] = error
        return Measurement(
            {name: sum(values) / len(values) for name, values in draws.items()},
            draws,
            drawn[0].samples,
            time.perf_counter() - start,
            finite,
            self._protocol(part),
            errors,
        )

    def measure_also(self, network: Callable[..., Tensor], world: World) -> list[Measurement]:
        """The same under every further protocol of finished weights; metrics are named `eval/NAME.PROTOCOL`."""
        found = []
        for one in self.spec.also if self._spaces else ():
            start, generation = time.perf_counter(), one.of(self.spec.full)
            drawn = [
                self._draw(network, generation, noise, world, SHOWN["full"], 0)
                for noise in self.spec.noises("full")
            ]
            draws = self._values(drawn, one)
            found.append(
                Measurement(
                    {name: sum(values) / len(values) for name, values in draws.items()},
                    draws,
                    drawn[0].samples,
                    time.perf_counter() - start,
                    all(each.finite for each in drawn),
                    self._protocol(one),
                )
            )
        return found

    def _values(self, drawn: Sequence[_Draw], part: Part | Also) -> dict[str, list[float]]:
        """Of every comparison, its value in each draw."""
        return {
            _named(metric, part): [one.values[metric.name] for one in drawn]
            for metric in self.spec.comparisons
        }

    def _ask(
        self, metric: ModelMetric, network: Callable[..., Tensor], part: Part, world: World
    ) -> tuple[float, float]:
        """The mean over evenly spaced real images, shared by the workers, and its standard error."""
        source, batch = self.source, self.spec.batch_size
        count = min(metric.images or self._generation(part).images, len(source))
        mine = world.share(count)
        total = torch.zeros(2, dtype=torch.float64, device=source.device)
        for first in range(mine.start, mine.stop, batch):
            numbers = torch.arange(first, min(first + batch, mine.stop), device=source.device)
            rows = numbers * len(source) // count
            told = together([one.known(source, rows) for one in self.inputs])
            x0 = source.codec.scale(source.read(rows))
            seed, about = self.spec.noise_seed, (source.codec, x0, rows)
            shown = Shown(bound(network, told), self.diffusion, *about, seed)
            values = metric.values(shown).double()
            total += torch.stack([values.sum(), values.square().sum()])
        world.sum_(total)
        mean, square = (total / count).tolist()
        return mean, math.sqrt(max(0.0, square - mean**2) / max(1, count - 1))

    def _generation(self, part: Part) -> Generation:
        generation = self.spec.full if part == "full" else self.spec.rung
        assert generation is not None
        return generation

    def _draw(
        self,
        network: Callable[..., Tensor],
        generation: Generation,
        noise_seed: int,
        world: World,
        kept: int,
        groups: int,
    ) -> _Draw:
        """One generated set; its first `kept` samples, and standard errors by so many groups if any."""
        if not self._spaces:  # nothing compares them: some for the picture
            few = min(generation.images, kept)
            generation = generation.model_copy(update={"images": few})
        share = len(world.share(generation.images))
        gathered = [
            Gathered(space.extractor, space.metrics, share, keep=groups > 0)
            for space in self._spaces
        ]
        shown: list[Tensor] = []
        for x in self._generate(network, generation, noise_seed, world):
            for features in gathered:
                features.add(x)
            if sum(map(len, shown)) < kept:
                shown.append(x)
        values, errors = self._distances(gathered, world, groups)
        first = torch.cat(shown)[:kept]
        return _Draw(
            self._no_values() if values is None else values, values is not None, first, errors
        )

    def _no_values(self) -> dict[str, float]:
        return {metric.name: math.nan for metric in self.spec.comparisons}

    def _distances(
        self, gathered: list[Gathered], world: World, groups: int
    ) -> tuple[dict[str, float] | None, dict[str, float]]:
        """Every metric by name, over all workers, and standard errors; None if features are not finite."""
        values: dict[str, float] = {}
        errors: dict[str, float] = {}
        for space, features in zip(self._spaces, gathered, strict=True):
            statistics = features.of_all(world)
            if not bool(torch.isfinite(statistics.moments.outer).all()):
                return None, {}
            for metric in space.metrics:
                values[metric.name] = metric.measure(statistics, space.real[metric.name])
            if groups:
                errors |= standard_errors(space.metrics, statistics, space.real, groups)
        return values, errors

    @torch.inference_mode()
    def _generate(
        self,
        network: Callable[..., Tensor],
        generation: Generation,
        noise_seed: int,
        world: World,
    ) -> Iterator[Tensor]:
        """Quantized samples of this worker's share, in batches."""
        mine = world.share(generation.images)
        for first in range(mine.start, mine.stop, self.spec.batch_size):
            yield generate(
                network,
                self.diffusion,
                self.source.codec,
                generation,
                range(first, min(first + self.spec.batch_size, mine.stop)),
                noise_seed,
                self.inputs,
                self.source.device,
            )


def _named(metric: AnyMeasure, part: Part | Also) -> str:
    """`eval/fid`, `rung/fid`, `eval/fid.NAME`."""
    if isinstance(part, Also):
        return f"{PREFIX['full']}/{metric.name}.{part.name}"
    return f"{PREFIX[part]}/{metric.name}"

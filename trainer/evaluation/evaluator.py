"""How good are the samples now? Generates on all workers, streams features, returns metrics."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainer.data import Source, Split
from trainer.diffusion.process import Diffusion, Network
from trainer.distributed import World
from trainer.evaluation.errors import of_mean, standard_errors
from trainer.evaluation.features import Extractor, FeatureSpace
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
SPLITS: tuple[Split, ...] = ("train", "test")
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
    terms: dict[str, dict[str, float]] = field(default_factory=dict)
    """`eval/bpd` to what it consists of by name, where that is known: they add up to it."""


@dataclass(frozen=True)
class _Space:
    """One feature space and what is measured in it."""

    extractor: Extractor
    metrics: list[Metric]
    identities: dict[str, str]
    """Of the real images that a metric looks at, extractor and weights, by the metric's name."""
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


def _unheard(_done: int, _total: int) -> None:
    """Nobody listens."""


class Evaluator:
    """The extractors and the references of one trial, ready to measure."""

    def __init__(
        self,
        spec: Evaluation,
        diffusion: Diffusion,
        source: Source,
        cache: Path,
        inputs: Sequence[NetworkInput] = (),
        held_out: Source | None = None,
    ) -> None:
        """`source` is what is trained on, `held_out` the test split, needed where something looks at it."""
        self.spec = spec
        self.diffusion = diffusion
        self.source = source
        self.inputs = inputs
        self.held_out = held_out
        for one in spec.questions:
            one.check(source.codec)
        self._spaces = self._prepare(cache)
        self.spaces = {
            space.kind: remark
            for space, built in zip(spec.spaces(), self._spaces, strict=True)
            if (remark := self._remark(space, built.extractor, cache))
        }
        """Kind of a feature space to what is known of it."""

    def _remark(self, space: FeatureSpace, extractor: Extractor, cache: Path) -> str:
        unseen = "" if self.held_out is None else space.unseen(extractor, self.held_out, cache)
        return ", ".join(filter(None, [extractor.remark, unseen]))

    def _of(self, split: Split) -> Source:
        """The real images of a split."""
        if split == "train":
            return self.source
        assert self.held_out is not None, "whoever asks for the test split brings it"
        return self.held_out

    def _prepare(self, cache: Path) -> list[_Space]:
        """One space for every extractor that some metric asks for."""
        spaces = []
        for space in self.spec.spaces():
            extractor = space.build(self.source, cache)
            ending = f"{space.digest()}-{extractor.weights}"
            identities: dict[str, str] = {}
            real: dict[str, Real] = {}
            mine = [one for one in self.spec.comparisons if self.spec.space_of(one) == space]
            for split in SPLITS:
                metrics = [one for one in self.spec.comparisons_with(split) if one in mine]
                if metrics:
                    identity = f"{self._of(split).fingerprint}-{ending}"
                    real |= reference(self._of(split), identity, extractor, metrics, cache)
                    identities |= {metric.name: identity for metric in metrics}
            for metric in mine:
                if metric.name not in real:  # what others published
                    width = space.dimensions(self.source.codec.shape)
                    kept, content = published(self.spec.reference, width, self.source.device)
                    real[metric.name] = kept
                    identities[metric.name] = f"{content}-{ending}"
            spaces.append(_Space(extractor, mine, identities, real))
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
        identities = {name: one for space in self._spaces for name, one in space.identities.items()}
        metrics = self.spec.comparisons if isinstance(part, Also) else self.spec.metrics
        return {
            _named(metric, part): self.spec.protocol_id(
                metric,
                part,
                identities.get(metric.name) or self._of(self.spec.split_of(metric)).fingerprint,
            )
            for metric in metrics
        }

    def measure(
        self,
        network: Callable[..., Tensor],
        part: Part,
        world: World,
        watch: Callable[[int, int], None] = _unheard,
    ) -> Measurement:
        """Generate with `network` under one protocol, once from every noise, and compare with the reference.

        Metrics are named `eval/...` for the full protocol and `rung/...` for the cheap one. `watch` hears how many
        images of how many are done on this worker, generated ones and real ones that are asked about.
        """
        start, noises = time.perf_counter(), self.spec.noises(part)
        groups = self.spec.error_groups if part == "full" else 0
        generation = self._generation(part)
        if not self._spaces:  # nothing compares them: some for the picture
            few = min(generation.images, SHOWN[part])
            noises, generation = noises[:1], generation.model_copy(update={"images": few})
        heard = _Heard(watch, len(noises) * len(world.share(generation.images)))
        heard.total += sum(len(world.share(self._count(one, part))) for one in self.spec.questions)
        drawn = [
            self._draw(
                heard.each(self._generate(network, generation, noise, world)),
                len(world.share(generation.images)),
                world,
                SHOWN[part],
                groups,
            )
            for noise in noises
        ]
        draws = self._values(drawn, part)
        finite, errors = all(one.finite for one in drawn), of_mean([one.errors for one in drawn])
        terms = {}
        for metric in self.spec.questions:
            row, answer = _named(metric, part), _Answer(math.nan, 0.0, {})
            if finite:
                answer = self._ask(metric, network, part, world, heard.more)
            draws[row] = [answer.value]
            if answer.terms:
                terms[row] = answer.terms
            if part == "full" and self.spec.error_groups and finite:
                errors[f"se/{metric.name}"] = answer.error
        return _measurement(drawn, draws, start, self._protocol(part), errors, terms)

    def measure_also(
        self,
        network: Callable[..., Tensor],
        world: World,
        watch: Callable[[int, int], None] = _unheard,
    ) -> list[Measurement]:
        """The same under every further protocol of finished weights; metrics are named `eval/NAME.PROTOCOL`."""
        found = []
        noises = self.spec.noises("full")
        counts = [len(world.share(one.of(self.spec.full).images)) for one in self.spec.also]
        heard = _Heard(watch, len(noises) * sum(counts))
        for one in self.spec.also if self._spaces else ():
            start, generation = time.perf_counter(), one.of(self.spec.full)
            share = len(world.share(generation.images))
            groups = min(self.spec.error_groups, generation.images // 2)
            drawn = [
                self._draw(
                    heard.each(self._generate(network, generation, noise, world)),
                    share,
                    world,
                    SHOWN["full"],
                    groups,
                )
                for noise in noises
            ]
            errors = {
                f"{name}.{one.name}": error
                for name, error in of_mean([each.errors for each in drawn]).items()
            }
            found.append(
                _measurement(drawn, self._values(drawn, one), start, self._protocol(one), errors)
            )
        return found

    def measure_images(
        self, images: Tensor, watch: Callable[[int, int], None] = _unheard
    ) -> Measurement:
        """The comparisons of images [N, ...] in [-1, 1] that are there already, on one worker.

        Protocol ids are of their own: nobody knows how the images came about, only how many and what they meet.
        """
        start, heard = time.perf_counter(), _Heard(watch, len(images))
        parts = (x.to(self.source.device) for x in torch.split(images, self.spec.batch_size))
        groups = self.spec.error_groups
        drawn = [self._draw(heard.each(parts), len(images), World(0, 1), SHOWN["full"], groups)]
        protocol = {
            name: hashlib.sha256(f"saved images, {identifier}".encode()).hexdigest()[:12]
            for name, identifier in self._protocol("full").items()
        }
        errors = of_mean([drawn[0].errors])
        return _measurement(drawn, self._values(drawn, "full"), start, protocol, errors)

    def _values(self, drawn: Sequence[_Draw], part: Part | Also) -> dict[str, list[float]]:
        """Of every comparison, its value in each draw."""
        return {
            _named(metric, part): [one.values[metric.name] for one in drawn]
            for metric in self.spec.comparisons
        }

    def _count(self, metric: ModelMetric, part: Part) -> int:
        """Real images that the metric asks about."""
        source = self._of(self.spec.split_of(metric))
        return min(metric.images or self._generation(part).images, len(source))

    def _ask(
        self,
        metric: ModelMetric,
        network: Callable[..., Tensor],
        part: Part,
        world: World,
        more: Callable[[float], None] = lambda _count: None,
    ) -> "_Answer":
        """Of evenly spaced real images, shared by the workers; `more` hears of each pass as its share of the images."""
        source, batch = self._of(self.spec.split_of(metric)), self.spec.batch_size
        count, passes = self._count(metric, part), metric.passes(self.diffusion)
        mine = world.share(count)
        total = torch.zeros(2 + len(metric.parts), dtype=torch.float64, device=source.device)
        for first in range(mine.start, mine.stop, batch):
            numbers = torch.arange(first, min(first + batch, mine.stop), device=source.device)
            rows = numbers * len(source) // count
            told = together([one.known(source, rows, self.spec.noise_seed) for one in self.inputs])
            asked = bound(network, told)

            def passed(x: Tensor, condition: Tensor, asked: Network = asked) -> Tensor:
                more(len(x) / passes)
                return asked(x, condition)

            x0 = source.codec.scale(source.read(rows))
            about = (source.codec, x0, rows)
            shown = Shown(passed, self.diffusion, *about, self.spec.noise_seed)
            values, terms = metric.explained(shown)
            columns = [values, values.double().square(), *(terms[name] for name in metric.parts)]
            total += torch.stack([column.double().sum() for column in columns])
        world.sum_(total)
        mean, square, *parts = (total / count).tolist()
        error = math.sqrt(max(0.0, square - mean**2) / max(1, count - 1))
        return _Answer(mean, error, dict(zip(metric.parts, parts, strict=True)))

    def _generation(self, part: Part) -> Generation:
        generation = self.spec.full if part == "full" else self.spec.rung
        assert generation is not None
        return generation

    def _draw(
        self, images: Iterable[Tensor], share: int, world: World, kept: int, groups: int
    ) -> _Draw:
        """One set, of which this worker has `share` images; its first `kept`, and standard errors by so many groups."""
        gathered = [
            Gathered(space.extractor, space.metrics, share, keep=groups > 0)
            for space in self._spaces
        ]
        shown: list[Tensor] = []
        for x in images:
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


class _Answer(NamedTuple):
    """What a network says of real images."""

    value: float
    """The mean."""
    error: float
    """Its standard error."""
    terms: dict[str, float]
    """What the mean consists of."""


class _Heard:
    """How many images are done, told to whoever listens."""

    def __init__(self, watch: Callable[[int, int], None], total: int) -> None:
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


def _measurement(
    drawn: Sequence[_Draw],
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


def _named(metric: AnyMeasure, part: Part | Also) -> str:
    """`eval/fid`, `rung/fid`, `eval/fid.NAME`."""
    if isinstance(part, Also):
        return f"{PREFIX['full']}/{metric.name}.{part.name}"
    return f"{PREFIX[part]}/{metric.name}"

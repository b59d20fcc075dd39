"""How good are the samples now? Generates on all workers, streams features, returns metrics."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.compiling import eager, filled
from trainer.data import Source
from trainer.diffusion.process import Diffusion
from trainer.distributed import World
from trainer.evaluation.asking import Answer, ask
from trainer.evaluation.errors import of_mean
from trainer.evaluation.generation import Also, Generation, generate
from trainer.evaluation.measurement import (
    SHOWN,
    Draw,
    Heard,
    Measurement,
    Part,
    Watch,
    measurement,
    named,
    unheard,
)
from trainer.evaluation.metric import AnyMeasure, ModelMetric
from trainer.evaluation.protocol import Evaluation
from trainer.evaluation.spaces import Spaces, Splits
from trainer.inputs import NetworkInput
from trainer.replayed import Forward


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
        for one in spec.questions:
            one.check(source.codec)
        self._splits: Splits = {"train": source}
        if held_out is not None:
            self._splits["test"] = held_out
        self.held_out = None if held_out is None else held_out.fingerprint
        """Fingerprint of the test split, where something looks at it."""
        self._spaces = Spaces(spec, self._splits, cache)
        self.spaces = self._spaces.remarks()
        """Kind of a feature space to what is known of it."""

    def _of(self, metric: AnyMeasure) -> Source:
        """The real images that a metric looks at."""
        return self._splits[self.spec.split_of(metric)]

    def protocols(self) -> dict[str, str]:
        """Protocol id of every metric: `eval/...`, and `rung/...` if there is a cheap curve."""
        parts: list[Part] = ["full"] if self.spec.rung is None else ["full", "rung"]
        return {
            name: identifier
            for part in (*parts, *self.spec.also)
            for name, identifier in self._protocol(part).items()
        }

    def _protocol(self, part: Part | Also) -> dict[str, str]:
        identities = self._spaces.identities(part)
        metrics = self.spec.comparisons if isinstance(part, Also) else self.spec.metrics
        return {
            named(metric, part): self.spec.protocol_id(
                metric,
                part,
                identities.get(metric.name) or self._of(metric).fingerprint,
            )
            for metric in metrics
        }

    def measure(
        self,
        network: Callable[..., Tensor],
        part: Part,
        world: World,
        watch: Watch = unheard,
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
        drawing = self._drawing(network, world)
        heard = Heard(watch, len(noises) * len(world.share(generation.images)))
        heard.total += sum(len(world.share(self._count(one, part))) for one in self.spec.questions)
        drawn = [
            self._spaces.draw(
                heard.each(self._generate(drawing, generation, noise, world)),
                generation.images,
                world,
                part,
                groups,
            )
            for noise in noises
        ]
        draws = self._values(drawn, part)
        finite, errors = all(one.finite for one in drawn), of_mean([one.errors for one in drawn])
        terms = {}
        for metric in self.spec.questions:
            row, answer = named(metric, part), Answer(math.nan, 0.0, {})
            if finite:
                answer = self._ask(metric, eager(network), part, world, heard.more)
            draws[row] = [answer.value]
            if answer.terms:
                terms[row] = answer.terms
            if part == "full" and self.spec.error_groups and finite:
                errors[f"se/{metric.name}"] = answer.error
        return measurement(drawn, draws, start, self._protocol(part), errors, terms)

    def measure_also(
        self,
        network: Callable[..., Tensor],
        world: World,
        watch: Watch = unheard,
    ) -> list[Measurement]:
        """The same under every further protocol of finished weights; metrics are named `eval/NAME.PROTOCOL`."""
        found, drawing = [], self._drawing(network, world)
        noises = self.spec.noises("full")
        counts = [len(world.share(one.of(self.spec.full).images)) for one in self.spec.also]
        heard = Heard(watch, len(noises) * sum(counts))
        for one in self.spec.also if self._spaces else ():
            start, generation = time.perf_counter(), one.of(self.spec.full)
            groups = min(self.spec.error_groups, generation.images // 2)
            drawn = [
                self._spaces.draw(
                    heard.each(self._generate(drawing, generation, noise, world)),
                    generation.images,
                    world,
                    "full",
                    groups,
                )
                for noise in noises
            ]
            errors = {
                f"{name}.{one.name}": error
                for name, error in of_mean([each.errors for each in drawn]).items()
            }
            found.append(
                measurement(drawn, self._values(drawn, one), start, self._protocol(one), errors)
            )
        return found

    def measure_images(self, images: Tensor, watch: Watch = unheard) -> Measurement:
        """The comparisons of images [N, ...] in [-1, 1] that are there already, on one worker.

        Protocol ids are of their own: nobody knows how the images came about, only how many and what they meet.
        """
        start, heard = time.perf_counter(), Heard(watch, len(images))
        parts = (x.to(self.source.device) for x in torch.split(images, self.spec.batch_size))
        groups = self.spec.error_groups
        drawn = [self._spaces.draw(heard.each(parts), len(images), World(0, 1), "full", groups)]
        protocol = {
            name: hashlib.sha256(f"saved images, {identifier}".encode()).hexdigest()[:12]
            for name, identifier in self._protocol("full").items()
        }
        errors = of_mean([drawn[0].errors])
        return measurement(drawn, self._values(drawn, "full"), start, protocol, errors)

    def _values(self, drawn: Sequence[Draw], part: Part | Also) -> dict[str, list[float]]:
        """Of every comparison, its value in each draw."""
        return {
            named(metric, part): [one.values[metric.name] for one in drawn]
            for metric in self.spec.comparisons
        }

    def _count(self, metric: ModelMetric, part: Part) -> int:
        """Real images that the metric asks about."""
        source = self._of(metric)
        return min(metric.images or self._generation(part).images, len(source))

    def _ask(
        self,
        metric: ModelMetric,
        network: Callable[..., Tensor],
        part: Part,
        world: World,
        more: Callable[[float], None] = lambda _count: None,
    ) -> Answer:
        """What the network says of real images; `more` hears of each pass as its share of them."""
        spec = self.spec
        return ask(
            metric,
            network,
            self.diffusion,
            self.inputs,
            self._of(metric),
            self._count(metric, part),
            world,
            seed=spec.noise_seed,
            batch=spec.batch_size,
            more=more,
        )

    def _drawing(self, network: Callable[..., Tensor], world: World) -> Forward:
        """The network as samples are made with it; one that is compiled has one graph for each protocol's batches."""
        ways = self.spec.generations() if self._spaces else []
        counts = [min(self.spec.batch_size, len(world.share(way.images))) for _, way in ways]
        return Forward(filled(network, counts))

    def _generation(self, part: Part) -> Generation:
        generation = self.spec.full if part == "full" else self.spec.rung
        assert generation is not None
        return generation

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

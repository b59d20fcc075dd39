"""How good are the samples now? Generates on all workers, streams features, returns metrics."""

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from trainer.data import Dataset
from trainer.diffusion.process import Diffusion, Network
from trainer.diffusion.solver import Denoiser
from trainer.distributed import World
from trainer.evaluation.metric import (
    Manifold,
    Moments,
    Reference,
    frechet_distance,
    kernel_distance,
    precision,
    recall,
)
from trainer.evaluation.protocol import Evaluation, Generation
from trainer.randomness import Stream

PER_IMAGE = frozenset({"kid", "precision", "recall"})
"""Metrics that need the features of every image, not only their moments."""
SHOWN = {"full": 64, "rung": 16}
"""Samples kept for the picture of each protocol."""


@dataclass(frozen=True)
class Measurement:
    """Metrics of one generated set and the first samples of it."""

    metrics: dict[str, float]
    samples: Tensor
    seconds: float
    finite: bool


class Evaluator:
    """The extractor and the reference of one trial, ready to measure."""

    def __init__(
        self,
        spec: Evaluation,
        diffusion: Diffusion,
        dataset: Dataset,
        cache: Path,
        classes: int | None = None,
    ) -> None:
        self.spec = spec
        self.classes = classes
        self.diffusion = diffusion
        self.dataset = dataset
        self.extract, weights = spec.features.build(dataset, cache)
        real = dataset.scaled(dataset.examples)
        batches = torch.split(real, spec.batch_size)
        self.reference = Reference.of(
            torch.cat([self.extract(batch).double() for batch in batches])
        )
        self.reference_id = f"{dataset.fingerprint()}/{spec.features.digest()}/{weights}"

    def protocols(self) -> dict[str, str]:
        """Protocol ids under the names their metrics carry: eval, and rung if there is one."""
        ids = {
            "eval": self.spec.protocol_id("full", self.reference_id),
            "rung": self.spec.protocol_id("rung", self.reference_id),
        }
        return {name: value for name, value in ids.items() if value is not None}

    def measure(self, network: Network, name: Literal["full", "rung"], world: World) -> Measurement:
        """Generate with `network` under one protocol and compare with the reference.

        Metrics are named `eval/...` for the full protocol and `rung/...` for the cheap one.
        """
        generation = self.spec.full if name == "full" else self.spec.rung
        assert generation is not None
        start = time.perf_counter()
        moments = Moments.empty(self.reference.mean.numel(), self.reference.mean.device)
        kept: list[Tensor] = []
        shown: list[Tensor] = []
        for x in self._generate(network, generation, world):
            features = self.extract(x)
            moments.add(features)
            if not PER_IMAGE.isdisjoint(self.spec.metrics):
                kept.append(features)
            if sum(map(len, shown)) < SHOWN[name]:
                shown.append(x)
        world.sum_(moments.count, moments.total, moments.outer)
        everyone = world.gather(torch.cat(kept)) if kept else None
        prefix = "eval" if name == "full" else "rung"
        finite = bool(torch.isfinite(moments.outer).all())
        values = (
            self._distances(moments, everyone)
            if finite
            else dict.fromkeys(self.spec.metrics, float("nan"))
        )
        return Measurement(
            {f"{prefix}/{metric}": value for metric, value in values.items()},
            torch.cat(shown)[: SHOWN[name]],
            time.perf_counter() - start,
            finite,
        )

    def _distances(self, moments: Moments, features: Tensor | None) -> dict[str, float]:
        values: dict[str, float] = {}
        if "fid" in self.spec.metrics:
            values["fid"] = frechet_distance(moments, self.reference)
        if features is None:
            return values
        if "kid" in self.spec.metrics:
            values["kid"] = kernel_distance(features, self.reference.features)
        if "precision" in self.spec.metrics:
            values["precision"] = precision(features, self.manifold)
        if "recall" in self.spec.metrics:
            values["recall"] = recall(features, self.manifold)
        return values

    @functools.cached_property
    def manifold(self) -> Manifold:
        """The balls around the reference, measured once."""
        return Manifold.of(self.reference.features)

    @torch.inference_mode()
    def _generate(self, network: Network, generation: Generation, world: World) -> Iterator[Tensor]:
        """Quantized samples of this worker's share, in batches."""
        mine = world.share(generation.images)
        for first in range(mine.start, mine.stop, self.spec.batch_size):
            index = range(first, min(first + self.spec.batch_size, mine.stop))
            seed = self.spec.noise_seed
            yield generate(
                network, self.diffusion, self.dataset, generation, index, seed, self.classes
            )


@torch.inference_mode()
def generate(
    network: Network,
    diffusion: Diffusion,
    dataset: Dataset,
    generation: Generation,
    index: range,
    noise_seed: int,
    classes: int | None = None,
) -> Tensor:
    """Samples number `index`, rounded to the data's values.

    Sample i starts from the same noise, and has the same label, in every trial of an experiment. A network
    with `classes` gets labels drawn as often as the data has them.
    """
    device = dataset.examples.device
    numbers = torch.arange(index.start, index.stop, device=device)
    start = Stream(noise_seed, "generate/start").normal(numbers, dataset.shape)
    grid = (generation.grid or diffusion.schedule).grid(generation.steps).to(device)
    labels = None if classes is None else _labels(dataset, numbers, noise_seed)
    denoiser: Denoiser = diffusion.denoiser(network, clip=generation.clip, labels=labels)
    if generation.guidance is not None and classes is not None:
        hidden = torch.full_like(numbers, classes)
        without = diffusion.denoiser(network, clip=generation.clip, labels=hidden)
        denoiser = generation.guidance.denoiser(denoiser, without)
    x0 = generation.solver.sample(
        denoiser,
        grid,
        start,
        lambda step: Stream(noise_seed, f"generate/step/{step}").normal(numbers, dataset.shape),
    )
    return dataset.quantized(x0)


def _labels(dataset: Dataset, numbers: Tensor, noise_seed: int) -> Tensor:
    """The label of each sample, that of a row of the data drawn for its number."""
    assert dataset.labels is not None
    u = Stream(noise_seed, "generate/label").uniform(numbers)
    return dataset.labels[(u * len(dataset)).long()]

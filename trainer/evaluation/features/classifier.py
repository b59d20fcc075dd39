"""How are images compared offline? By a small classifier that the data's own labels trained."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.bounds import Seed
from trainer.data import Absent, Codec, Source
from trainer.data.base import DataSpec
from trainer.errors import UserError
from trainer.evaluation.features.base import Extractor, FeatureSpace, needs_images
from trainer.files import made_once
from trainer.lazily import torch
from trainer.randomness import GENERATOR, Stream, derive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.evaluation.features.classifier_network import Network


_BATCH = 128
_ASKED = 10_000
"""Images at most whose labels are asked for its accuracy, evenly spaced."""
_TELL_S = 10.0
"""Seconds between two lines about a training that takes long."""
_TIMED = 4
"""Steps that an estimate is made of, the first left out."""


class Classifier(FeatureSpace):
    """Last hidden layer of a small convolutional classifier, trained once on the data's labels and cached.

    Its Frechet distance ranks trials on one data set; it is not the Inception FID of papers. Training takes seconds
    on 8 x 8 images and minutes of a CPU on 32 x 32: `plan` says how long.
    """

    words: ClassVar[str] = (
        "the last hidden layer of a small classifier trained on the data's own labels (it ranks trials on this "
        "data set; it is not the Inception FID of papers)"
    )
    classifies: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    kind: Literal["classifier"] = "classifier"
    width: Annotated[int, Field(ge=1, le=4096)] = 64
    """Dimensions of the feature space; twice Inception's at most, as its covariance has their square."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 600
    """Training steps of 128 images."""
    seed: Seed = 0
    """Seed of its initial weights, batches and shifts."""

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """`width`."""
        return self.width

    def foresee(self, data: DataSpec) -> None:
        """Images."""
        needs_images(self.kind, data.shape)

    def check(self, codec: Codec) -> None:
        """Labels."""
        needs_images(self.kind, codec.shape)
        if codec.classes is None:
            raise UserError(
                "evaluation.features: classifier needs labels, the data has none: "
                "put images into one sub-folder per class, or use kind: pixels"
            )

    def is_made(self, source: Source, cache: Path) -> bool:
        """Its weights are kept."""
        return self._file(source, cache).exists()

    def seconds(self, source: Source) -> float:
        """Some steps, times how many there are."""
        times: list[float] = []
        _train(self._network(source.codec), source, self.steps, self.seed, times.append, _TIMED)
        return self.steps * sum(times[1:]) / len(times[1:])

    def quick(self) -> Classifier:
        """Hardly trained."""
        return self.model_copy(update={"steps": 1})

    def prepare(self, source: Source, cache: Path) -> None:
        """Train."""
        if not self.is_made(source, cache):
            self.build(source, cache)

    def build(self, source: Source, cache: Path) -> Extractor:
        """The trained extractor; the first process that asks trains it. UserError: the data has no labels."""
        self.check(source.codec)
        network, file = self._network(source.codec), self._file(source, cache)

        def trained() -> bytes:
            _train(network, source, self.steps, self.seed, _Progress(self.steps))
            written = io.BytesIO()
            torch.save(network.state_dict(), written)
            return written.getvalue()

        content = made_once(file, trained)
        network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        network.eval().requires_grad_(False).to(source.device)
        weights = hashlib.sha256(content).hexdigest()[:12]
        remark = _remark(network, source, file.with_suffix(".json"))
        return Extractor(network.features, weights, network.classify, remark)

    def unseen(self, extractor: Extractor, held_out: Source, cache: Path) -> str:
        """How many of the unseen images it names rightly."""
        if extractor.classify is None or held_out.codec.classes is None:
            return ""
        file = cache / f"classifier-{extractor.weights}-on-{held_out.fingerprint}.json"
        known = _kept_accuracy(extractor.features, extractor.classify, held_out, file)
        return (
            ""
            if known is None
            else f"{100 * known['accuracy']:.1f} % of {known['images']:,} unseen ones"
        )

    def _file(self, source: Source, cache: Path) -> Path:
        return cache / f"classifier-{source.fingerprint}-{self.digest()}.pt"

    def _network(self, codec: Codec) -> Network:
        assert codec.classes is not None, "checked"
        from trainer.evaluation.features.classifier_network import Network

        return Network(codec.shape, self.width, codec.classes)


def _train(
    network: nn.Module,
    source: Source,
    steps: int,
    seed: int,
    took: Callable[[float], None],
    until: int | None = None,
) -> None:
    """One-cycle AdamW with shifts by a pixel and a little noise; seeded, so that a machine repeats itself.

    `took` is called with the seconds of every step; `until` ends it early, to know them.
    """
    pick, jitter = Stream(seed, "classifier/pick"), Stream(seed, "classifier/noise")
    with GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "classifier/init"))
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.reset_parameters()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(min(steps, until or steps)):
        began = time.perf_counter()
        index = torch.arange(step * _BATCH, (step + 1) * _BATCH)
        rows = (pick.uniform(index) * len(source)).long().to(source.device)
        x, y = source.codec.scale(source.read(rows)).cpu(), source.labels_of(rows)
        assert y is not None
        move = (pick.bits(torch.tensor([-2 * step - 1, -2 * step - 2])) % 3 - 1).tolist()
        batch = torch.nn.functional.pad(x, (1, 1, 1, 1), value=-1.0)
        batch = torch.roll(batch, move, (2, 3))[..., 1:-1, 1:-1]
        batch = batch + 0.05 * jitter.normal(index, source.codec.shape)
        loss = torch.nn.functional.cross_entropy(network(batch), y.cpu(), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
        took(time.perf_counter() - began)


class _Progress:
    """Lines on standard error about a training that takes more than some seconds."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done, self._took, self._told = steps, 0, 0.0, 0.0

    def __call__(self, seconds: float) -> None:
        self._done += 1
        self._took += seconds
        if self._took - self._told < _TELL_S:
            return
        self._told = self._took
        left = self._took / self._done * (self._steps - self._done)
        print(
            f"training the classifier that images are compared by, once for this data: step {self._done} of "
            f"{self._steps}, about {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def _remark(network: Network, source: Source, file: Path) -> str:
    """How many of its own training images it names rightly, kept beside the weights; empty where nobody knows.

    Nothing is held out of what it trains on: a classifier of less would be another space, and every number and name
    that was ever measured in this one would be lost. Where there is a test split, `unseen` asks about that.
    """
    known = _kept_accuracy(network.features, network.classify, source, file)
    if known is None:
        return ""
    return f"it names {100 * known['accuracy']:.1f} % of {known['images']:,} images that it was trained on"


def _kept_accuracy(
    features: Callable[[Tensor], Tensor],
    classify: Callable[[Tensor], Tensor],
    source: Source,
    file: Path,
) -> dict[str, float] | None:
    """`accuracy` over some `images`, from the file or made; None where the examples are not at hand."""
    if not file.exists() and isinstance(source, Absent):
        return None
    made = made_once(file, lambda: json.dumps(_accuracy(features, classify, source)).encode())
    known: dict[str, float] = json.loads(made)
    return known


def _accuracy(
    features: Callable[[Tensor], Tensor], classify: Callable[[Tensor], Tensor], source: Source
) -> dict[str, float]:
    right, count = 0, min(len(source), _ASKED)
    every = torch.arange(count, device=source.device) * len(source) // count
    for rows in torch.split(every, 500):
        seen = features(source.codec.scale(source.read(rows)))
        labels = source.labels_of(rows)
        assert labels is not None, "checked"
        right += int((classify(seen).argmax(1) == labels).sum())
    return {"accuracy": right / count, "images": count}


TrainedSpaces = Classifier
"""The members of this file: a new space that is trained on the data is one class above and one name here."""

"""How good is a trained model, or a set of saved samples, under any protocol? The evaluation that training has."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from trainer.data import Absent, Codec, Source
from trainer.distributed import World
from trainer.errors import DataError, UserError
from trainer.evaluation.evaluator import Evaluator, Measurement, Part
from trainer.evaluation.metric import Metric, ModelMetric
from trainer.evaluation.protocol import Also, Evaluation, Generation
from trainer.exchange.folder import set_of
from trainer.exchange.pictures import from_bytes, read_image
from trainer.trained import Trained

_E = TypeVar("_E", bound=Evaluator)
Progress = Callable[[int], None]
"""Hears how many more images are done."""


class _Watched(Evaluator):
    """An evaluation that says how far it is."""

    on_more: Progress = staticmethod(lambda _count: None)

    def _generate(
        self,
        network: Callable[..., Tensor],
        generation: Generation,
        noise_seed: int,
        world: World,
    ) -> Iterator[Tensor]:
        for x in super()._generate(network, generation, noise_seed, world):
            self.on_more(len(x))
            yield x


class _Saved(Evaluator):
    """An evaluation whose images are there already."""

    images: Tensor

    def _generate(
        self,
        network: Callable[..., Tensor],
        generation: Generation,
        noise_seed: int,
        world: World,
    ) -> Iterator[Tensor]:
        for x in torch.split(self.images, self.spec.batch_size):
            yield x.to(self.source.device)

    def _protocol(self, part: Part | Also) -> dict[str, str]:
        """Of their own: nobody knows how saved images came about, only how many they are and what they meet."""
        return {
            name: hashlib.sha256(f"saved images, {identifier}".encode()).hexdigest()[:12]
            for name, identifier in super()._protocol(part).items()
        }


def measure_model(
    trained: Trained,
    cache: Path,
    data_root: Path,
    part: Part = "full",
    on_more: Progress = lambda _count: None,
) -> Measurement:
    """The metrics of a model under one of its protocols; with an unchanged protocol the numbers of its training.

    The data set is read only where the cache lacks something of it; DataError where it is absent then.
    """
    evaluation = trained.trial.evaluation
    if part == "rung" and evaluation.rung is None:
        raise UserError("evaluation.rung: this model has no cheap protocol; use the full one")
    evaluator = _evaluator(_Watched, trained, evaluation, cache, data_root)
    evaluator.on_more = on_more
    return evaluator.measure(trained.network, part, World(0, 1))


def measure_images(trained: Trained, images: Tensor, cache: Path, data_root: Path) -> Measurement:
    """The metrics of images [N, ...] in [-1, 1] against the data of a model, in the feature spaces of its protocol.

    Raises UserError where they are too few, or nothing of the protocol looks at images alone.
    """
    metrics = [one for one in trained.trial.evaluation.metrics if isinstance(one, Metric)]
    if not metrics:
        raise UserError(
            "evaluation.metrics: none of them looks at images alone; add one such as fid"
        )
    most = max(metric.fewest_images for metric in metrics)
    if len(images) < most:
        raise UserError(f"{len(images)} images are too few: {most} or more are needed")
    plain = trained.trial.evaluation.model_dump(mode="json")
    full = {"images": len(images), "steps": 1}
    kept = [metric.model_dump(mode="json") for metric in metrics]
    spec = Evaluation.model_validate(
        plain | {"full": full, "rung": None, "draws": 1, "metrics": kept, "also": []}
    )
    evaluator = _evaluator(_Saved, trained, spec, cache, data_root)
    evaluator.images = images
    return evaluator.measure(trained.network, "full", World(0, 1))


def _evaluator(
    kind: type[_E], trained: Trained, spec: Evaluation, cache: Path, data_root: Path
) -> _E:
    inputs = trained.trial.network_inputs()
    if not any(isinstance(metric, ModelMetric) for metric in spec.metrics):  # they look at examples
        absent: Source = Absent(trained.codec, trained.fingerprint, trained.device)
        with contextlib.suppress(DataError):
            return kind(spec, trained.diffusion, absent, cache, inputs)
    source = trained.trial.data.load(data_root, cache).to(trained.device)
    if source.fingerprint != trained.fingerprint:
        raise DataError(
            f"data: what lies here ({source.fingerprint}) is not what the model was trained on "
            f"({trained.fingerprint}): bring that data back, or the cache of the machine that trained"
        )
    return kind(spec, trained.diffusion, source, cache, inputs)


# Saved samples


def saved_images(path: Path, codec: Codec) -> Tensor:
    """Images [N, ...] in [-1, 1] of a folder of image files or an npz; UserError where they are none of the model's."""
    if path.is_dir():
        files = set_of(path)
        if not files:
            raise UserError(f"{path} holds no images")
        return torch.cat([read_image(file, codec) for file in files])
    return _of_npz(path, codec)


def _of_npz(path: Path, codec: Codec) -> Tensor:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            name = "arr_0" if "arr_0" in arrays.files else arrays.files[0]
            values = arrays[name]
    except FileNotFoundError:
        raise UserError(f"{path} is not there: name an npz of samples") from None
    except (OSError, ValueError, IndexError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path} is no npz of plain arrays, or damaged") from None
    if len(codec.shape) != 3:
        _refuse_shape(path, values.shape[1:], codec.shape)
        return torch.from_numpy(values.astype(np.float32))
    channels, *sides = codec.shape
    _refuse_shape(path, values.shape[1:], (*sides, channels))
    if values.dtype != np.uint8:
        raise UserError(
            f"{path}: `{name}` holds {values.dtype} numbers, samples are uint8 from 0 to 255: convert them, rounded"
        )
    return from_bytes(values, codec)


def _refuse_shape(path: Path, there: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if tuple(there) != tuple(wanted):
        raise UserError(
            f"{path}: its samples are {_times(there)}, those of the model {_times(wanted)}: make them equal first"
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "single numbers"

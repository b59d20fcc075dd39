"""How good is a trained model, or a set of saved samples, under any protocol? The evaluation that training has."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.data import Codec, Source, held_out_source
from trainer.distributed import World
from trainer.errors import DataError, UserError
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.measurement import Measurement, Part, Watch, unheard
from trainer.evaluation.metric import Metric
from trainer.evaluation.protocol import Evaluation
from trainer.exchange.folder import set_of
from trainer.exchange.pictures import from_bytes, read_image
from trainer.trained import Trained


def measure_model(
    trained: Trained, cache: Path, data_root: Path, part: Part = "full", watch: Watch = unheard
) -> Measurement:
    """The metrics of a model under one of its protocols; with an unchanged protocol the numbers of its training.

    The data set is read only where the cache lacks something of it; DataError where it is absent then.
    """
    evaluation = trained.trial.evaluation
    if part == "rung" and evaluation.rung is None:
        raise UserError("evaluation.rung: this model has no cheap protocol; use the full one")
    evaluator = _evaluator(trained, evaluation, cache, data_root)
    return evaluator.measure(trained.network, part, World(0, 1), watch)


def measure_further(
    trained: Trained, cache: Path, data_root: Path, watch: Watch = unheard
) -> list[Measurement]:
    """The same under each of the trial's further protocols (`evaluation.also`)."""
    evaluation = trained.trial.evaluation
    if not evaluation.also:
        return []
    evaluator = _evaluator(trained, evaluation, cache, data_root)
    return evaluator.measure_also(trained.network, World(0, 1), watch)


def measure_images(trained: Trained, images: Tensor, cache: Path, data_root: Path) -> Measurement:
    """The metrics of images [N, ...] in [-1, 1] against the data of a model, in the feature spaces of its protocol.

    Raises UserError where they are too few, or nothing of the protocol looks at images alone.
    """
    metrics = [one for one in trained.trial.evaluation.metrics if isinstance(one, Metric)]
    if not metrics:
        raise UserError(
            "evaluation.metrics: none of them looks at images alone; add one such as fid"
        )
    most = max(metric.fewest for metric in metrics)
    if len(images) < most:
        raise UserError(f"{len(images)} images are too few: {most} or more are needed")
    plain = trained.trial.evaluation.model_dump(mode="json")
    full = {"images": len(images), "steps": 1}
    kept = [metric.model_dump(mode="json") for metric in metrics]
    changed = {"full": full, "rung": None, "draws": 1, "metrics": kept, "also": []}
    try:
        spec = Evaluation.model_validate(plain | changed)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"evaluation.{said}") from None
    return _evaluator(trained, spec, cache, data_root).measure_images(images)


def _evaluator(trained: Trained, spec: Evaluation, cache: Path, data_root: Path) -> Evaluator:
    """With what the cache knows of the data, or the data itself where somebody looks at it or the cache lacks it."""
    if not spec.questions and (not spec.looks_at_test or trained.held_out is not None):
        with contextlib.suppress(DataError):
            return trained.evaluator(spec, cache)
    data, on = trained.trial.data, trained.device
    source = data.load(data_root, cache).to(on)
    _must_be(source, trained.fingerprint)
    held_out = None
    if spec.looks_at_test:
        held_out = held_out_source(data, source.codec, data_root, cache, on)
        _must_be(held_out, trained.held_out or held_out.fingerprint)
    inputs = trained.trial.network_inputs()
    return Evaluator(spec, trained.diffusion, source, cache, inputs, held_out)


def _must_be(source: Source, fingerprint: str) -> None:
    if source.fingerprint != fingerprint:
        raise DataError(
            f"data: what lies here ({source.fingerprint}) is not what the model was trained and measured on "
            f"({fingerprint}): bring that data back, or the cache of the machine that trained"
        )


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
        if values.dtype.kind not in "fiu":
            raise UserError(f"{path}: `{name}` holds {values.dtype}, points are real numbers")
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

"""Which examples does training not see? The test split of a data set, in the terms of the one that is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.base import DataSpec, Outline
from trainer.data.codec import Codec
from trainer.data.source import Source
from trainer.data.through import Through
from trainer.errors import DataError
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


def held_out_outline(data: DataSpec, root: Path, cache: Path | None) -> Outline:
    """What is known of the test split before it is decoded. DataError says how to name one."""
    spec = _spec(data, root, cache)
    with _about(data):
        return spec.outline(root, cache)


def held_out_source(
    data: DataSpec, trained: Codec, root: Path, cache: Path | None, device: torch.device
) -> Source:
    """The examples of the test split, labels numbered as `trained` numbers them.

    Raises DataError where there is no test split, or it is of another kind than what is trained on.
    """
    spec = _spec(data, root, cache)
    with _about(data):
        return in_terms_of(trained, spec.load(root, cache).to(device))


def in_terms_of(trained: Codec, source: Source) -> Source:
    """The same examples with the labels' numbers of training. DataError where training knows no such label."""
    codec = source.codec
    if (codec.shape, codec.levels, codec.tags) != (trained.shape, trained.levels, trained.tags):
        raise DataError(
            f"data: the test split is {_said(codec)}, what is trained on {_said(trained)}: name one of the same kind"
        )
    there, known = codec.label_names, trained.label_names
    if there == known or there is None or known is None:
        return source
    strange = [name for name in there if name not in known]
    if strange:
        raise DataError(
            f"data: the test split has the class `{strange[0]}`, which is not trained on: give both the same classes"
        )
    numbers = torch.tensor([known.index(name) for name in there], device=source.device)
    return _Renumbered(source, trained, numbers)


class _Renumbered(Through):
    """Some of the classes, under the numbers that all of them have."""

    def __init__(self, source: Source, codec: Codec, numbers: Tensor) -> None:
        super().__init__(source, codec)
        self._numbers = numbers

    def labels_of(self, rows: Tensor) -> Tensor | None:
        own = super().labels_of(rows)
        return None if own is None else self._numbers[own]

    def to(self, device: torch.device) -> Source:
        return _Renumbered(self._source.to(device), self.codec, self._numbers.to(device))


def _spec(data: DataSpec, root: Path, cache: Path | None) -> DataSpec:
    spec = data.held_out(root, cache)
    if spec is None:
        raise DataError(
            f"{data.without_test}; or measure on what is trained on: evaluation.reference: train, and no split: test"
        )
    return spec


@contextmanager
def _about(data: DataSpec) -> Iterator[None]:
    """A complaint about the test split's path is one about the field that names it."""
    try:
        yield
    except DataError as error:
        text = str(error)
        own = "test" in type(data).model_fields
        raise DataError(
            text.replace("data.path:", "data.test:", 1) if own else f"{text} (the test split)"
        ) from None


def _said(codec: Codec) -> str:
    tags = "" if codec.tags is None else f" with {len(codec.tags)} tags"
    return f"{' x '.join(map(str, codec.shape))} in {(codec.levels or 0) + 1} levels{tags}"

"""Pictures that lie in one array of a .npz or .npy file, as guided-diffusion writes them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import model_validator

from trainer.bounds import MANY, Count
from trainer.data.array_file import ArrayFile
from trainer.data.framed import OwnFiles, Place
from trainer.data.labelling import many, some
from trainer.data.listing import printable
from trainer.data.picture import Frame, seen
from trainer.data.pictures import Pictures
from trainer.data.said import counted, stored
from trainer.errors import DataError, suggestion
from trainer.lazily import torch
from trainer.spec import Neutral

_USUAL_LABELS = "arr_1"
"""guided-diffusion's name; a file may well be without."""
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Channels that are colours, and Pillow's name for these."""
_COLOURS = tuple(_MODES)


class Arrays(OwnFiles):
    """uint8 images [N, H, W, C] or [N, H, W] of a .npz (or .npy) file, with integer labels [N] beside them."""

    kind: Literal["npz"] = "npz"
    path: Place
    """File; relative paths start at the data root (the working directory)."""
    images: str = "arr_0"
    """Name of the array of images in a .npz."""
    labels: str | None = _USUAL_LABELS
    """Name of the array of labels; null: there are none, as where the file has no arr_1 and no other name is given."""

    channels: Annotated[Count | None, Neutral(None)] = None
    """Number of channels that are no colours, such as 5 of a spectrum, each kept as it is; null: 1 or 2 are grey (with
    alpha), 3 or 4 RGB."""

    @model_validator(mode="after")
    def _colours_or_not(self) -> Arrays:
        for name in ("grayscale", "alpha"):
            if self.channels is not None and getattr(self, name):
                raise ValueError(
                    f"{name}: is said of colours, and channels of what is none: leave one of them out"
                )
        return self

    @property
    def frame(self) -> Frame:
        """What every picture is fitted to."""
        return replace(super().frame, bands=self.channels)

    def _pictures(self, root: Path, cache: Path | None) -> ArrayPictures:
        try:
            file = (root / Path(self.path).expanduser()).resolve()
            is_file = file.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself, ~nobody, a NUL
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(
                f"data.path: {printable(self.path)[:200]} cannot be a file ({reason}): write where the .npz is"
            ) from None
        if not is_file:
            raise DataError(
                f"data.path: {printable(file)} is not a file on this machine: write where the .npz is"
            )
        return ArrayPictures(self, ArrayFile(file), cache)


class ArrayPictures(Pictures):
    """Images of an array; of a .npz a mapped copy is made when the first of them is asked for."""

    def __init__(self, spec: Arrays, file: ArrayFile, cache: Path | None) -> None:
        """Raises DataError where the array is damaged or holds no images, or the labels do not fit."""
        self._spec, self._file = spec, file
        self._array: np.ndarray | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.shape = self._checked_shape()
        self.content = f"{file.digest(spec.images, cache)}/{spec.images}"
        values = self._label_values()
        if values is not None:
            self.labels = torch.from_numpy(values.astype(np.int64))
            self.label_names = tuple(str(number) for number in range(int(values.max()) + 1))

    def __len__(self) -> int:
        return self.shape[0]

    def picture(self, number: int) -> Image.Image | np.ndarray:
        """One row of the array, transparency composed or kept."""
        assert self._array is not None, "opened before the threads begin"
        row = np.ascontiguousarray(self._array[number])
        if self._spec.channels is not None:
            return row[..., None] if row.ndim == 2 else row
        row = row[..., 0] if row.ndim == 3 and row.shape[2] == 1 else row
        return seen(Image.fromarray(row), self._spec.background, alpha=self._spec.alpha).image

    def name(self, number: int) -> str:
        """With the file."""
        return f"image {number} of {printable(self._file.file)}"

    def line(self) -> str:
        """Images and classes."""
        return counted(self)

    def remarks(self, frame: Frame) -> tuple[str, ...]:
        """How they are stored, and which arrays nobody looks at."""
        _, height, width = self.shape[:3]
        how = f"{' x '.join(map(str, self.shape))} uint8, {self._mode()}"
        lines = [stored((width, height), (width, height), how)]
        looked_at = (self._spec.images, self._spec.labels)
        unused = [name for name in self._file.names or () if name not in looked_at]
        if not unused:
            return tuple(lines)
        says = f"not used: {many(len(unused), 'array')} of the file ({some(unused, len(unused))})"
        no_labels = self.labels is None and self._spec.labels is not None
        return (*lines, f"{says}; data.labels may name one" if no_labels else says)

    def _mode(self) -> str:
        """What the channels are taken for."""
        if self._spec.channels is not None:
            return "channels that are no colours"
        return _MODES[self.shape[3] if len(self.shape) == 4 else 1]

    def begin(self) -> None:
        """Map the array; that of a .npz is written out first, for a compressed one cannot be mapped."""
        if self._array is not None:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="diffsweep-npz-")
        self._array = self._file.mapped(self._spec.images, Path(self._folder.name))

    def _checked_shape(self) -> tuple[int, ...]:
        names, wanted = self._file.names, self._spec.images
        if names is not None and wanted not in names:
            raise DataError(
                f"data.images: {printable(self._file.file)} has no array `{wanted}`, it has "
                f"{', '.join(map(printable, names[:8])) or 'none'}: name the one that holds the images"
            )
        shape, dtype = self._file.header(wanted)
        what = f"data.path: the array {wanted if names is not None else ''}".rstrip()
        if dtype != np.uint8:
            raise DataError(
                f"{what} is of {dtype}, images are uint8 from 0 to 255: convert it, such as "
                "((x + 1) * 127.5).round().clip(0, 255).astype('uint8') for values from -1 to 1"
            )
        asked = self._spec.channels
        fitting = _COLOURS if asked is None else (asked,)
        stored = shape[3] if len(shape) == 4 else 1
        if len(shape) not in (3, 4) or stored not in fitting or min(shape) == 0:
            raise DataError(f"{what} has the shape {shape}, {_wanted(shape, asked)}")
        return shape

    def _label_values(self) -> np.ndarray | None:
        """int [N], checked."""
        name, names = self._spec.labels, self._file.names or ()
        if name is None or (name == _USUAL_LABELS and name not in names):
            return None
        if name not in names:
            raise DataError(
                f"data.labels: {printable(self._file.file)} has no array `{name}`{suggestion(name, names)}: name the "
                "one that holds the labels, or set data.labels: null"
            )
        values = self._file.read(name)
        if values.dtype.kind not in "iu" or values.shape != self.shape[:1]:
            raise DataError(
                f"data.labels: the array {name} is {values.dtype} of shape {values.shape}, labels are whole numbers, "
                f"one for each of the {self.shape[0]:,} images: convert it, or set data.labels: null"
            )
        if values.min() < 0 or values.max() >= MANY:
            raise DataError(
                f"data.labels: the array {name} runs from {values.min()} to {values.max()}, labels count from 0: "
                "number the classes, or set data.labels: null"
            )
        return values


AnyArrays = Arrays
"""The members of this file: a new kind of array file is one class above and one name here."""


def _wanted(shape: tuple[int, ...], asked: int | None) -> str:
    """What shapes images have, and the way to have them."""
    called = "1 to 4 channels" if asked is None else f"data.channels: {asked}"
    says = f"images are [N, height, width, channels] with {called}, or [N, height, width]"
    if len(shape) == 4 and min(shape):
        if shape[1] in (_COLOURS if asked is None else (asked,)):
            return f"{says}: use x.transpose(0, 2, 3, 1)"
        return f"{says}: set data.channels: {shape[3]} if these are channels"
    return f"{says}: reshape it"

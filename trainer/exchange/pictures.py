"""How do images become files and come back? PNG files, one sheet, an npz of uint8; rounded, never truncated."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainer.data import Codec, DataSpec
from trainer.data.framed import Composed
from trainer.data.picture import Background, Unreadable, opened
from trainer.errors import UserError
from trainer.evaluation.picture import MODES

GAP, GREY = 2, 96
"""Pixels between the images of a sheet, and their shade."""
SMALLEST_SIDE = 64
"""Images of a sheet below this many pixels are enlarged by whole factors."""

Bytes = NDArray[np.uint8]


def to_bytes(x: Tensor) -> Bytes:
    """uint8 [B, H, W, C] of x [B, C, H, W] in [-1, 1]: the nearest of 256 levels."""
    levels = ((x.float() + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def from_bytes(pixels: Bytes, codec: Codec) -> Tensor:
    """x float32 [B, C, H, W] in [-1, 1] of uint8 [B, H, W, C], on the levels that the data has."""
    x = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()
    return codec.quantize(x / 127.5 - 1.0)


def picture(pixels: Bytes) -> Image.Image:
    """One image uint8 [H, W, C] for Pillow; of more than 4 channels the first is shown."""
    if pixels.shape[-1] > len(MODES):
        pixels = pixels[..., :1]
    return Image.fromarray(
        np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    )


def png(image: Image.Image) -> bytes:
    """Encoded, without a time or a name in it."""
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    return encoded.getvalue()


def sheet(pixels: Bytes, columns: int | None = None) -> Image.Image:
    """Images uint8 [B, H, W, C] side by side, row by row; without `columns` about as wide as high."""
    count, height, width, channels = pixels.shape
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    factor = max(1, math.ceil(SMALLEST_SIDE / max(height, width)))
    pixels = pixels.repeat(factor, 1).repeat(factor, 2)
    height, width = height * factor, width * factor
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels)
    whole = np.full(shape, GREY, np.uint8)
    if channels in (2, 4):  # the gaps are not transparent
        whole[..., -1] = 255
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        whole[top : top + height, left : left + width] = image
    return picture(whole)


def background_of(data: DataSpec) -> Background:
    """What a model's data puts behind transparent pixels; white where it has no say."""
    return data.background if isinstance(data, Composed) else "white"


def read_image(
    file: Path, codec: Codec, does: str = "makes", background: Background = "white"
) -> Tensor:
    """An image file as x0 [1, C, H, W] in [-1, 1]; UserError where it is none, or not of the size of the codec.

    Opened as data is: upright, 16 bits scaled to 8, what is transparent on the data's `background` unless the model
    makes transparency. `does` says what the model has to do with images of that size.
    """
    if len(codec.shape) != 3 or codec.shape[0] > len(MODES):
        raise UserError(
            f"{file}: this model makes no images that a file could hold (shape {codec.shape})"
        )
    channels, height, width = codec.shape
    try:
        image = opened(file.read_bytes(), background, alpha=channels in (2, 4)).image
    except FileNotFoundError:
        raise UserError(f"{file} is not there: name an image file") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read as an image: {error.strerror}") from None
    except Unreadable as why:
        raise UserError(f"{file} cannot be read as an image: {why}") from None
    if image.size != (width, height):
        raise UserError(
            f"{file} is {image.width} x {image.height} pixels, this model {does} {width} x {height}: "
            "crop and resize it to that first"
        )
    pixels = np.asarray(image.convert(MODES[channels - 1])).reshape(1, height, width, channels)
    return from_bytes(pixels, codec)


def npz(pixels: NDArray[np.generic], labels: Tensor | None) -> bytes:
    """`arr_0` the samples, uint8 [B, H, W, C] of images; `arr_1` their labels, int64 [B], if they have any."""
    written = io.BytesIO()
    arrays = [pixels] if labels is None else [pixels, labels.cpu().numpy()]
    np.savez(written, *arrays)
    return written.getvalue()

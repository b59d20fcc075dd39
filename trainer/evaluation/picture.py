"""What do the samples look like? One PNG per set: a grid of images, or a scatter of points."""

import io
import math

import numpy as np
from PIL import Image
from torch import Tensor

SMALLEST_SIDE = 32
"""Images below this many pixels are enlarged by whole factors, so that a grid can be looked at."""


MODES = ("L", "LA", "RGB", "RGBA")
"""Pillow's names of images with 1, 2, 3, 4 channels; of those with more the first channel is shown."""


def png(x: Tensor) -> bytes:
    """x [B, C, H, W] or points [B, 2] in [-1, 1] as a PNG."""
    picture = _grid(x) if x.ndim == 4 else _scatter(x)
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG", optimize=True)
    return encoded.getvalue()


def _grid(x: Tensor, gap: int = 1) -> Image.Image:
    values = ((x.float().clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte().cpu().numpy()
    if values.shape[1] > len(MODES):
        values = values[:, :1]
    factor = max(1, math.ceil(SMALLEST_SIDE / values.shape[2]))
    values = values.repeat(factor, 2).repeat(factor, 3)
    count, channels, height, width = values.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full(
        (channels, rows * (height + gap) - gap, columns * (width + gap) - gap), 96, np.uint8
    )
    if channels in (2, 4):  # the gaps are not transparent
        sheet[-1] = 255
    for i, image in enumerate(values):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return Image.fromarray(sheet[0] if channels == 1 else sheet.transpose(1, 2, 0))


def _scatter(x: Tensor, side: int = 256) -> Image.Image:
    points = x.float().flatten(1)[:, :2].clamp(-1.2, 1.2).cpu().numpy()
    pixel = np.rint((points / 1.2 + 1.0) * 0.5 * (side - 1)).astype(int)
    sheet = np.full((side, side), 255, np.uint8)
    for dx in (0, 1):
        for dy in (0, 1):
            rows = np.clip(side - 1 - pixel[:, 1] + dy, 0, side - 1)
            sheet[rows, np.clip(pixel[:, 0] + dx, 0, side - 1)] = 30
    return Image.fromarray(sheet)

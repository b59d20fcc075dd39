"""Which colours does a person see where a file says what its numbers mean? They become sRGB, by Little CMS."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_SAME = 2
"""Levels of 255: a profile by which no colour moves further is sRGB, whatever it is called."""
_STEP = 15
"""Levels between the colours that are looked at for that."""


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The same colours as sRGB, RGB or RGBA; None where they are sRGB already, or the profile is none for the image.

    Relative colorimetric with black point compensation, as viewers do it.
    """
    alpha = None
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La")
        layered = image.convert("RGBA")
        alpha = layered.getchannel("A")
        image = layered.getchannel("R") if grey else layered.convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    made = _transform(profile, image.mode) if image.mode in ("L", "RGB", "CMYK") else None
    if made is None:
        return None
    turned = ImageCms.applyTransform(image, made)
    assert turned is not None, "not in place"
    if alpha is not None:
        turned.putalpha(alpha)
    return turned


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From images of this mode; None: leave them."""
    try:
        made = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # damaged, or of other channels
        return None
    if mode == "CMYK":
        return made
    levels = np.arange(0, 256, _STEP, dtype=np.uint8)
    grid = levels[None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), -1)
    colours = Image.fromarray(grid.reshape(1, -1, *grid.shape[3:]))
    turned = ImageCms.applyTransform(colours, made)
    assert turned is not None, "not in place"
    moved = np.asarray(turned, np.int16) - np.asarray(colours.convert("RGB"), np.int16)
    return None if int(np.abs(moved).max()) <= _SAME else made

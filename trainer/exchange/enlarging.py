"""Which small images are enlarged, and how does what came of them look beside them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.data import Codec
from trainer.errors import UserError
from trainer.exchange.folder import set_of
from trainer.exchange.pictures import background_of, read_image
from trainer.inputs.super_resolution import images_of_file, larger
from trainer.trained import Trained

_ROWS = 24
"""Most images of one sheet."""


@dataclass(frozen=True)
class Small:
    """Images to be enlarged."""

    x: Tensor
    """[N, C, h, w] in [-1, 1]."""
    names: tuple[str, ...]
    """Where each was read, as it was written."""


def small_images(paths: Sequence[Path], trained: Trained) -> Small:
    """The images of files, of folders of them, and of npz or npy arrays as `sample` writes them, in this order.

    UserError for a model that enlarges nothing, and for what is not of the size that it enlarges.
    """
    shape = trained.enlarges()
    codec = Codec(shape, 255)
    on = background_of(trained.trial.data)
    parts: list[tuple[str, Tensor]] = []
    for path in paths:
        if path.suffix in (".npz", ".npy"):
            read = images_of_file(path, shape)
            parts += [(f"{path}[{i}]", x[None]) for i, x in enumerate(read)]
            continue
        files = set_of(path) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path} holds no images: name image files, or a folder of them")
        parts += [(str(file), read_image(file, codec, "enlarges", on)) for file in files]
    return Small(torch.cat([x for _, x in parts]), tuple(name for name, _ in parts))


def beside(small: Tensor, x: Tensor) -> Tensor:
    """[R, 3, C, H, W]: what sample r of x [n, C, H, W] was made for, in blocks, it enlarged bilinearly, the sample."""
    rows = min(len(x), _ROWS)
    shown = small[torch.arange(rows) % len(small)]
    factor = x.shape[-1] // shown.shape[-1]
    blocks = shown.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    return torch.stack([blocks, larger(shown, factor), x[:rows]], 1)

"""A folder of image files as a resident data set."""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import PositiveInt

from trainer.data.base import DataSpec
from trainer.data.source import Resident, Source
from trainer.errors import DataError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
SAMPLED_FILES = 256
"""Files whose content enters the fingerprint; of all others name and size do."""


class ImageFolder(DataSpec):
    """Image files under a folder, in sorted order; sub-folder names are the classes."""

    kind: Literal["image_folder"] = "image_folder"
    path: str
    """Folder; relative paths start at the data root (the working directory)."""
    size: PositiveInt = 32
    """Side in pixels: the short side is resized (antialiased bicubic), then the centre cropped."""
    grayscale: bool = False
    """One channel instead of three."""
    flip: bool = True
    """Mirror left to right at random during training."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""
        return (1 if self.grayscale else 3, self.size, self.size)

    @property
    def flips(self) -> bool:
        """As asked for."""
        return self.flip

    def load(self, root: Path, cache: Path | None = None) -> Source:
        """Images uint8 [N, C, size, size]; labels from sub-folders if there are any."""
        folder, files = self._files(root)
        images = np.stack([self._image(file) for file in files])
        names = [file.parent.relative_to(folder).as_posix() for file in files]
        classes = {name: i for i, name in enumerate(sorted(set(names)))}
        labels = torch.tensor([classes[name] for name in names]) if len(classes) > 1 else None
        return Resident.of(
            torch.from_numpy(images),
            labels,
            levels=255,
            names=tuple(classes) if labels is not None else None,
            fingerprint=self.fingerprint(root),
            flip=self.flips,
        )

    def fingerprint(self, root: Path) -> str:
        """Digest of names and sizes of all files and the content of an even sample of them."""
        folder, files = self._files(root)
        digest = hashlib.sha256(f"{self.size}/{self.grayscale}".encode())
        stride = max(1, len(files) // SAMPLED_FILES)
        for i, file in enumerate(files):
            digest.update(f"{file.relative_to(folder).as_posix()}:{file.stat().st_size}\n".encode())
            if i % stride == 0:
                digest.update(file.read_bytes())
        return digest.hexdigest()[:16]

    def _files(self, root: Path) -> tuple[Path, list[Path]]:
        try:
            folder = (root / Path(self.path).expanduser()).resolve()
            is_folder = folder.is_dir()
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself, ~nobody, a NUL
            reason = getattr(error, "strerror", None) or str(error).partition(" from ")[0]
            message = f"data.path: {self.path[:60]!r} cannot be a folder ({reason})"
            raise DataError(f"{message}: write the path of a folder of images") from None
        if not is_folder:
            raise DataError(
                f"data.path: {folder} is not a folder on this machine: write where the images are"
            )
        named = (f for f in folder.rglob("*") if f.suffix.lower() in EXTENSIONS)
        files = sorted(f for f in named if not f.is_dir())
        if (lost := next((f for f in files if not f.is_file()), None)) is not None:
            what = "a link to a file that is not there" if lost.is_symlink() else "no plain file"
            raise DataError(f"data.path: {lost} is {what}: bring it back or remove it")
        if not files:
            raise DataError(
                f"data.path: no image files ({', '.join(sorted(EXTENSIONS))}) under {folder}"
            )
        return folder, files

    def _image(self, file: Path) -> np.ndarray:
        try:
            with Image.open(file) as opened:
                image = opened.convert("L" if self.grayscale else "RGB")
        except OSError as error:
            raise DataError(
                f"data.path: {file} cannot be read as an image ({error}): repair or remove it"
            ) from error
        scale = self.size / min(image.size)
        width, height = (max(self.size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        cropped = np.asarray(image.crop((left, top, left + self.size, top + self.size)))
        return cropped[None] if self.grayscale else np.ascontiguousarray(cropped.transpose(2, 0, 1))


FileData = ImageFolder
"""The members of this file: a new set of files is one class above and one name here."""

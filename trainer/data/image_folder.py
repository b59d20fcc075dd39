"""A folder of image files as a data set."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from trainer.data.base import DataSpec, Outline
from trainer.data.folder import Folder, read_folder
from trainer.data.framed import Size, frame_of
from trainer.data.labelling import Labelling
from trainer.data.picture import Background, Frame, Resize
from trainer.data.pictures import outline_of, source_of
from trainer.data.source import Source
from trainer.spec import Neutral


class ImageFolder(DataSpec):
    """Image files under a folder or in a .zip, sorted: PNG, JPEG, WebP, TIFF, BMP, GIF, PPM, AVIF, JPEG 2000, TGA."""

    incidental: ClassVar[frozenset[str]] = frozenset({"path", "damaged", "test"})
    without_test: ClassVar[str] = (
        "data.test: name a folder, or a .zip, of images that training does not see"
    )

    kind: Literal["image_folder"] = "image_folder"
    path: str
    """Folder, or a .zip of one; relative paths start at the data root (the working directory)."""
    test: Annotated[str | None, Neutral(None)] = None
    """Folder, or a .zip of one, of images that training does not see, for `evaluation.reference: test` and metrics of
    `split: test`; null: there are none. Its classes are known by their names."""
    size: Size = 32
    """Side in pixels, or [height, width]: resized to just cover it, then the centre cropped."""
    resize: Annotated[Resize, Neutral("bicubic")] = "bicubic"
    """How: antialiased bicubic, bilinear, lanczos or box; box_halving: 2 x 2 means first, as improved-diffusion."""
    labels: Annotated[Labelling, Neutral("folders")] = "folders"
    """folders: the first folder level is the class; prefix: dog_1.png is a dog (improved-diffusion); json: the labels
    of a dataset.json at the top (EDM, StyleGAN); none."""
    grayscale: bool = False
    """One channel instead of three."""
    background: Annotated[Background, Neutral("white")] = "white"
    """What lies behind transparent pixels: white, as paper and most viewers; black ink would vanish on black."""
    flip: bool = True
    """Mirror left to right at random during training: set it to false where left and right differ, as in text."""
    damaged: Annotated[Literal["refuse", "skip"], Neutral("refuse")] = "refuse"
    """What becomes of a file that cannot be read: the folder is refused, or the file left out."""

    @property
    def frame(self) -> Frame:
        """What every picture is fitted to."""
        return frame_of(self.size, self.grayscale, self.resize, self.background)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, known before the data is read."""
        return self.frame.shape

    @property
    def flips(self) -> bool:
        """As asked for."""
        return self.flip

    def held_out(self, root: Path, cache: Path | None = None) -> DataSpec | None:
        """What `test` names, fitted alike."""
        return (
            None if self.test is None else self.model_copy(update={"path": self.test, "test": None})
        )

    def load(self, root: Path, cache: Path | None = None) -> Source:
        """Images uint8 [N, C, H, W], decoded once into `cache`; labels as asked for, None if all would be equal."""
        pictures = self._read(root, cache).pictures
        return source_of(pictures, self.frame, cache=cache, flip=self.flip)

    def fingerprint(self, root: Path, cache: Path | None = None) -> str:
        """Digest of the content of all files in their order, the labels and the frame; where they lie is not in it."""
        return self._read(root, cache).pictures.fingerprint(self.frame)

    def outline(self, root: Path, cache: Path | None = None) -> Outline:
        """Images, classes, what was left out, sizes and modes."""
        folder = self._read(root, cache)
        source = outline_of(folder.pictures, self.frame, flip=self.flip)
        return Outline(source.fingerprint, source, folder.line(), folder.remarks(self.frame))

    def _read(self, root: Path, cache: Path | None) -> Folder:
        return read_folder(
            root,
            self.path,
            cache,
            labels=self.labels,
            skip_damaged=self.damaged == "skip",
            background=self.background,
        )


FileData = ImageFolder
"""The members of this file: a new set of files is one class above and one name here."""

"""A folder of image files as a data set."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from trainer.data.folder import FolderPictures, read_folder
from trainer.data.framed import OwnFiles, Place
from trainer.data.labelling import Labelling
from trainer.spec import Neutral


class ImageFolder(OwnFiles):
    """Image files under a folder or in a .zip, sorted: PNG, JPEG, WebP, TIFF, BMP, GIF, PPM, AVIF, JPEG 2000, TGA."""

    incidental: ClassVar[frozenset[str]] = OwnFiles.incidental | {"damaged"}

    kind: Literal["image_folder"] = "image_folder"
    path: Place
    """Folder, or a .zip of one; relative paths start at the data root (the working directory)."""
    labels: Annotated[Labelling, Neutral("folders")] = "folders"
    """folders: the first folder level is the class; prefix: dog_1.png is a dog (improved-diffusion); json: the labels
    of a dataset.json at the top (EDM, StyleGAN); none."""
    damaged: Annotated[Literal["refuse", "skip"], Neutral("refuse")] = "refuse"
    """What becomes of a file that cannot be read: the folder is refused, or the file left out."""

    def _pictures(self, root: Path, cache: Path | None) -> FolderPictures:
        return read_folder(
            root,
            self.path,
            cache,
            labels=self.labels,
            skip_damaged=self.damaged == "skip",
            frame=self.frame,
        )


FileData = ImageFolder
"""The members of this file: a new set of files is one class above and one name here."""

"""Which data sets are there? The union of data specs; each loads a `Source` and has a fingerprint."""

from typing import Annotated

from pydantic import Field

from trainer.data.arrays import AnyArrays, Arrays
from trainer.data.base import DataSpec, Outline, Split
from trainer.data.batches import Batches, Drawn
from trainer.data.codec import Codec
from trainer.data.digits import Digits, ShippedData
from trainer.data.gaussians import Gaussians, ToyData
from trainer.data.held_out import held_out_outline, held_out_source
from trainer.data.huggingface import HuggingFaceSet, TableData
from trainer.data.image_folder import FileData, ImageFolder
from trainer.data.picture import PICTURE_VERSION
from trainer.data.source import Absent, Resident, Source
from trainer.data.torchvision_sets import TorchvisionData, TorchvisionSet

AnyData = Annotated[
    ShippedData | ToyData | FileData | AnyArrays | TorchvisionData | TableData,
    Field(discriminator="kind"),
]
"""The members of the family, listed at the bottom of the files that hold them."""

__all__ = [
    "PICTURE_VERSION",
    "Absent",
    "AnyData",
    "Arrays",
    "Batches",
    "Codec",
    "DataSpec",
    "Digits",
    "Drawn",
    "Gaussians",
    "HuggingFaceSet",
    "ImageFolder",
    "Outline",
    "Resident",
    "Source",
    "Split",
    "TorchvisionSet",
    "held_out_outline",
    "held_out_source",
]

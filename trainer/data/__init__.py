"""Which data sets are there? The union of data specs; each loads a `Source` and has a fingerprint."""

from typing import Annotated

from pydantic import Field

from trainer.data.batches import Batches
from trainer.data.codec import Codec
from trainer.data.digits import Digits
from trainer.data.gaussians import Gaussians
from trainer.data.image_folder import ImageFolder
from trainer.data.source import Absent, Resident, Source

AnyData = Annotated[Digits | Gaussians | ImageFolder, Field(discriminator="kind")]
"""The members of the family. A new data set is one file beside this one and one name here."""

__all__ = [
    "Absent",
    "AnyData",
    "Batches",
    "Codec",
    "Digits",
    "Gaussians",
    "ImageFolder",
    "Resident",
    "Source",
]

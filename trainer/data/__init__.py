"""Which data sets are there? The union of data specs; each loads a `Dataset` and has a fingerprint."""

from typing import Annotated

from pydantic import Field

from trainer.data.dataset import Batches, Dataset
from trainer.data.digits import Digits
from trainer.data.gaussians import Gaussians
from trainer.data.image_folder import ImageFolder

AnyData = Annotated[Digits | Gaussians | ImageFolder, Field(discriminator="kind")]
"""The members of the family. A new data set is one file beside this one and one name here."""

__all__ = ["AnyData", "Batches", "Dataset", "Digits", "Gaussians", "ImageFolder"]

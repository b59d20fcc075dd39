"""Which networks are there? The union of network specs; each builds a module (x, condition, labels) -> like x."""

from typing import Annotated

from pydantic import Field

from trainer.models.dit import DiT
from trainer.models.mlp import MLP
from trainer.models.unet import UNet

AnyModel = Annotated[UNet | DiT | MLP, Field(discriminator="kind")]
"""The members of the family. A new network is one file beside this one and one name here."""

__all__ = ["MLP", "AnyModel", "DiT", "UNet"]

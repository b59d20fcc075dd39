"""Which networks are there? Specs that build a module (x, condition[, labels][, vector]) -> like x."""

from typing import Annotated

from pydantic import Field

from trainer.models.diffusers_unet import DiffusersNetworks, DiffusersUNet
from trainer.models.dit import DiT, Transformers
from trainer.models.mlp import MLP, Perceptrons
from trainer.models.unet import UNet, UNets

AnyModel = Annotated[
    UNets | Transformers | Perceptrons | DiffusersNetworks, Field(discriminator="kind")
]
"""The members of the family, listed at the bottom of the files that hold them."""

__all__ = ["MLP", "AnyModel", "DiT", "DiffusersUNet", "UNet"]

"""What may a network be told beside x_t and its noise level? Labels come with `model.classes`; here is the rest."""

from __future__ import annotations

from trainer.inputs.augmented import AugmentedInputs
from trainer.inputs.base import (
    Batch,
    Conditions,
    NetworkInput,
    beside,
    bound,
    together,
    trained,
    unguided,
    with_planes,
)
from trainer.inputs.labels import ChosenLabels, Labels
from trainer.inputs.mirrored import VectorInputs
from trainer.inputs.shown import keep, kept
from trainer.inputs.super_resolution import ImageInputs, SuperResolution
from trainer.inputs.tags import ChosenTags, TagInputs, Tags
from trainer.spec import Family

AnyInput = Family[VectorInputs | AugmentedInputs | ImageInputs | TagInputs]
"""The members of the family that a trial's `inputs` may list."""

__all__ = [
    "AnyInput",
    "Batch",
    "ChosenLabels",
    "ChosenTags",
    "Conditions",
    "Labels",
    "NetworkInput",
    "SuperResolution",
    "Tags",
    "beside",
    "bound",
    "keep",
    "kept",
    "together",
    "trained",
    "unguided",
    "with_planes",
]

"""In which space are images compared? Feature extractors: specs that build a frozen network."""

from typing import Annotated, get_args

from pydantic import Field

from trainer.evaluation.features.base import Extractor, FeatureSpace, Pixels, ValueSpaces
from trainer.evaluation.features.classifier import Classifier, TrainedSpaces
from trainer.evaluation.features.inception import Inception, PublishedSpaces
from trainer.evaluation.features.pretrained import CLIP, DINOv2, PretrainedSpaces

AnyFeatures = Annotated[
    TrainedSpaces | PublishedSpaces | ValueSpaces | PretrainedSpaces, Field(discriminator="kind")
]
"""The members of the family, listed at the bottom of the files that hold them."""
SPACES: dict[str, type[FeatureSpace]] = {
    str(member.model_fields["kind"].default): member
    for member in get_args(get_args(AnyFeatures)[0])
}
"""The same by kind."""

__all__ = [
    "CLIP",
    "SPACES",
    "AnyFeatures",
    "Classifier",
    "DINOv2",
    "Extractor",
    "FeatureSpace",
    "Inception",
    "Pixels",
]

"""How are the weights moved? The family of optimizers, and the learning-rate schedules that each of them takes."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from trainer.optimizer.adaptive import Adam, AdamW, AdamW8bit
from trainer.optimizer.base import Optimizer
from trainer.optimizer.momentum import SGD, Muon
from trainer.optimizer.rate import (
    AnyLearningRate,
    ConstantRate,
    CosineRate,
    ExponentialRate,
    InverseRate,
    LearningRate,
    LinearRate,
    PolynomialRate,
)


def _assumed(given: Any) -> Any:
    """Settings without a `kind` are AdamW's: it was the only member once."""
    return {"kind": "adamw", **given} if isinstance(given, dict) else given


AnyOptimizer = Annotated[
    AdamW | Adam | AdamW8bit | SGD | Muon,
    Field(discriminator="kind"),
    BeforeValidator(_assumed),
]
"""The members of the family."""

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AdamW8bit",
    "AnyLearningRate",
    "AnyOptimizer",
    "ConstantRate",
    "CosineRate",
    "ExponentialRate",
    "InverseRate",
    "LearningRate",
    "LinearRate",
    "Muon",
    "Optimizer",
    "PolynomialRate",
]

"""Which network for points rather than images? A residual perceptron for toy data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.bounds import Count, Size
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import nn


class MLP(Spec):
    """Residual perceptron on the flattened input; for toy data and tests."""

    kind: Literal["mlp"] = "mlp"
    width: Size = 64
    """Hidden units."""
    depth: Annotated[int, Field(ge=1, le=1000)] = 2
    """Residual layers."""
    classes: Count | None = None
    """Labels 0..classes-1 condition the network, `classes` is "no label"; null: unconditional."""

    def build(
        self, shape: tuple[int, ...], output_channels: int | None = None, vector: int = 0
    ) -> nn.Module:
        """The module for examples of `shape`, initialized from torch's current generator.

        Its output has `output_channels` in place of shape[0]; it may be told a `vector` of that many entries.
        """
        from trainer.models.perceptron import Perceptron

        output = (output_channels or shape[0], *shape[1:])
        return Perceptron(self.width, self.depth, shape, output, vector, self.classes)


Perceptrons = MLP
"""The members of this file: a new network of points is one class above and one name here."""

"""Which network without convolutions? A transformer on patches (DiT, Peebles & Xie 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from trainer.bounds import Count, Dropout, Size
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import nn


class DiT(Spec):
    """Transformer on patches whose blocks are modulated and gated by noise level and label (adaLN-Zero).

    The defaults are DiT-S/2; B is 768 x 12 x 12 (width, depth, heads), L 1024 x 24 x 16, XL 1152 x 28 x 16.
    """

    kind: Literal["dit"] = "dit"
    patch: Size = 2
    """Side of a patch in pixels."""
    width: Size = 384
    """Width of a token."""
    depth: Annotated[int, Field(ge=1, le=1000)] = 12
    """Blocks."""
    heads: Size = 6
    """Attention heads."""
    mlp_ratio: Annotated[float, Field(ge=0.01, le=100.0)] = 4.0
    """Hidden width of a block's perceptron / width."""
    dropout: Dropout = 0.0
    """Dropout inside perceptrons."""
    classes: Count | None = None
    """Labels 0..classes-1 condition the network, `classes` is "no label"; null: unconditional."""

    @model_validator(mode="after")
    def _divisible(self) -> DiT:
        if self.width % self.heads:
            raise ValueError(
                f"heads: {self.heads} does not divide width: {self.width}; use a divisor"
            )
        if self.width % 4:
            raise ValueError(
                f"width: {self.width} is not a multiple of 4, as positions need; use {self.width // 4 * 4 + 4}"
            )
        return self

    def build(
        self, shape: tuple[int, ...], output_channels: int | None = None, vector: int = 0
    ) -> nn.Module:
        """The module for images of shape (C, H, W), initialized from torch's current generator.

        Its output has `output_channels` in place of C; it may be told a `vector` of that many entries.
        Raises ValueError when patches do not tile the image.
        """
        if len(shape) != 3:
            raise ValueError(
                f"model.kind: dit needs images, the data has shape {shape}: use kind: mlp"
            )
        if shape[1] % self.patch or shape[2] % self.patch:
            raise ValueError(
                f"model.patch: {self.patch} does not divide images of {shape[1]} x {shape[2]}; "
                "use a divisor of both sides"
            )
        from trainer.models.transformer import Tokens, Transformer

        hidden = round(self.mlp_ratio * self.width)
        plan = Tokens(
            self.patch, self.width, self.depth, self.heads, hidden, self.dropout, self.classes
        )
        return Transformer(plan, shape, output_channels or shape[0], vector)


Transformers = DiT
"""The members of this file: a new network of tokens is one class above and one name here."""

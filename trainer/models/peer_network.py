"""The module of `diffusers_unet`: a UNet2DModel as the trainer calls networks."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.embedding import SCALE


class PeerNetwork(nn.Module):
    """UNet2DModel as the trainer calls networks."""

    def __init__(self, unet: Any, classes: int | None, vector: int) -> None:
        super().__init__()
        unet.__class__ = _quick(type(unet))
        self.unet = unet
        self.classes, self.with_vector = classes, vector > 0
        learned = unet.config.time_embedding_type == "learned"
        self.timesteps: int | None = unet.config.num_train_timesteps if learned else None
        if vector:
            width = unet.time_embedding.linear_2.out_features
            unet.class_embedding = _Told(unet.class_embedding, width, vector)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        labels: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """x [B, ...], condition [B], labels [B], vector [B, V] -> like x."""
        timestep = SCALE * condition.float()
        if self.timesteps is not None:
            timestep = timestep.round().long().clamp(0, self.timesteps - 1)
        if self.classes is None:
            labels = None
        elif labels is None:
            labels = torch.full_like(condition, self.classes, dtype=torch.int64)
        told = (labels, vector) if self.with_vector else labels
        return self.unet(x, timestep, told, return_dict=False)[0]


def _quick(kind: type[Any]) -> Any:
    """The same class, which does not look through all its modules for its dtype at every call."""
    known = property(lambda unet: unet.conv_in.weight.dtype)
    return type(kind.__name__, (kind,), {"dtype": known, "__module__": kind.__module__})


class _Told(nn.Module):
    """In place of diffusers' table of labels: its row, and the product with a vector."""

    def __init__(self, table: nn.Embedding | None, width: int, vector: int) -> None:
        super().__init__()
        self.weight = None if table is None else table.weight
        self.vector = nn.Parameter(torch.zeros(width, vector))
        """Silent at first, and nothing is drawn for it."""

    def forward(self, told: tuple[Tensor | None, Tensor | None]) -> Tensor:
        """Labels [B] and vector [B, V], either may be absent -> [B, width]."""
        labels, vector = told
        embedded = torch.zeros((), device=self.vector.device)
        if self.weight is not None and labels is not None:
            embedded = embedded + functional.embedding(labels, self.weight)
        if vector is not None:
            embedded = embedded + functional.linear(vector.to(self.vector.dtype), self.vector)
        return embedded

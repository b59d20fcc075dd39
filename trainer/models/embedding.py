"""How does a network read its noise level? Sinusoids of a scalar, then two linear layers."""

import math

import torch
from torch import Tensor, nn

SCALE = 1000.0
"""The scalar in [0, 1] is read as a timestep of a thousand, as in DDPM."""


def sinusoidal(value: Tensor, width: int) -> Tensor:
    """[B] -> [B, width]: cos and sin of SCALE * value at frequencies from 1 down to 1e-4."""
    half = width // 2
    ramp = torch.arange(half, device=value.device, dtype=torch.float32) / max(half - 1, 1)
    phase = (SCALE * value.float())[:, None] * torch.exp(-math.log(1e4) * ramp)
    return torch.cat([phase.cos(), phase.sin()], 1)


class NoiseLevelEmbedding(nn.Module):
    """[B] -> [B, out]: sinusoids, linear, SiLU, linear, SiLU."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out), nn.SiLU()
        )

    def forward(self, condition: Tensor) -> Tensor:
        """Embed the scalar noise level of each example."""
        return self.layers(sinusoidal(condition, self.width))

"""The module that learns how uncertain the loss of a noise level is (`learned_uncertainty`)."""

import math

import torch
from torch import Tensor, nn

from trainer.diffusion import log_snr as noise

FEATURES = 32


class Uncertainty(nn.Module):
    """Log variance as a cosine series in (2/pi) atan(edm_sigma): log_snr [B] -> u [B]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(FEATURES))

    def forward(self, log_snr: Tensor) -> Tensor:
        """Sum of weight_k sqrt(2) cos(k pi angle)."""
        order = torch.arange(FEATURES, device=log_snr.device, dtype=log_snr.dtype)
        features = torch.cos(math.pi * noise.angle(log_snr)[:, None] * order) * math.sqrt(2.0)
        return features.to(self.weight.dtype) @ self.weight

"""How does a network read its noise level and what else it is told? Sinusoids, linear layers, a table, a matrix."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE = 1000.0
"""The scalar in [0, 1] is read as a timestep of a thousand, as in DDPM."""


def sinusoidal(value: Tensor, width: int, *, last: bool = True, period: float = 1e4) -> Tensor:
    """[B] -> [B, width]: cos and sin of SCALE * value at frequencies from 1 down to 1/period; an odd width ends in 0.

    `last`: the slowest frequency is 1/period itself (Ho et al. 2020; v-diffusion), else the one before it on a ramp
    that would reach it (improved-diffusion, DiT).
    """
    half = width // 2
    value = value if value.dtype == torch.float64 else value.float()
    ramp = torch.arange(half, device=value.device, dtype=value.dtype) / max(half - last, 1)
    phase = (SCALE * value)[:, None] * torch.exp(-math.log(period) * ramp)
    return functional.pad(torch.cat([phase.cos(), phase.sin()], 1), (0, width % 2))


class NoiseLevelEmbedding(nn.Module):
    """[B], labels [B] and a vector [B, V] -> [B, out]: sinusoids, linear, SiLU, linear, plus row and product, SiLU.

    `mapping` is the number of linear layers. With `fourier` the sinusoids have random frequencies of that standard
    deviation (Tancik et al. 2020), and row and product are added to them, before the layers, as k-diffusion's mapping
    network and EDM have it.
    """

    def __init__(
        self,
        width: int,
        out: int,
        *,
        classes: int | None = None,
        vector: int = 0,
        last: bool = True,
        mapping: int = 2,
        fourier: float | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.last = last
        self.fourier = fourier is not None
        layers: list[nn.Module] = []
        for inward, outward in pairwise([width] + [out] * mapping):
            layers += [nn.Linear(inward, outward), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])
        joined = out if fourier is None else width
        self.labels = None if classes is None else nn.Embedding(classes + 1, joined)
        """The row after the last class stands for "no label"."""
        self.vector = nn.Parameter(torch.zeros(joined, vector)) if vector else None
        """Silent at first, and nothing is drawn for it: a network that is told more begins as one that is not."""
        if fourier is not None:
            self.register_buffer("frequencies", fourier * torch.randn(width // 2))

    def forward(
        self, condition: Tensor, labels: Tensor | None = None, vector: Tensor | None = None
    ) -> Tensor:
        """Embed the scalar noise level of each example, its label and its vector; without labels, "no label" for all.

        A network without classes does not look at labels, one built without a vector not at that.
        """
        if self.fourier:
            told = self._joined(self._features(condition), condition, labels, vector)
            return functional.silu(self.layers(told))
        embedded = self.layers(sinusoidal(condition, self.width, last=self.last))
        return functional.silu(self._joined(embedded, condition, labels, vector))

    def _features(self, condition: Tensor) -> Tensor:
        """[B] -> [B, width]: cos and sin of 2 pi times the noise level, as it is, times each frequency."""
        frequencies = self.get_buffer("frequencies")
        phase = 2.0 * math.pi * condition.to(frequencies.dtype)[:, None] * frequencies
        return functional.pad(torch.cat([phase.cos(), phase.sin()], 1), (0, self.width % 2))

    def _joined(
        self, embedded: Tensor, condition: Tensor, labels: Tensor | None, vector: Tensor | None
    ) -> Tensor:
        if self.labels is not None:
            if labels is None:
                labels = torch.full_like(condition, len(self.labels.weight) - 1, dtype=torch.int64)
            embedded = embedded + self.labels(labels)
        if self.vector is not None and vector is not None:
            embedded = embedded + functional.linear(vector.to(embedded.dtype), self.vector)
        return embedded

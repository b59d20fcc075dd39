"""How much does a noise level count? w(log_snr), always stated on the epsilon-MSE.

The same w serves every prediction: loss = w SNR |x0 - x0_hat|^2, so a weighting published for another
space is converted here once. SNR = exp(log_snr).
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from trainer.spec import Spec


class Weighting(Spec):
    """Per-example factor on |eps - eps_hat|^2 as a function of log-SNR alone."""

    def weight(self, log_snr: Tensor) -> Tensor:
        """w(log_snr) >= 0, same shape, dtype and device."""
        raise NotImplementedError


class Simple(Weighting):
    """w = 1: the epsilon-MSE itself, L_simple (Ho et al. 2020, eq. 14)."""

    kind: Literal["simple"] = "simple"

    def weight(self, log_snr: Tensor) -> Tensor:
        """One everywhere."""
        return torch.ones_like(log_snr)


class P2(Weighting):
    """w = scale / (k + SNR)^gamma (Choi et al. 2022, eq. 8)."""

    kind: Literal["p2"] = "p2"
    gamma: NonNegativeFloat = 0.5
    """Strength; 0 is `simple`."""
    k: NonNegativeFloat = 1.0
    """SNR at which the weight begins to fall."""
    scale: PositiveFloat = 1.0
    """Constant factor; 1/mean(w) makes the loss comparable with `simple`."""

    def weight(self, log_snr: Tensor) -> Tensor:
        """scale (k + exp(log_snr))^-gamma."""
        return self.scale * (self.k + torch.exp(log_snr)) ** -self.gamma


class MinSNR(Weighting):
    """w = min(SNR, gamma) / SNR (Hang et al. 2023, eq. 8: min(SNR, gamma) on the x0-MSE)."""

    kind: Literal["min_snr"] = "min_snr"
    gamma: PositiveFloat = 5.0
    """SNR above which a level counts no more than at gamma."""

    def weight(self, log_snr: Tensor) -> Tensor:
        """min(1, gamma / SNR)."""
        return (self.gamma * torch.exp(-log_snr)).clamp(max=1.0)


class Velocity(Weighting):
    """w = 1 + 1/SNR: the plain MSE of v = alpha eps - sigma x0 (Salimans & Ho 2022, section 4)."""

    kind: Literal["velocity"] = "velocity"

    def weight(self, log_snr: Tensor) -> Tensor:
        """1 / alpha^2."""
        return 1.0 + torch.exp(-log_snr)


class EDM(Weighting):
    """lambda = (edm_sigma^2 + sigma_data^2) / (edm_sigma sigma_data)^2 on the x0-MSE (Karras et al. 2022, table 1)."""

    kind: Literal["edm"] = "edm"
    sigma_data: PositiveFloat = 0.5
    """Standard deviation of the data."""

    def weight(self, log_snr: Tensor) -> Tensor:
        """1 + edm_sigma^2 / sigma_data^2."""
        return 1.0 + torch.exp(-log_snr) / self.sigma_data**2


AnyWeighting = Annotated[Simple | P2 | MinSNR | Velocity | EDM, Field(discriminator="kind")]
"""The members of the family. A new weighting is one class above and one name here."""

"""How do alpha, sigma and the papers' other noise scales follow from log-SNR?

Variance-preserving gauge: alpha^2 = sigmoid(log_snr), sigma^2 = sigmoid(-log_snr), natural logarithm.
Everything here is elementwise and keeps shape, dtype and device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


def alpha(log_snr: Tensor) -> Tensor:
    """Signal coefficient sqrt(sigmoid(log_snr))."""
    return torch.exp(0.5 * torch.nn.functional.logsigmoid(log_snr))


def sigma(log_snr: Tensor) -> Tensor:
    """Noise coefficient sqrt(sigmoid(-log_snr)), accurate where alpha is nearly one."""
    return torch.exp(0.5 * torch.nn.functional.logsigmoid(-log_snr))


def edm_sigma(log_snr: Tensor) -> Tensor:
    """sigma / alpha, the noise level of EDM and k-diffusion."""
    return torch.exp(-0.5 * log_snr)


def from_edm_sigma(edm_sigma: Tensor) -> Tensor:
    """Inverse of `edm_sigma`; 0 maps to +inf."""
    return -2.0 * torch.log(edm_sigma)


def from_alpha_squared(alpha_squared: Tensor) -> Tensor:
    """logit(alpha^2); 1 maps to +inf and 0 to -inf."""
    return torch.log(alpha_squared) - torch.log1p(-alpha_squared)


def angle(log_snr: Tensor) -> Tensor:
    """(2/pi) atan(sigma/alpha) in [0, 1]: the time of the cosine path with this log-SNR."""
    return torch.atan(edm_sigma(log_snr)) * (2.0 / torch.pi)


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Per-example values [B] shaped [B, 1, ..., 1] in `like`'s dtype, to multiply a [B, ...] tensor."""
    return values.to(like.dtype).reshape(-1, *([1] * (like.ndim - 1)))


def noised(x0: Tensor, eps: Tensor, log_snr: Tensor) -> Tensor:
    """x_t = alpha x0 + sigma eps for x0, eps [B, ...] and log_snr [B]."""
    return expand(alpha(log_snr), x0) * x0 + expand(sigma(log_snr), eps) * eps

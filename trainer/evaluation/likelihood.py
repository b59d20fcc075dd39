"""How likely does a model think given data are? The probability-flow ODE with Hutchinson's trace (Song et al. 2021)."""

import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from trainer.diffusion.solver import Denoiser


def log_likelihood(
    denoise: Denoiser,
    x: Tensor,
    probe: Tensor,
    *,
    edm_sigma_min: float,
    edm_sigma_max: float,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    max_evaluations: int = 10_000,
) -> Tensor:
    """Log density [B] in nats of x [B, ...], read as x0 + edm_sigma_min noise and not noised further.

    probe [B, ...] of independent signs makes one unbiased estimate of each trace; average over several. For bits per
    dimension divide by -D ln 2, and add log2(127.5) for 8-bit data in [-1, 1] that was dequantized uniformly.
    Raises ValueError when estimates are not finite or max_evaluations do not suffice.
    """
    if not 0.0 < edm_sigma_min < edm_sigma_max:
        raise ValueError("edm_sigma_min must be positive and smaller than edm_sigma_max")
    shape, count = x.shape, x.numel()
    left = iter(range(max_evaluations))

    def slope(edm_sigma: float, state: np.ndarray) -> np.ndarray:
        here = torch.from_numpy(state[:count].copy()).to(x).reshape(shape)
        drift, trace = _drift_and_trace(denoise, here, edm_sigma, probe.to(x))
        values = torch.cat([drift.flatten(), trace]).double().cpu().numpy()
        if not np.isfinite(values).all() or next(left, None) is None:
            raise ValueError(
                f"log_likelihood stalled at edm_sigma {edm_sigma:.3g}: estimates are not finite, or "
                f"rtol {rtol:g} and atol {atol:g} need more than {max_evaluations} evaluations"
            )
        return values

    start = np.concatenate([x.detach().double().cpu().numpy().ravel(), np.zeros(len(x))])
    path = solve_ivp(
        slope, (edm_sigma_min, edm_sigma_max), start, "RK45", [edm_sigma_max], rtol=rtol, atol=atol
    )
    if not path.success:
        raise ValueError(f"log_likelihood stalled before edm_sigma_max: {path.message}")
    end = torch.from_numpy(path.y[:, -1])
    latent, change = end[:count].reshape(len(x), -1), end[count:]
    prior = -0.5 * (latent / edm_sigma_max) ** 2 - math.log(
        edm_sigma_max * math.sqrt(2.0 * math.pi)
    )
    return (prior.sum(1) + change).to(x)


def _drift_and_trace(
    denoise: Denoiser, x: Tensor, edm_sigma: float, probe: Tensor
) -> tuple[Tensor, Tensor]:
    """dx/dsigma = (x - D)/sigma [B, ...] and probe^T (its derivative) probe [B]."""
    log_snr = torch.tensor(-2.0 * math.log(edm_sigma), dtype=torch.float64, device=x.device)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        drift = (x - denoise(x / math.hypot(1.0, edm_sigma), log_snr)) / edm_sigma
        (turned,) = torch.autograd.grad((drift * probe).sum(), x)
    return drift.detach(), (turned * probe).flatten(1).sum(1)

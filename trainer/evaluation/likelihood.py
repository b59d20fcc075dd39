"""How likely does a model think given data are? A bound by the reverse chain, and the probability-flow ODE."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from trainer.diffusion.log_snr import expand, noised
from trainer.diffusion.process import Diffusion, Network
from trainer.diffusion.reverse import (
    between,
    bits,
    chain,
    chain_step,
    decoder_nll,
    normal_kl,
    prior_bits,
)
from trainer.diffusion.solver import Denoiser
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


class Bits(NamedTuple):
    """The variational bound on -log2 p(x0), in bits per dimension."""

    terms: Tensor
    """[B, T], the cost of every step from the noisiest to the cleanest; the last is the decoder's."""
    prior: Tensor
    """[B]."""

    @property
    def total(self) -> Tensor:
        """[B]: the sum."""
        return self.terms.sum(1) + self.prior


def bits_per_dimension(
    diffusion: Diffusion,
    network: Network,
    x0: Tensor,
    eps: Callable[[int], Tensor],
    *,
    steps: int,
    levels: int,
    variance: float | Literal["learned", "learned_range"] = 0.0,
    clip: bool = True,
) -> Bits:
    """Every term of the bound for x0 [B, ...] of integer values up to `levels`, scaled to [-1, 1].

    Ho et al. 2020, eq. 5, summed as Nichol & Dhariwal 2021 do: `eps(k)` [B, ...] is the noise at level k of the
    chain of `steps`, an own one at each. `variance` of the reverse steps: 0 small, 1 large, or what the network
    learned; at the data that of the step before.
    """
    table = chain(diffusion.schedule, steps, x0.new_zeros((), dtype=torch.float64))
    found = []
    for k in reversed(range(steps)):
        index = torch.full((len(x0),), k, device=x0.device)
        x_t = noised(x0, eps(k), table[index])
        x0_hat, extra = diffusion.estimate(network, x_t, table[index], clip=clip)
        step = chain_step(diffusion.schedule, steps, index)
        if isinstance(variance, float):
            at_data = diffusion.schedule.steps is not None or not diffusion.schedule.finite_start
            share = 0.0 if k == 0 and at_data else variance
            model = expand(step.small + share * (step.large - step.small), x0)
        else:
            assert extra is not None, "the network lacks the channels of a learned variance"
            learned = extra.to(x0.dtype)
            ranged = variance == "learned_range"
            model = between(step.small, step.large, 0.5 * (learned + 1.0)) if ranged else learned
        if k == 0:
            cost = decoder_nll(x0, x0_hat, model.expand_as(x0), half_bin=1.0 / levels)
        else:
            gap = expand(step.gain, x0_hat) * (x0_hat - x0)
            cost = normal_kl(gap, expand(step.small, x0_hat), model)
        found.append(bits(cost.double()))
    return Bits(torch.stack(found, 1), prior_bits(x0.double(), table[-1]))


def flow_log_likelihood(
    denoise: Denoiser,
    x: Tensor,
    probes: Tensor | None,
    *,
    steps: int,
    edm_sigma_min: float,
    edm_sigma_max: float,
) -> Tensor:
    """Log density [B] in nats of x [B, ...] = x0 + edm_sigma_min noise, by Runge and Kutta's steps in log edm_sigma.

    Song et al. 2021, eq. 39 with Hutchinson's trace: `probes` [P, B, ...] of independent signs; None takes the exact
    trace, one derivative per dimension. Equal steps for all examples, so that none depends on its company.
    """
    ends = torch.linspace(math.log(edm_sigma_min), math.log(edm_sigma_max), steps + 1).tolist()
    dtype = x.dtype
    here, change = x.double(), torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def slope(at: Tensor, log_sigma: float) -> tuple[Tensor, Tensor]:
        return _flow(denoise, at, log_sigma, probes, dtype)

    for first, last in pairwise(ends):
        width, middle = last - first, 0.5 * (first + last)
        a, da = slope(here, first)
        b, db = slope(here + 0.5 * width * a, middle)
        c, dc = slope(here + 0.5 * width * b, middle)
        d, dd = slope(here + width * c, last)
        here = here + width / 6.0 * (a + 2.0 * b + 2.0 * c + d)
        change = change + width / 6.0 * (da + 2.0 * db + 2.0 * dc + dd)
    latent = (here / edm_sigma_max).flatten(1)
    norm = latent.shape[1] * math.log(edm_sigma_max * math.sqrt(2.0 * math.pi))
    return change - 0.5 * latent.square().sum(1) - norm


def _flow(
    denoise: Denoiser, x: Tensor, log_sigma: float, probes: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """dx/d(log sigma) = x - D [B, ...], float64, and the trace of its derivative [B]; `dtype` is the network's."""
    edm_sigma = math.exp(log_sigma)
    log_snr = torch.tensor(-2.0 * log_sigma, dtype=torch.float64, device=x.device)
    with torch.enable_grad():
        seen = x.to(dtype).detach().requires_grad_()
        denoised = denoise(seen / math.hypot(1.0, edm_sigma), log_snr)
        directions = _unit(x) if probes is None else probes.to(seen)
        turned = [
            torch.autograd.grad((denoised * one).sum(), seen, retain_graph=True)[0] * one
            for one in directions
        ]
    count = math.prod(x.shape[1:])
    trace = torch.stack([each.double().flatten(1).sum(1) for each in turned])
    of_denoised = trace.sum(0) if probes is None else trace.mean(0)
    return x - denoised.detach().double(), count - of_denoised


def _unit(x: Tensor) -> Tensor:
    """Unit vectors [D, B, ...], one per dimension of x [B, ...]."""
    count = math.prod(x.shape[1:])
    eye = torch.eye(count, dtype=torch.float32, device=x.device)
    return eye.reshape(count, 1, *x.shape[1:]).expand(count, *x.shape)


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

    from scipy.integrate import solve_ivp

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

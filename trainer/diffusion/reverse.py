"""What is the reverse chain, and what does one of its steps cost in bits?

A chain is a table of log-SNR with the data beyond its first, cleanest level. Between neighbours t and s (cleaner)
q(x_s | x_t, x0) is normal with variance (1 - r) sigma_s^2, r = SNR_t / SNR_s; the model's step has the same
mean at x0_hat and a variance between that ("small") and beta = (1 - r) sigma_t^2 ("large").
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from trainer.diffusion.constant import constant
from trainer.diffusion.log_snr import alpha, expand
from trainer.diffusion.schedule import Schedule
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


HALF_BIN = 1.0 / 255.0
"""Half the distance between neighbouring values of 8-bit data in [-1, 1]."""
SMALLEST_PROBABILITY = 1e-12
"""Floor under the decoder's probabilities, as in Ho et al. 2020."""


class Step(NamedTuple):
    """Per-example scalars [B], float64, of the step from each example's level to the next cleaner one."""

    first: Tensor
    """Whether the next one is the data itself (bool)."""
    gain: Tensor
    """(1 - r) alpha_s: how x0_hat enters the mean of the step."""
    small: Tensor
    """Log variance of q(x_s | x_t, x0)."""
    large: Tensor
    """log beta."""


def chain(schedule: Schedule, steps: int, like: Tensor) -> Tensor:
    """log-SNR of the chain's levels from the cleanest on [steps]; entry k stands at t = (k + 1)/steps.

    In the dtype and on the device of `like`.
    """
    return (
        _levels(schedule, steps).to(like) if schedule.learns else _chain(schedule, steps, like=like)
    )


def _levels(schedule: Schedule, steps: int) -> Tensor:
    if schedule.steps == steps:
        return schedule.table(steps)
    return schedule.log_snr(torch.arange(1, steps + 1, dtype=torch.float64) / steps)


_chain = constant(_levels)


def chain_index(schedule: Schedule, steps: int, log_snr: Tensor) -> Tensor:
    """Index [B] of the chain's level at or next above each log_snr [B] in noise."""
    place = schedule.time(log_snr.to(torch.float64)) * steps
    return (torch.ceil(place - 1e-3).long() - 1).clamp(0, steps - 1)


def chain_step(schedule: Schedule, steps: int, index: Tensor) -> Step:
    """The step from chain level `index` [B].

    To the data the posterior variance is zero, so the decoder takes that of the step before (Nichol & Dhariwal
    2021), or, where log_snr(0) is finite, that of the step to t = 0.
    """
    levels = chain(schedule, steps, torch.zeros((), dtype=torch.float64, device=index.device))
    t, first = levels[index], index == 0
    if schedule.steps is None and schedule.finite_start:
        start = schedule.log_snr(torch.zeros(1, dtype=torch.float64, device=index.device))
        s = torch.cat([start, levels])[index]
        small, large = log_variances(t, s)
        return Step(first, torch.where(first, 1.0, -torch.expm1(t - s) * alpha(s)), small, large)
    s = levels[(index - 1).clamp(min=0)]
    small, large = log_variances(t, torch.where(first, t + 1.0, s))
    beta = torch.nn.functional.logsigmoid(-levels[0])
    decoder = log_variances(levels[1], levels[0])[0] if steps > 1 else beta
    gain = torch.where(first, 1.0, -torch.expm1(t - s) * alpha(s))
    return Step(first, gain, torch.where(first, decoder, small), torch.where(first, beta, large))


def log_variances(t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the small and the large variance of the step from level t to the cleaner level s."""
    shrink = torch.log(-torch.expm1(t - s))
    return shrink + torch.nn.functional.logsigmoid(-s), shrink + torch.nn.functional.logsigmoid(-t)


class Posterior(NamedTuple):
    """x_s given x_t and x0 is normal with mean x_t x_t + x0 x0 and this log variance; scalars of any one shape."""

    x_t: Tensor
    x0: Tensor
    log_variance: Tensor


def posterior(t: Tensor, s: Tensor, variance: float = 0.0) -> Posterior:
    """q(x_s | x_t, x0) for log-SNR t and the cleaner s, of one shape (Ho et al. 2020, eq. 7; Kingma et al. 2021).

    variance: 0 the posterior's own, 1 beta, between them in the logarithm.
    """
    small, large = log_variances(t, s)
    scale = torch.exp(0.5 * (torch.nn.functional.logsigmoid(s) - torch.nn.functional.logsigmoid(t)))
    log_variance = small + variance * (large - small)
    return Posterior(torch.exp(t - s) * scale, -torch.expm1(t - s) * alpha(s), log_variance)


def between(small: Tensor, large: Tensor, fraction: Tensor) -> Tensor:
    """fraction log large + (1 - fraction) log small, for scalars [B] and a fraction [B, ...]."""
    low, high = expand(small, fraction), expand(large, fraction)
    return fraction * high + (1.0 - fraction) * low


def normal_kl(gap: Tensor, log_variance: Tensor, model_log_variance: Tensor) -> Tensor:
    """KL(N(m, e^log_variance) || N(m + gap, e^model_log_variance)) in nats, elementwise."""
    excess = log_variance - model_log_variance
    return 0.5 * (torch.expm1(excess) - excess + gap.square() * torch.exp(-model_log_variance))


def decoder_nll(
    x0: Tensor, mean: Tensor, log_variance: Tensor, half_bin: float | None = HALF_BIN
) -> Tensor:
    """-log probability of x0 in [-1, 1] under a normal integrated over its bin, nats, in float64.

    The outermost bins reach to infinity; the normal distribution function is Ho et al.'s tanh approximation. Points
    have no bins (None), but a density.
    """
    x0, mean, log_variance = x0.double(), mean.double(), log_variance.double()
    if half_bin is None:
        square = (x0 - mean).square() * torch.exp(-log_variance)
        return 0.5 * (square + log_variance + math.log(2.0 * math.pi))
    scale = torch.exp(-0.5 * log_variance)
    above = normal_cdf(scale * (x0 - mean + half_bin))
    below = normal_cdf(scale * (x0 - mean - half_bin))
    inside = torch.where(x0 < -0.999, above, torch.where(x0 > 0.999, 1.0 - below, above - below))
    return -torch.log(inside.clamp_min(SMALLEST_PROBABILITY))


def normal_cdf(x: Tensor) -> Tensor:
    """0.5 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the approximation used by every published bits-per-dimension."""
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def prior_bits(x0: Tensor, log_snr: Tensor) -> Tensor:
    """KL(q(x_1 | x0) || N(0, 1)) in bits per dimension [B], for log_snr [] of the noisiest level."""
    mean = alpha(log_snr).to(x0) * x0
    log_variance = torch.nn.functional.logsigmoid(-log_snr).to(x0).expand_as(x0)
    return bits(normal_kl(mean, log_variance, torch.zeros_like(x0)))


def bits(nats: Tensor) -> Tensor:
    """Mean over dimensions, in bits: [B, ...] to [B]."""
    return nats.flatten(1).mean(1) / math.log(2.0)

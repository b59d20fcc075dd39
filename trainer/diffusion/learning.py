"""How does a learned schedule learn? By gradients of the variational bound, read off the model's training step.

The bound in the continuous limit is the integral over log-SNR of e/2, e = |eps - eps_hat|^2, plus a decoder at the
clean and a prior at the noisy end. At one uniform time its estimate is L = (-dlog_snr/dt) e/2 (Kingma et al. 2021,
eq. 17): the expectation depends on the ends only, the variance also on the interior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.diffusion.log_snr import noised
from trainer.diffusion.objective import Terms
from trainer.diffusion.process import Diffusion, Network
from trainer.diffusion.reverse import bits, decoder_nll, prior_bits
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.diffusion.schedule.learned_curve import LearnedCurve


def schedule_loss(
    curve: LearnedCurve,
    diffusion: Diffusion,
    network: Network,
    terms: Terms,
    eps: Tensor,
    at_clean: Tensor,
) -> Tensor:
    """A loss of each example [B] whose value is zero and whose mean has the schedule's gradient.

    `terms` are those of the training step at uniform times; `eps` [B, ...] is fresh noise for the ends, looked at
    where `at_clean` [B] says, at the noisy end elsewhere.
    """
    # The interior: less variance of the bound, estimated at the times of this batch.
    with torch.no_grad():
        error = squared_eps_error(terms.x0, terms.x0_hat(detached=True), terms.log_snr)
    loss = interior_loss(curve, curve.time(terms.log_snr.double()), error)
    # The ends: a lower bound, at one more pass of the network.
    if curve.clean.requires_grad:
        with torch.no_grad():
            level = torch.where(at_clean, curve.clean, curve.noisy).double()
            x_t = noised(terms.x0, eps, level)
            x0_hat = diffusion.denoise(network, x_t, level)
            error = squared_eps_error(terms.x0, x0_hat, level)
        loss = loss + ends_loss(curve, terms.x0, eps, at_clean, error)
    # Gradient without value: the curve of `train/loss` stays the objective's.
    return loss - loss.detach()


def squared_eps_error(x0: Tensor, x0_hat: Tensor, log_snr: Tensor) -> Tensor:
    """|eps - eps_hat|^2 = SNR |x0 - x0_hat|^2 in bits per dimension [B], float64."""
    return torch.exp(log_snr.double()) * bits((x0 - x0_hat).double().square())


def interior_loss(curve: LearnedCurve, t: Tensor, error: Tensor) -> Tensor:
    """Of each example [B]: its mean over uniform t [B] has the gradient of E[L^2] to the interior.

    E[L^2] is the integral over log-SNR of E[e^2]/4 times the slope at that log-SNR; under a change of the curve the
    slope changes by dslope - (bend/slope) dcurve. So no derivative of the network is needed.
    """
    fall, slope = curve.fall().detach(), curve.slope(t)
    steady = slope.detach()
    with torch.no_grad():
        estimate = 0.5 * fall * steady * error
        drift = curve.bend(t) / steady
    return estimate.square() * (slope - drift * curve.share(t)) / steady


def ends_loss(
    curve: LearnedCurve, x0: Tensor, eps: Tensor, at_clean: Tensor, error: Tensor
) -> Tensor:
    """Of each example [B]: its mean has the gradient of the bound to the end that it looks at, half of them each.

    The integral of e/2 grows with the clean end by e/2 there and shrinks with the noisy one; the decoder is a normal
    around x_t/alpha, so that it knows nothing but the end.
    """
    clean = curve.clean.double()
    mean = x0.double() + torch.exp(-0.5 * clean) * eps.double()
    decoder = bits(decoder_nll(x0, mean, -clean.expand_as(mean)))
    noisy = prior_bits(x0.double(), curve.noisy.double()) - 0.5 * error * curve.noisy
    return 2.0 * torch.where(at_clean, decoder + 0.5 * error * curve.clean, noisy)

"""What is one diffusion training objective? The six families put together over a network.

The network is any callable (x [B, ...], condition [B]) -> [B, ...]; `condition` is the scalar that tells
it the noise level.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trainer.diffusion import log_snr as noise
from trainer.diffusion.objective import MSE, AnyObjective, Terms
from trainer.diffusion.prediction import AnyPrediction, Epsilon
from trainer.diffusion.schedule import AnySchedule, Cosine
from trainer.diffusion.timestep import AnyTimestepSampler, Uniform
from trainer.diffusion.weighting import AnyWeighting, Simple
from trainer.spec import Spec

Network = Callable[[Tensor, Tensor], Tensor]


class Diffusion(Spec):
    """Schedule, timestep sampler, weighting, prediction and objective: everything a paper may claim about."""

    schedule: AnySchedule = Cosine(steps=1000)
    """How noisy is time t?"""
    timesteps: AnyTimestepSampler = Uniform()
    """Where does training look?"""
    weighting: AnyWeighting = Simple()
    """How much does a noise level count? Stated on the epsilon-MSE."""
    prediction: AnyPrediction = Epsilon()
    """What does the network's output mean?"""
    objective: AnyObjective = MSE()
    """Which scalar is minimized?"""
    conditioning: Literal["angle", "time", "log_snr"] = "angle"
    """What the network is told: `angle` (2/pi) atan(sigma/alpha), the same for every schedule;
    `time` t of this schedule, as DDPM does; `log_snr` -log_snr/8, EDM's ln(edm_sigma)/4."""

    def condition(self, log_snr: Tensor) -> Tensor:
        """The network's noise-level input [B] for log_snr [B]."""
        if self.conditioning == "angle":
            return noise.angle(log_snr)
        if self.conditioning == "time":
            return self.schedule.time(log_snr)
        return -log_snr / 8.0

    def loss_weight(self, log_snr: Tensor) -> Tensor:
        """Factor on |F - F*|^2 [B]: weighting x importance x the prediction's change of space."""
        return (
            self.weighting.weight(log_snr)
            * self.timesteps.importance(log_snr, self.schedule)
            * self.prediction.residual_weight(log_snr)
        )

    def loss(self, network: Network, x0: Tensor, eps: Tensor, log_snr: Tensor) -> Tensor:
        """Loss of each example [B] for x0, eps [B, ...] at log_snr [B] (float64 for exact coefficients)."""
        x_t = noise.noised(x0, eps, log_snr)
        output = self.forward(network, x_t, log_snr)
        target = self.prediction.target(x0, eps, log_snr)
        return self.objective.loss(Terms(output, target, self.loss_weight(log_snr), log_snr))

    def forward(self, network: Network, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """F(inp x_t, condition) for x_t [B, ...] and log_snr [B]."""
        inp = self.prediction.coefficients(log_snr).inp
        return network(noise.expand(inp, x_t) * x_t, self.condition(log_snr).to(x_t.dtype))

    def denoise(
        self, network: Network, x_t: Tensor, log_snr: Tensor, *, clip: bool = False
    ) -> Tensor:
        """x0_hat [B, ...] for x_t [B, ...] and one log_snr [] or one per example [B]; clip to [-1, 1] if asked."""
        levels = log_snr.to(x_t.device).expand(len(x_t))
        x0 = self.prediction.x0(self.forward(network, x_t, levels).to(x_t.dtype), x_t, levels)
        return x0.clamp(-1.0, 1.0) if clip else x0


def training_levels(diffusion: Diffusion, u: Tensor) -> Tensor:
    """log_snr [B] for uniform u [B] in (0, 1), in float64."""
    return diffusion.timesteps.log_snr(u.to(torch.float64), diffusion.schedule)

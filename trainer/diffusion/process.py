"""What is one diffusion training objective? The six families put together over a network.

The network is any callable (x [B, C, ...], condition [B]) -> [B, C', ...]; `condition` is the scalar that tells it
the noise level, C' is `output_channels(C)`. What else it is told (a label, an image) was bound to it before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from pydantic import model_validator

from trainer.diffusion import log_snr as noise
from trainer.diffusion.objective import MSE, AnyObjective, Terms
from trainer.diffusion.prediction import AnyPrediction, Epsilon, Mixture
from trainer.diffusion.reverse import HALF_BIN, between, log_variances
from trainer.diffusion.schedule import AnySchedule, Cosine, Respaced
from trainer.diffusion.timestep import AnyTimestepSampler, Uniform
from trainer.diffusion.weighting import AnyWeighting, Simple
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn


Network: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


class Scalars(NamedTuple):
    """What follows from the noise level alone; all [B], the first four as exact as it is."""

    log_snr: Tensor
    importance: Tensor
    weight: Tensor
    """Factor on |F - F*|^2."""
    residual_weight: Tensor
    """The prediction's share of it."""
    alpha: Tensor
    sigma: Tensor
    inp: Tensor
    condition: Tensor
    """What the network is told."""
    data: Tensor
    """Of the target."""
    noise: Tensor


class Asked(NamedTuple):
    """Noised examples, and what the network is asked of them."""

    x0: Tensor
    """[B, C, ...]"""
    eps: Tensor
    """[B, C, ...]"""
    at: Scalars
    x_t: Tensor
    """[B, C, ...]"""
    x: Tensor
    """What it sees: x_t, scaled [B, C, ...]."""
    condition: Tensor
    """What it is told, in the type of x [B]."""


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
    conditioning: Literal["angle", "time", "log_snr", "step", "relative_step"] = "angle"
    """What the network is told: `angle` (2/pi) atan(sigma/alpha), the same for every schedule;
    `time` t of this schedule, as DDPM does; `log_snr` -log_snr/8, EDM's ln(edm_sigma)/4; `step` k/1000 and
    `relative_step` k/T for entry k = 0..T-1 of a schedule with T steps, which networks of a thousand timesteps read
    as k (diffusers; improved-diffusion with rescale_timesteps False) and as 1000 k/T (with True)."""

    @model_validator(mode="after")
    def _objective_fits(self) -> Diffusion:
        self.objective.check(self.schedule)
        self.timesteps.check(self.schedule)
        if self.schedule.learns and not isinstance(self.timesteps, Uniform):
            raise ValueError(
                "timesteps: a learned schedule itself says where training looks; use timesteps uniform"
            )
        if self.conditioning in ("step", "relative_step") and self.schedule.steps is None:
            raise ValueError(
                f"conditioning: {self.conditioning} counts the entries of a table; give the schedule steps, or use "
                "time or angle"
            )
        if self.objective.weighs_itself and not isinstance(self.weighting, Simple):
            raise ValueError(
                f"weighting: objective {self.objective.kind} weighs the noise levels itself; use weighting simple"
            )
        return self

    def live(
        self, *, schedule: nn.Module | None = None, timesteps: nn.Module | None = None
    ) -> Diffusion:
        """This diffusion on the modules that its members built, if any, as they stand at every call."""
        parts: dict[str, Spec] = {}
        if schedule is not None:
            parts["schedule"] = self.schedule.live(schedule)
        if timesteps is not None:
            parts["timesteps"] = self.timesteps.live(timesteps)
        return self.model_copy(update=parts) if parts else self

    def output_channels(self, channels: int) -> int:
        """Output channels the network must have for data of `channels` channels."""
        return channels * self.prediction.heads + self.objective.extra_channels(channels)

    def condition(self, log_snr: Tensor) -> Tensor:
        """The network's noise-level input [B] for log_snr [B]."""
        if self.conditioning == "angle":
            return noise.angle(log_snr)
        if self.conditioning == "time":
            return self.schedule.time(log_snr)
        if self.conditioning == "log_snr":
            return -log_snr / 8.0
        return self._step(log_snr)

    def _step(self, log_snr: Tensor) -> Tensor:
        """The entry's number, of the schedule that was respaced if one was, over 1000 or the number of entries."""
        table = self.schedule.of if isinstance(self.schedule, Respaced) else self.schedule
        assert table.steps is not None, "checked"
        entry = (table.time(log_snr) * table.steps - 1.0).clamp_min(0.0)
        return entry / (1000.0 if self.conditioning == "step" else table.steps)

    def loss_weight(self, log_snr: Tensor) -> Tensor:
        """Factor on |F - F*|^2 [B]: weighting x importance x the prediction's change of space."""
        return (
            self.weighting.weight(log_snr, self.schedule)
            * self.timesteps.importance(log_snr, self.schedule)
            * self.prediction.residual_weight(log_snr)
        )

    def loss(
        self,
        network: Network,
        x0: Tensor,
        eps: Tensor,
        log_snr: Tensor,
        *,
        part: nn.Module | None = None,
    ) -> Tensor:
        """Loss of each example [B]; arguments as of `terms`."""
        return self.objective.loss(self.terms(network, x0, eps, log_snr, part=part))

    def terms(
        self,
        network: Network,
        x0: Tensor,
        eps: Tensor,
        log_snr: Tensor | Scalars,
        *,
        part: nn.Module | None = None,
        half_bin: float | None = HALF_BIN,
    ) -> Terms:
        """Everything the objective may look at, from one pass of the network.

        x0, eps [B, ...] at log_snr [B] (float64 for exact coefficients), or at what `scalars` made of it; `part` is
        what `objective.build()` gave, `half_bin` half the distance between the data's values, None for points.
        """
        asked = self.asked(x0, eps, log_snr)
        answer = network(asked.x, asked.condition)
        return self.answered(asked, answer, part=part, half_bin=half_bin)

    def asked(self, x0: Tensor, eps: Tensor, log_snr: Tensor | Scalars) -> Asked:
        """What the network is asked of x0, eps [B, ...] at log_snr [B], or at what `scalars` made of it."""
        at = log_snr if isinstance(log_snr, Scalars) else self.scalars(log_snr)
        x_t = noise.expand(at.alpha, x0) * x0 + noise.expand(at.sigma, eps) * eps
        return Asked(x0, eps, at, x_t, noise.expand(at.inp, x_t) * x_t, at.condition.to(x_t.dtype))

    def answered(
        self,
        asked: Asked,
        answer: Tensor,
        *,
        part: nn.Module | None = None,
        half_bin: float | None = HALF_BIN,
    ) -> Terms:
        """The terms of the network's answer [B, C', ...]; `part` and `half_bin` as of `terms`."""
        x0, eps, at, x_t, _, _ = asked
        output, extra = self._split(answer, x0.shape[1])
        return Terms(
            output=self.prediction.merged(output, at.log_snr),
            target=Mixture(at.data, at.noise).of(x0, eps),
            weight=at.weight,
            log_snr=at.log_snr,
            importance=at.importance,
            residual_weight=at.residual_weight,
            x0=x0,
            x_t=x_t,
            prediction=self.prediction,
            schedule=self.schedule,
            extra=extra,
            log_variance=part(at.log_snr) if part is not None else None,
            half_bin=half_bin,
        )

    def scalars(self, log_snr: Tensor) -> Scalars:
        """All that training makes of noise levels log_snr [B]."""
        log_snr = self.objective.levels(log_snr, self.schedule)
        importance = self.timesteps.importance(log_snr, self.schedule)
        weight = self.weighting.weight(log_snr, self.schedule) * importance
        residual_weight = self.prediction.residual_weight(log_snr)
        return Scalars(
            log_snr,
            importance,
            weight * residual_weight,
            residual_weight,
            noise.alpha(log_snr),
            noise.sigma(log_snr),
            self.prediction.coefficients(log_snr).inp,
            self.condition(log_snr),
            *self.prediction.mixture(log_snr),
        )

    def forward(self, network: Network, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """F(inp x_t, condition) for x_t [B, ...] and log_snr [B], with all its channels."""
        inp = self.prediction.coefficients(log_snr).inp
        return network(noise.expand(inp, x_t) * x_t, self.condition(log_snr).to(x_t.dtype))

    def denoise(
        self, network: Network, x_t: Tensor, log_snr: Tensor, *, clip: bool = False
    ) -> Tensor:
        """x0_hat [B, ...] for x_t [B, ...] and one log_snr [] or one per example [B]; clip to [-1, 1] if asked."""
        return self.estimate(network, x_t, log_snr, clip=clip)[0]

    def denoiser(self, network: Network, *, clip: bool = False) -> NetworkDenoiser:
        """The network as solvers want it: x0_hat, and the reverse step's variance if it was learned."""
        return NetworkDenoiser(self, network, clip)

    def estimate(
        self, network: Network, x_t: Tensor, log_snr: Tensor, *, clip: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """x0_hat as of `denoise`, and the channels that the objective added, if any."""
        levels = log_snr.to(x_t.device).expand(len(x_t))
        output, extra = self._split(self.forward(network, x_t, levels), x_t.shape[1])
        merged = self.prediction.merged(output.to(x_t.dtype), levels)
        x0 = self.prediction.x0(merged, x_t, levels)
        return (x0.clamp(-1.0, 1.0) if clip else x0), extra

    def _split(self, output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
        """The prediction's channels and the objective's, which stand last."""
        extra = self.objective.extra_channels(channels)
        if output.shape[1] != self.output_channels(channels):
            raise ValueError(
                f"the network has {output.shape[1]} output channels, objective {self.objective.kind} "
                f"needs {self.output_channels(channels)} with prediction {self.prediction.kind}"
            )
        return (output, None) if extra == 0 else (output[:, :-extra], output[:, -extra:])


class NetworkDenoiser:
    """(x_t [B, ...], log_snr []) -> x0_hat [B, ...], and with it the log variance of the reverse step."""

    def __init__(self, diffusion: Diffusion, network: Network, clip: bool) -> None:
        self.diffusion, self.network, self.clip = diffusion, network, clip

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """x0_hat."""
        return self._estimate(x, log_snr)[0]

    def with_log_variance(
        self, x: Tensor, log_snr: Tensor, cleaner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x0_hat and log variance [B, ...] of the step to the level `cleaner`; raises ValueError if never learned."""
        variance = getattr(self.diffusion.objective, "variance", None)
        x0, extra = self._estimate(x, log_snr)
        if extra is None or variance not in ("learned_range", "learned"):
            raise ValueError(
                f"solver.variance: learned needs an objective with a learned variance (hybrid, vlb), "
                f"not {self.diffusion.objective.label()}"
            )
        extra = extra.to(x.dtype)
        if variance == "learned":
            return x0, extra
        small, large = (value.expand(len(x)) for value in log_variances(log_snr, cleaner))
        return x0, between(small, large, 0.5 * (extra + 1.0))

    def _estimate(self, x: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.diffusion.estimate(self.network, x, log_snr, clip=self.clip)


def training_levels(diffusion: Diffusion, u: Tensor) -> Tensor:
    """log_snr [B] for uniform u [B] in (0, 1), in float64."""
    return diffusion.timesteps.log_snr(u.to(torch.float64), diffusion.schedule)

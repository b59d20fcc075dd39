"""What may an objective look at, and what must it answer?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from trainer.diffusion.prediction import Prediction
from trainer.diffusion.reverse import HALF_BIN
from trainer.diffusion.schedule import Schedule
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn


class Terms(NamedTuple):
    """Everything an objective may look at; tensors [B, ...] in the network's space, scalars [B]."""

    output: Tensor
    target: Tensor
    weight: Tensor
    """Factor on |output - target|^2: weighting, importance and the prediction's change of space."""
    log_snr: Tensor
    importance: Tensor
    """The share of `weight` that undoes the timestep sampler's density; 1 unless it is `unbiased`."""
    residual_weight: Tensor
    """The prediction's change of space alone, SNR out^2."""
    x0: Tensor
    x_t: Tensor
    prediction: Prediction
    schedule: Schedule
    extra: Tensor | None = None
    """The network's channels beyond the prediction's, as many as `extra_channels` asked for."""
    log_variance: Tensor | None = None
    """What the objective's built part says about this noise level [B]."""
    half_bin: float | None = HALF_BIN
    """Half the distance between neighbouring values of the data in [-1, 1]; None: they are points, without bins."""

    def x0_hat(self, *, detached: bool = False) -> Tensor:
        """The network's estimate of x0, if asked without its gradient."""
        output = self.output.detach() if detached else self.output
        return self.prediction.x0(output.to(self.x_t.dtype), self.x_t, self.log_snr)

    def squared(self) -> Tensor:
        """weight/importance |F - F*|^2 [B, ...]: the same for every prediction with the same x0_hat.

        Zero where the importance is: such an example counts nothing, whatever its error.
        """
        error = self.output.to(self.target.dtype) - self.target
        share = torch.where(self.importance > 0.0, self.weight / self.importance, 0.0)
        share = share.to(error.dtype)
        return share.reshape(-1, *([1] * (error.ndim - 1))) * error.square()


class Part(NamedTuple):
    """One term of an expected loss: the mean of importance x f(weight x |eps - eps_hat|^2) over the levels drawn."""

    form: str
    """f with its parameters, and what its gradient reaches: equal texts are equal functions."""
    weight: Callable[[Tensor], Tensor] | None = None
    """What the formula itself makes of a noise level, log_snr to weight; None: the cell's weighting."""
    linear: bool = True
    """Whether f is linear, so that weight and density count by their product alone."""


SQUARED_ERROR = "squared error"
"""The form of every objective that is a weighted mean square."""


class Objective(Spec):
    """Per-example loss."""

    weighs_itself: ClassVar[bool] = False
    """Whether the formula fixes the weight of every noise level, so that only weighting `simple` fits."""

    def loss(self, terms: Terms) -> Tensor:
        """Loss of each example [B]; the batch loss is its mean."""
        raise NotImplementedError

    def parts(self, schedule: Schedule) -> tuple[Part, ...]:
        """What the expected loss is made of; a member that says nothing counts as a form of its own, not linear."""
        return (Part(self.canonical(), linear=False),)

    def extra_channels(self, channels: int) -> int:
        """Output channels the network needs beyond the prediction's, for data of `channels` channels."""
        return 0

    def decodes(self, schedule: Schedule) -> bool:
        """Whether the loss asks how probable the data's own values are, so that it depends on their number."""
        return False

    def build(self) -> nn.Module | None:
        """The trained part, log_snr [B] -> log variance [B], if there is one; it belongs to the optimizer."""
        return None

    def levels(self, log_snr: Tensor, schedule: Schedule) -> Tensor:
        """The noise levels actually trained [B]; a chain moves them to its own."""
        return log_snr

    def check(self, schedule: Schedule) -> None:
        """Raise ValueError, naming the field, if this objective does not fit the schedule."""

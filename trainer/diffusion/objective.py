"""Which scalar is minimized? An objective turns one example's residual into its loss."""

from typing import Literal, NamedTuple

from torch import Tensor

from trainer.spec import Spec


class Terms(NamedTuple):
    """Everything an objective may look at; tensors [B, ...] in the network's space, scalars [B]."""

    output: Tensor
    target: Tensor
    weight: Tensor
    """Factor on |output - target|^2: weighting, importance and the prediction's change of space."""
    log_snr: Tensor


class Objective(Spec):
    """Per-example loss."""

    def loss(self, terms: Terms) -> Tensor:
        """Loss of each example [B]; the batch loss is its mean."""
        raise NotImplementedError


class MSE(Objective):
    """weight * mean over dimensions of |F - F*|^2."""

    kind: Literal["mse"] = "mse"

    def loss(self, terms: Terms) -> Tensor:
        """Weighted mean squared error [B]."""
        error = terms.output.to(terms.target.dtype) - terms.target
        return terms.weight.to(error.dtype) * error.square().flatten(1).mean(1)


AnyObjective = MSE
"""The members of the family. A new objective is one class above and one name here."""

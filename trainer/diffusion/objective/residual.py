"""Which function of the residual F - F* is minimized, when noise levels are only weighed?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.bounds import Exponent
from trainer.diffusion.constant import constant
from trainer.diffusion.objective.base import SQUARED_ERROR, Objective, Part, Terms
from trainer.diffusion.schedule import Schedule
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


class MSE(Objective):
    """weight * mean over dimensions of |F - F*|^2."""

    kind: Literal["mse"] = "mse"

    def loss(self, terms: Terms) -> Tensor:
        """Weighted mean squared error [B]."""
        error = terms.output.to(terms.target.dtype) - terms.target
        return terms.weight.to(error.dtype) * error.square().flatten(1).mean(1)

    def parts(self, schedule: Schedule) -> tuple[Part, ...]:
        """The weighted square."""
        return (Part(SQUARED_ERROR),)


class Huber(Objective):
    """2 c (sqrt(e^2 + c^2) - c) of the weighted residual e (pseudo-Huber; Song & Dhariwal 2023, eq. 7, per dimension).

    The weight goes inside the root, so that every prediction with the same x0_hat has the same loss. A large c
    gives `mse`, a small one the absolute error.
    """

    kind: Literal["huber"] = "huber"
    c: Annotated[float, Field(ge=1e-12, le=1e9)] = 0.1
    """Weighted residual at which the square turns into an absolute value."""

    def loss(self, terms: Terms) -> Tensor:
        """Written so that small residuals keep their digits: e^2 2c / (sqrt(e^2 + c^2) + c)."""
        squared = terms.squared()
        values = squared * (2.0 * self.c) / (torch.sqrt(squared + self.c**2) + self.c)
        return terms.importance.to(values.dtype) * values.flatten(1).mean(1)


class Multiscale(Objective):
    """Squared error of the residual's discrete cosine transform, coarse scales weighing more (k-diffusion).

    W_ij = min(v_i, v_j), v = -log2 of frequencies from 0.5/N to 0.5: 1 for the finest, up to `scales` for the coarsest.
    """

    kind: Literal["multiscale"] = "multiscale"
    scales: Exponent = 4.0
    """Largest weight; 1 is `mse`, 0 does not limit it (log2 2N)."""

    def loss(self, terms: Terms) -> Tensor:
        """Orthonormal DCT-II over height and width, weighted mean square [B]; raises ValueError without them."""
        error = terms.output.to(terms.target.dtype) - terms.target
        if error.ndim != 4:
            raise ValueError(
                "objective multiscale: the data has no height and width; use objective mse"
            )
        for dimension in (2, 3):
            basis = _basis(error.shape[dimension], like=error)
            error = torch.tensordot(error, basis, ([dimension], [1])).movedim(-1, dimension)
        weight = _frequency_weight(self, error.shape[2], error.shape[3], like=error)
        return terms.weight.to(error.dtype) * (weight * error.square()).flatten(1).mean(1)

    def parts(self, schedule: Schedule) -> tuple[Part, ...]:
        """The weighted square of each frequency; of all alike, by Parseval's theorem, the square itself."""
        return (Part(SQUARED_ERROR if self.scales == 1.0 else self.canonical()),)

    def frequency_weight(self, height: int, width: int) -> Tensor:
        """W [height, width], float64."""
        rows, columns = (
            -torch.log2(torch.linspace(0.5 / n, 0.5, n, dtype=torch.float64))
            for n in (height, width)
        )
        weight = torch.minimum(rows[:, None], columns[None, :])
        return weight.clamp(max=self.scales) if self.scales >= 1.0 else weight


class Gaussian(Objective):
    """(e^2 exp(-u) + u)/2: the weighted residual e as a normal whose log variance u the network outputs.

    u is the mean of one further output channel (k-diffusion's isotropic Gaussian output). With weighting `edm` and
    prediction `preconditioned` of one sigma_data the weight is 1 and this is the published loss.
    """

    kind: Literal["gaussian"] = "gaussian"

    def loss(self, terms: Terms) -> Tensor:
        """One u per example [B]."""
        assert terms.extra is not None, "the network lacks the channel of objective gaussian"
        squared = terms.squared().flatten(1).mean(1)
        u = terms.extra.to(squared.dtype).flatten(1).mean(1)
        return terms.importance.to(squared.dtype) * 0.5 * (squared * torch.exp(-u) + u)

    def extra_channels(self, channels: int) -> int:
        """One."""
        return 1


class LearnedUncertainty(Objective):
    """e^2 exp(-u) + u with a learned u(log_snr): all noise levels weigh alike (Karras et al. 2024, eq. 21)."""

    kind: Literal["learned_uncertainty"] = "learned_uncertainty"

    def loss(self, terms: Terms) -> Tensor:
        """With u = 0, where training starts, equal to `mse`."""
        assert terms.log_variance is not None, "pass objective.build() to Diffusion.terms as `part`"
        squared = terms.squared().flatten(1).mean(1)
        u = terms.log_variance.to(squared.dtype)
        return terms.importance.to(squared.dtype) * (squared * torch.exp(-u) + u)

    def build(self) -> nn.Module:
        """u(log_snr), zero at the start."""
        from trainer.diffusion.objective.uncertainty import Uncertainty

        return Uncertainty()


def cosine_basis(n: int) -> Tensor:
    """Orthonormal DCT-II matrix [n, n], float64: row k is the k-th cosine."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    basis = torch.cos(math.pi * k * (2.0 * i + 1.0) / (2.0 * n)) * math.sqrt(2.0 / n)
    basis[0] /= math.sqrt(2.0)
    return basis


_basis = constant(cosine_basis)


@constant
def _frequency_weight(objective: Multiscale, height: int, width: int) -> Tensor:
    return objective.frequency_weight(height, width)


ResidualObjectives = MSE | Huber | Multiscale | Gaussian | LearnedUncertainty
"""The members in this file. A new objective is one class above and one name here."""

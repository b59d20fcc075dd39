"""What does the network's output F mean? x0_hat = skip x_t + out F(inp x_t).

The regression target is the same relation solved for F with the true x0, given as a mixture
F* = data x0 + noise eps whose coefficients stay finite at both ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from trainer.bounds import Scale
from trainer.diffusion import log_snr as noise
from trainer.lazily import torch
from trainer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Coefficients(NamedTuple):
    """Per-example scalars [B] of x0_hat = skip x_t + out F(inp x_t)."""

    skip: Tensor
    out: Tensor
    inp: Tensor


class Mixture(NamedTuple):
    """Per-example scalars [B] of the target F* = data x0 + noise eps."""

    data: Tensor
    noise: Tensor

    def of(self, x0: Tensor, eps: Tensor) -> Tensor:
        """F* for x0, eps [B, ...]."""
        return noise.expand(self.data, x0) * x0 + noise.expand(self.noise, eps) * eps


class Prediction(Spec):
    """Meaning of the network's output, in the variance-preserving gauge."""

    heads: ClassVar[int] = 1
    """How many outputs of the data's channels the network has."""

    def merged(self, output: Tensor, log_snr: Tensor) -> Tensor:
        """F [B, C, ...] from the network's output [B, heads C, ...] at log_snr [B]."""
        return output

    def coefficients(self, log_snr: Tensor) -> Coefficients:
        """skip, out and inp at log_snr [B]."""
        raise NotImplementedError

    def mixture(self, log_snr: Tensor) -> Mixture:
        """The target's share of x0 and of eps at log_snr [B]."""
        raise NotImplementedError

    def target(self, x0: Tensor, eps: Tensor, log_snr: Tensor) -> Tensor:
        """F* for x0, eps [B, ...] and log_snr [B]."""
        return self.mixture(log_snr).of(x0, eps)

    def x0(self, output: Tensor, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """x0_hat from the network's output and x_t [B, ...] at log_snr [B]."""
        c = self.coefficients(log_snr)
        return noise.expand(c.skip, x_t) * x_t + noise.expand(c.out, output) * output

    def residual_weight(self, log_snr: Tensor) -> Tensor:
        """SNR out^2: turns a weight on the epsilon-MSE into one on |F - F*|^2."""
        return torch.exp(log_snr) * self.coefficients(log_snr).out ** 2


class Epsilon(Prediction):
    """F = eps (Ho et al. 2020)."""

    kind: Literal["epsilon"] = "epsilon"

    def coefficients(self, log_snr: Tensor) -> Coefficients:
        """x0 = (x_t - sigma F) / alpha."""
        alpha = noise.alpha(log_snr)
        return Coefficients(1.0 / alpha, -noise.edm_sigma(log_snr), torch.ones_like(alpha))

    def mixture(self, log_snr: Tensor) -> Mixture:
        """eps."""
        return Mixture(torch.zeros_like(log_snr), torch.ones_like(log_snr))


class Data(Prediction):
    """F = x0."""

    kind: Literal["data"] = "data"

    def coefficients(self, log_snr: Tensor) -> Coefficients:
        """x0 = F."""
        one = torch.ones_like(log_snr)
        return Coefficients(torch.zeros_like(one), one, one)

    def mixture(self, log_snr: Tensor) -> Mixture:
        """x0."""
        return Mixture(torch.ones_like(log_snr), torch.zeros_like(log_snr))


class Velocity(Prediction):
    """F = v = alpha eps - sigma x0 (Salimans & Ho 2022, section 4)."""

    kind: Literal["velocity"] = "velocity"

    def coefficients(self, log_snr: Tensor) -> Coefficients:
        """x0 = alpha x_t - sigma F."""
        alpha = noise.alpha(log_snr)
        return Coefficients(alpha, -noise.sigma(log_snr), torch.ones_like(alpha))

    def mixture(self, log_snr: Tensor) -> Mixture:
        """alpha eps - sigma x0."""
        return Mixture(-noise.sigma(log_snr), noise.alpha(log_snr))


class Both(Velocity):
    """Two heads, x0 and eps, whose estimates are averaged by sigma^2 and alpha^2 (v-diffusion; Salimans & Ho 2022).

    x0_hat = sigma^2 F_x0 + alpha^2 (x_t - sigma F_eps)/alpha: velocity prediction with F = alpha F_eps - sigma F_x0.
    """

    heads: ClassVar[int] = 2
    kind: Literal["both"] = "both"  # type: ignore[assignment]

    def merged(self, output: Tensor, log_snr: Tensor) -> Tensor:
        """alpha F_eps - sigma F_x0, the x0 head standing first; raises ValueError for an odd number of channels."""
        if output.shape[1] % 2:
            raise ValueError(f"prediction both needs two heads, not {output.shape[1]} channels")
        x0, eps = output.chunk(2, dim=1)
        return (
            noise.expand(noise.alpha(log_snr), eps) * eps
            - noise.expand(noise.sigma(log_snr), x0) * x0
        )


class Preconditioned(Prediction):
    """EDM: D = c_skip x + c_out F(c_in x) with x = x_t / alpha (Karras et al. 2022, table 1)."""

    kind: Literal["preconditioned"] = "preconditioned"
    sigma_data: Scale = 0.5
    """Standard deviation of the data; 1 is velocity prediction with the sign turned."""

    def coefficients(self, log_snr: Tensor) -> Coefficients:
        """c_skip, c_out, c_in of EDM, with 1/alpha moved into skip and inp."""
        alpha, edm_sigma = noise.alpha(log_snr), noise.edm_sigma(log_snr)
        total = torch.sqrt(edm_sigma**2 + self.sigma_data**2)
        return Coefficients(
            self.sigma_data**2 / (total**2 * alpha),
            edm_sigma * self.sigma_data / total,
            1.0 / (total * alpha),
        )

    def mixture(self, log_snr: Tensor) -> Mixture:
        """(x0 - c_skip x) / c_out, simplified."""
        edm_sigma = noise.edm_sigma(log_snr)
        total = torch.sqrt(edm_sigma**2 + self.sigma_data**2)
        return Mixture(edm_sigma / (self.sigma_data * total), -self.sigma_data / total)


class Flow(Prediction):
    """F = eps - x0 on the straight path x_s = (1 - s) x0 + s eps (Liu et al. 2022; Lipman et al. 2023).

    s = sigma / (alpha + sigma); the network sees x_s = x_t / (alpha + sigma).
    """

    kind: Literal["flow"] = "flow"

    def coefficients(self, log_snr: Tensor) -> Coefficients:
        """x0 = x_s - s F."""
        alpha, sigma = noise.alpha(log_snr), noise.sigma(log_snr)
        scale = 1.0 / (alpha + sigma)
        return Coefficients(scale, -sigma * scale, scale)

    def mixture(self, log_snr: Tensor) -> Mixture:
        """eps - x0."""
        one = torch.ones_like(log_snr)
        return Mixture(-one, one)


AnyPrediction = Annotated[
    Epsilon | Data | Velocity | Both | Preconditioned | Flow, Field(discriminator="kind")
]
"""The members of the family. A new prediction is one class above and one name here."""

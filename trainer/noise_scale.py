"""How large a batch would be worth its cost? The gradient noise scale, from the parts of each batch.

tr(Sigma)/|G|^2 of McCandlish et al. 2018 (appendix A.1), by the squared norms of a batch's gradient and of its parts'.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.distributed import World

_KEPT = 0.9998
"""Decay per update of both running means (k-diffusion): the mean of all updates in a short training."""


class NoiseScale:
    """Running means of both squared norms. One worker is enough: its passes over parts of a batch are small batches.

    The hooks see a part's gradient before it is added to the others and before workers exchange theirs. Nothing waits
    for the device, and workers meet only where losses are read.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], counts: Sequence[int], workers: int
    ) -> None:
        """`counts` are the examples of each pass of this worker; all workers have the same."""
        self._parameters, self._share = list(parameters), sum(counts)
        self._per_small = _per_small(counts)
        """Mean of 1/examples of the parts, which is what their mean squared norm is linear in."""
        self._per_batch = 1.0 / (self._share * workers)
        self._passes = len(counts)
        device = self._parameters[0].device
        self._means = torch.zeros(2, dtype=torch.float64, device=device)
        """Of the parts' squared norms (this worker's since `merge`), and of the batch's."""
        self._norms: list[Tensor] = []
        self._small = torch.zeros((), dtype=torch.float64, device=device)
        for parameter in self._parameters:
            parameter.register_hook(self._note)  # type: ignore[no-untyped-call]

    def _note(self, gradient: Tensor) -> None:
        self._norms.append(torch.linalg.vector_norm(gradient.detach()))

    def begin_again(self, counts: Sequence[int]) -> None:
        """The batch, in other passes; what is known of earlier ones is as if it had been so always."""
        self._norms.clear()
        self._small = torch.zeros_like(self._small)
        before, self._per_small, self._passes = self._per_small, _per_small(counts), len(counts)
        self._convert(before)

    def _convert(self, per_small: float) -> None:
        """The parts' mean squared norm, which was of parts of other sizes."""
        if per_small != self._per_small:
            scale = (self._per_small - self._per_batch) / (per_small - self._per_batch)
            small, big = self._means
            self._means = torch.stack([big + (small - big) * scale, big])

    def passed(self, count: int, factor: Tensor) -> None:
        """A pass over `count` examples is done; gradients are multiplied by the loss scaler's `factor` still."""
        square = torch.stack(self._norms).double().square().sum()
        self._norms.clear()
        self._small += square * (self._share / count / factor.double()) ** 2

    @torch.no_grad()
    def update(self) -> None:
        """The batch is done: its gradient is the mean over all workers, true and not yet clipped."""
        norms = torch._foreach_norm([p.grad for p in self._parameters if p.grad is not None])
        big = torch.stack(norms).double().square().sum()
        fresh = torch.stack([self._small / self._passes, big])
        self._small = torch.zeros_like(self._small)
        moved = _KEPT * self._means + (1.0 - _KEPT) * fresh
        self._means = torch.where(torch.isfinite(fresh).all(), moved, self._means)

    def merge(self, world: World) -> dict[str, float]:
        """`train/gns`, in images; nothing while the estimates are not positive. All workers call it together."""
        world.sum_(self._means)
        self._means /= world.size
        small, big = self._means.tolist()
        difference = self._per_small - self._per_batch
        trace = (small - big) / difference
        square = (self._per_small * big - self._per_batch * small) / difference
        return {"train/gns": trace / square} if trace > 0.0 and square > 0.0 else {}

    def state(self) -> dict[str, Any]:
        """What continues exactly, right after `merge`."""
        return {"means": self._means, "per_small": self._per_small}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self._means = state["means"]
        self._convert(state.get("per_small", self._per_small))


def _per_small(counts: Sequence[int]) -> float:
    return sum(1.0 / count for count in counts) / len(counts)

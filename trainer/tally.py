"""How large is the loss at each noise level? Means in bins of log-SNR between two reports."""

from typing import Any

import torch
from torch import Tensor

from trainer.distributed import World

BINS, LOWEST, WIDTH = 64, -16.0, 0.5
"""Bins of equal width from log-SNR -16 to 16; the outer two take what lies beyond."""
_TOGETHER = 64
"""Batches that are put into bins at once."""

Row = tuple[float, int, float, float]
"""Middle of a bin (log-SNR), examples in it, their mean epsilon-MSE, their mean loss as it is minimized."""


class Tally:
    """Sums of one training: a step only appends to a list, on the device; numbers are read where losses are."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._fresh: Tensor | None = None
        """Of this worker, since `merge` [3, BINS]: examples, epsilon-MSE, loss."""
        self._all: Tensor | None = None
        """Of all workers, since `read`."""

    @torch.no_grad()
    def add(self, log_snr: Tensor, unweighted: Tensor, weighted: Tensor) -> None:
        """Count a batch's examples; all [B]."""
        self._rows.append(
            torch.stack([x.detach().double() for x in (log_snr, unweighted, weighted)])
        )
        if len(self._rows) >= _TOGETHER:
            self._sort()

    def merge(self, world: World) -> None:
        """Add up what the workers have seen since the last time; all of them call it after the same batches."""
        self._sort()
        if self._fresh is None:
            return
        world.sum_(self._fresh)
        self._all = self._fresh if self._all is None else self._all + self._fresh
        self._fresh = None

    def read(self) -> list[Row]:
        """The bins that saw examples, clean end last; begins again."""
        if self._all is None:
            return []
        counts, *totals = self._all.tolist()
        self._all = None
        return [
            (LOWEST + WIDTH * (i + 0.5), int(n), totals[0][i] / n, totals[1][i] / n)
            for i, n in enumerate(counts)
            if n > 0.0
        ]

    def state(self) -> dict[str, Any]:
        """What continues exactly, right after `merge`."""
        return {} if self._all is None else {"sums": self._all}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self._all = state.get("sums")

    def _sort(self) -> None:
        """Into bins, by a product with zeros and ones (its order of summation is fixed); without what is not finite."""
        if not self._rows:
            return
        rows = torch.cat(self._rows, 1)
        self._rows.clear()
        log_snr, values = rows[0], torch.stack([torch.ones_like(rows[0]), rows[1], rows[2]], 1)
        finite = torch.isfinite(values).all(1) & ~torch.isnan(log_snr)
        place = ((log_snr - LOWEST) / WIDTH).floor().clamp(0, BINS - 1)
        within = place[:, None] == torch.arange(BINS, device=place.device)
        sums = torch.where(finite[:, None], values, 0.0).T @ (within & finite[:, None]).double()
        self._fresh = sums if self._fresh is None else self._fresh + sums

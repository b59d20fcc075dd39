"""How large is the loss at each noise level? Means in bins of log-SNR between two reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.distributed import World
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


BINS, LOWEST, WIDTH = 64, -16.0, 0.5
"""Bins of equal width from log-SNR -16 to 16; the outer two take what lies beyond."""
_TOGETHER = 64
"""Batches that are put into bins at once."""

Row = tuple[float, int, float, float, float | None]
"""Middle of a bin (log-SNR), examples in it, their mean epsilon-MSE, their mean loss as it is minimized, and the mean
squared norm of the loss's gradient of those that were looked at for it; None: there were none."""


class Tally:
    """Sums of one training: a step only appends to a list, on the device; numbers are read where losses are."""

    def __init__(self) -> None:
        self._losses, self._gradients = _Sums(), _Sums()

    @staticmethod
    def row(log_snr: Tensor, unweighted: Tensor, weighted: Tensor) -> Tensor:
        """A batch's examples as they are counted, float64 [3, B]; all [B]."""
        return torch.stack([x.detach().double() for x in (log_snr, unweighted, weighted)])

    def add(self, row: Tensor) -> None:
        """Count a batch's examples, float64 [3, B]."""
        self._losses.add(row)

    def add_gradients(self, log_snr: Tensor, squares: Tensor) -> None:
        """Count the squared norms of some examples' gradients; all [B], B may be 0.

        All workers call it at the same steps.
        """
        self._gradients.add(torch.stack([log_snr.double(), squares.double()]))

    def merge(self, world: World) -> None:
        """Add up what the workers have seen since the last time; all of them call it after the same batches."""
        self._losses.merge(world)
        self._gradients.merge(world)

    def read(self) -> list[Row]:
        """The bins that saw examples, clean end last; begins again."""
        squares = {i: mean for i, _, (mean,) in self._gradients.read()}
        return [
            (LOWEST + WIDTH * (i + 0.5), count, unweighted, weighted, squares.get(i))
            for i, count, (unweighted, weighted) in self._losses.read()
        ]

    def state(self) -> dict[str, Any]:
        """What continues exactly, of one worker at any time, of several right after `merge`."""
        parts = {"sums": self._losses.whole, "gradients": self._gradients.whole}
        since = {"since": self._losses.since(), "gradients_since": self._gradients.since()}
        return {name: sums for name, sums in (parts | since).items() if sums is not None}

    def restore(self, state: dict[str, Any], world: World) -> None:
        """Inverse of `state`; what one worker had seen alone, the first of several has seen."""
        self._losses.restore(state.get("sums"), state.get("since"), world.first)
        self._gradients.restore(state.get("gradients"), state.get("gradients_since"), world.first)


class _Sums:
    """Counts, and sums of values, by bin."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._fresh: Tensor | None = None
        """Of this worker, since `merge` [1 + values of each, BINS]: examples, their values."""
        self.whole: Tensor | None = None
        """Of all workers, since `read`."""

    def add(self, row: Tensor) -> None:
        """log-SNR and values, float64 [1 + values, B]."""
        self._rows.append(row)
        if len(self._rows) >= _TOGETHER:
            self._sort()

    def merge(self, world: World) -> None:
        """Add up over workers."""
        self._sort()
        if self._fresh is None:
            return
        world.sum_(self._fresh)
        self.whole = self._fresh if self.whole is None else self.whole + self._fresh
        self._fresh = None

    def since(self) -> dict[str, Any] | None:
        """What came after the last `merge`, in the order in which it will be added up; None: nothing."""
        if not self._rows and self._fresh is None:
            return None
        return {"rows": self._rows, "fresh": self._fresh}

    def restore(self, whole: Tensor | None, since: dict[str, Any] | None, mine: bool) -> None:
        """Go on from there; what is not `mine` counts nothing, but is added up by all."""
        self.whole = whole
        rows, fresh = ([], None) if since is None else (since["rows"], since["fresh"])
        self._rows = rows if mine else [row[:, :0] for row in rows]
        self._fresh = fresh if mine or fresh is None else torch.zeros_like(fresh)

    def read(self) -> list[tuple[int, int, list[float]]]:
        """Number, examples and means of each bin that has any; begins again."""
        if self.whole is None:
            return []
        counts, *totals = self.whole.tolist()
        self.whole = None
        return [
            (i, int(n), [total[i] / n for total in totals]) for i, n in enumerate(counts) if n > 0.0
        ]

    def _sort(self) -> None:
        """Into bins, by a product with zeros and ones (its order of summation is fixed); without what is not finite."""
        if not self._rows:
            return
        rows = torch.cat(self._rows, 1)
        self._rows.clear()
        log_snr, values = rows[0], torch.stack([torch.ones_like(rows[0]), *rows[1:]], 1)
        finite = torch.isfinite(values).all(1) & ~torch.isnan(log_snr)
        place = ((log_snr - LOWEST) / WIDTH).floor().clamp(0, BINS - 1)
        within = place[:, None] == torch.arange(BINS, device=place.device)
        sums = torch.where(finite[:, None], values, 0.0).T @ (within & finite[:, None]).double()
        self._fresh = sums if self._fresh is None else self._fresh + sums

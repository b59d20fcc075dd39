"""How large was the training loss at each noise level, over training? Reports of several seeds, put together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Row = tuple[float, int, float, float, float | None]
"""Middle of a bin (log-SNR), examples, mean epsilon-MSE, mean loss as minimized, mean squared norm of the gradient."""


class Interval(NamedTuple):
    """What a training saw since its report before."""

    kimg: float
    """Thousands of training images seen at its end."""
    rows: tuple[Row, ...]
    """One for each bin of log-SNR that was drawn (`trainer.report.Report.levels`)."""


@dataclass(frozen=True)
class Levels:
    """Means of one cell's trials by noise level and part of training; NaN where no example was drawn."""

    edges: tuple[float, ...]
    """kimg at which the parts begin and end [columns + 1]."""
    log_snr: tuple[float, ...]
    """Middles of the bins, ascending [bins]."""
    mse: NDArray[np.float64]
    """Epsilon-MSE [bins, columns]."""
    moment: NDArray[np.float64]
    """Mean squared norm of the loss's gradient [bins, columns]."""
    trials: int
    """How many are in the means."""

    @property
    def has_moment(self) -> bool:
        """Whether gradients were looked at."""
        return bool(np.isfinite(self.moment).any())


def by_cell(
    found: Mapping[tuple[str, int], Sequence[Interval]], cells: Sequence[str], columns: int
) -> dict[str, Levels]:
    """Every cell that has any, over the same bins and the same parts of training, at most `columns` of them.

    A mean is over the examples of all seeds. Neighbouring reports are put together.
    """
    every = [part for trial in found.values() for part in trial]
    bins = _bins({row[0] for part in every for row in part.rows})
    edges = thinned(sorted({round(part.kimg, 6) for part in every}), columns)
    trials = {cell: [parts for (of, _), parts in found.items() if of == cell] for cell in cells}
    return {cell: _combined(own, edges, bins) for cell, own in trials.items() if own}


def _combined(
    trials: Sequence[Sequence[Interval]], edges: Sequence[float], bins: Sequence[float]
) -> Levels:
    place = {middle: at for at, middle in enumerate(bins)}
    sums = {name: np.zeros((len(bins), len(edges))) for name in ("mse", "seen", "moment", "looked")}
    for part in (part for trial in trials for part in trial):
        column = int(np.searchsorted(edges, round(part.kimg, 6)))
        for middle, count, mse, _, moment in part.rows:
            at = place[middle], column
            if math.isfinite(mse):
                sums["mse"][at] += count * mse
                sums["seen"][at] += count
            if moment is not None and math.isfinite(moment):
                sums["moment"][at] += count * moment
                sums["looked"][at] += count
    return Levels(
        edges=(0.0, *edges),
        log_snr=tuple(bins),
        mse=_ratio(sums["mse"], sums["seen"]),
        moment=_ratio(sums["moment"], sums["looked"]),
        trials=len(trials),
    )


def _bins(drawn: Iterable[float]) -> list[float]:
    """Middles of equally wide bins from the noisiest that was drawn to the cleanest, ascending."""
    seen = sorted(drawn)
    if len(seen) < 2:
        return seen
    steps = np.round((np.asarray(seen) - seen[0]) * 1024).astype(int)
    width = int(np.gcd.reduce(steps)) / 1024
    return [seen[0] + width * place for place in range(round((seen[-1] - seen[0]) / width) + 1)]


def thinned(points: Sequence[float], most: int) -> list[float]:
    """At most so many of ascending points, evenly by place; the last one is among them."""
    if len(points) <= most:
        return list(points)
    places = np.linspace(0, len(points), most + 1)[1:].round().astype(int) - 1
    return [points[place] for place in places]


def _ratio(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(counts > 0, sums / np.where(counts > 0, counts, 1.0), np.nan)

"""May a cell still end as the best? What a rung says of the end, by its noise and by how well ranks have held.

Model: standardized by the spread between cells, the true difference D of two cells at the rung and E at the
end have correlation rho. The rung shows d = D + noise, with standard error e of a mean of paired differences.
With v = 2 s^2 the variance of D, s being the spread of the other cells at the rung (else one that is far off
would vouch for itself), and k = v / (v + e^2), given d,

    P(E < 0) = T(-rho k d / sqrt(v (1 - rho^2) + rho^2 k e^2)),

T the distribution function of Student's t with the degrees of freedom of the noise or of the spread, whichever
are fewer. A cell is excluded where that
is below error / (number of cells). By the sum of these probabilities over the excluded cells, the one that
would have ended best is among them with probability `error` at most, if rho is not overstated; it is
therefore taken a standard error below what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dashboards.verdict.statistics import Floats

PRIOR, WEIGHT = 0.8, 3.0
"""The correlation expected before anything has finished, and how many cells' worth of evidence it is."""
_FEWEST = 4
"""Cells that have to be seen at a rung before their spread is known at all."""
_HIGHEST = 0.99


def held(rung: Floats, end: Floats) -> float:
    """The correlation of rung and end over cells that have both, as a cautious number between 0 and .99.

    Spearman's rank correlation r as Pearson's 2 sin(pi r / 6), Fisher's z of it averaged with the prior by
    number of cells, and one standard error taken off.
    """
    n = len(rung)
    weight = max(0.0, n - 3.0)
    seen = 0.0
    if weight and np.ptp(rung) > 0 and np.ptp(end) > 0:
        from scipy import stats

        ranks = float(stats.spearmanr(rung, end).statistic)
        seen = math.atanh(min(_HIGHEST, max(-_HIGHEST, 2.0 * math.sin(math.pi * ranks / 6.0))))
    z = (weight * seen + WEIGHT * math.atanh(PRIOR)) / (weight + WEIGHT)
    return min(_HIGHEST, max(0.0, math.tanh(z - 1.0 / math.sqrt(weight + WEIGHT))))


@dataclass(frozen=True)
class Field:
    """The cells that have come to a rung; lower is better."""

    values: Mapping[str, Floats]
    """Cell to its values by seed."""
    means: Mapping[str, float]
    spreads: Mapping[str, float]
    """Cell to the standard deviation of the other cells' true means."""
    noise: float
    """Standard deviation of a pair's difference."""
    freedom: int
    """Degrees of freedom of the noise; 0: one seed tells none."""


def field(values: Mapping[str, Floats]) -> Field | None:
    """From each cell's values by seed, all finite; None while too few cells have come."""
    cells = [cell for cell, own in values.items() if np.isfinite(own).all()]
    if len(cells) < _FEWEST:
        return None
    table = np.array([values[cell] for cell in cells])
    means = table.mean(axis=1)
    count, seeds = table.shape
    own = table - means[:, None] - table.mean(axis=0)[None, :] + table.mean()
    freedom = (count - 1) * (seeds - 1)
    variance = 2.0 * float((own**2).sum()) / freedom if freedom else 0.0
    spreads = {
        cell: math.sqrt(max(0.0, float(np.delete(means, at).var(ddof=1)) - variance / 2.0 / seeds))
        for at, cell in enumerate(cells)
    }
    means_of = dict(zip(cells, map(float, means), strict=True))
    return Field(dict(values), means_of, spreads, math.sqrt(variance), freedom)


def chance(seen: Field, cell: str, other: str, rho: float) -> float:
    """Probability that the cell ends better than the other, by the model above."""
    from scipy import special

    differences = seen.values[cell] - seen.values[other]
    shown = float(differences.mean())
    error = seen.noise**2 / len(differences)
    true = 2.0 * seen.spreads[cell] ** 2
    if true == 0.0:
        return 0.5
    kept = true / (true + error)
    scale = math.sqrt(true * (1.0 - rho**2) + rho**2 * kept * error)
    z = -rho * kept * shown / scale
    freedom = len(seen.means) - 2
    return float(special.stdtr(min(freedom, seen.freedom or freedom), z))

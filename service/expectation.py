"""How many trials will seeds until decided take? Simulated before anything is paid for, under stated effects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from dashboards.verdict.statistics import ALPHA, fewest_seeds

EFFECTS = (0.0, 1.0, 2.0)
"""True differences of every cell from the baseline, in standard deviations of a pair's difference."""
_REPEATS = 2000


def expected_trials(looks: Sequence[int], rivals: int, effect: float, *, seed: int = 0) -> float:
    """Mean number of trials until every one of `rivals` cells is decided or the last look is over.

    Differences are Gaussian with a common part, since all cells share the baseline's trials. At look k
    a cell is decided by a paired t test at the part of alpha that is spent there, in proportion to the
    seeds, over the number of cells (Bonferroni): a plain stand-in for the joint permutation test, which
    loses nothing to the number of cells. SAME is left out: whether it can be said depends on the margin.
    """
    rng = np.random.default_rng(seed)
    most, fewest = looks[-1], fewest_seeds()
    own = rng.standard_normal((_REPEATS, rivals, most))
    common = rng.standard_normal((_REPEATS, 1, most))
    differences = effect + (own + common) / np.sqrt(2.0)
    ends = np.full((_REPEATS, rivals), most)
    is_open = np.ones((_REPEATS, rivals), dtype=bool)
    spent = 0.0
    for look in looks:
        level, spent = ALPHA * look / most - spent, ALPHA * look / most
        if look < fewest:
            spent = 0.0  # nothing is spent where nothing can be said
            continue
        seen = differences[:, :, :look]
        t = np.abs(seen.mean(axis=2)) / (seen.std(axis=2, ddof=1) / np.sqrt(look))
        falls = is_open & (t > stats.t.ppf(1 - level / (2 * rivals), look - 1))
        ends[falls] = look
        is_open &= ~falls
    return float(np.mean(ends.sum(axis=1) + ends.max(axis=1)))

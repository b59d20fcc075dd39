"""Proves: the power calculation has the power it promises, and knows its own uncertainty."""

from __future__ import annotations

import numpy as np

from dashboards.verdict.planning import more_seeds
from dashboards.verdict.statistics import sign_flip_p


def test_power_calculation_has_the_power_it_promises() -> None:
    """Simulate the sign-flip test with the seeds it asks for: it finds the effect in about 80 %."""
    values = np.array([0.3, 1.1, 1.7, 0.9])  # mean 1, sd 0.577...
    sd = float(values.std(ddof=1))
    for effect in (0.6, 0.9):
        scaled = (values - 1.0) / sd + effect  # sd 1, mean `effect`
        plan = more_seeds(scaled, margin=None)
        assert plan.total is not None
        assert plan.more == plan.total - 4
        rng = np.random.default_rng(17)
        draws = [sign_flip_p(rng.normal(effect, 1, plan.total)) for _ in range(300)]
        # t power at the smallest sufficient n is 0.80 to 0.84; the test is discrete: up to -0.05
        assert 0.72 < float(np.mean(np.array(draws) < 0.05)) < 0.92


def test_more_seeds_knows_its_own_uncertainty() -> None:
    plan = more_seeds([-0.3, 1.1, 1.7], margin=None)
    assert plan.low is not None
    assert plan.more is not None
    assert plan.high is not None
    assert plan.low < plan.more < plan.high
    assert more_seeds([0.9, 1.1, 1.0], margin=None).total == 6
    assert more_seeds([0.9, 1.1, 1.0], margin=None, comparisons=2).total == 7
    one = more_seeds([0.4], margin=0.1)
    assert (one.more, one.spread_known) == (5, False)


def test_sameness_can_be_what_settles_it() -> None:
    """Mean 0: no number of seeds finds a difference, but enough of them show there is none."""
    values = [-1.0, 0.0, 1.0]
    assert more_seeds(values, margin=None).more is None
    near, far = more_seeds(values, margin=1.0).total, more_seeds(values, margin=0.5).total
    assert near is not None
    assert far is not None
    assert 6 < near < far
    # half the margin takes four times the seeds (less the t quantile's change)
    assert 3.0 < far / near < 4.2

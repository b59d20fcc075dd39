"""Proves: a pair is a number above zero where the cell is worse, and a lost trial is the worst there is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dashboards.verdict.samples import LOST, Sample
from dashboards.verdict.statistics import sign_flip_p

NAN = pytest.approx(math.nan, nan_ok=True)


def sample(
    base: list[float], cell: list[float], *, lower: bool = True, ratio: bool = True
) -> Sample:
    return Sample("eval/fid", lower, ratio, dict(enumerate(base)), dict(enumerate(cell)))


def test_differences_are_above_zero_where_the_cell_is_worse() -> None:
    assert sample([4.0, 2.0], [8.0, 1.0]).differences() == pytest.approx(np.log([2, 0.5]))
    assert sample([4.0, 2.0], [8.0, 1.0], lower=False).differences() == pytest.approx(
        np.log([0.5, 2])
    )
    signed = sample([0.1, -0.1], [-0.2, 0.3], ratio=False)
    assert signed.differences() == pytest.approx([-0.3, 0.4])


def test_a_lost_trial_is_as_large_as_the_largest_difference_against_whoever_lost_it() -> None:
    found = sample([1.0, LOST, 1.0, LOST, 1.0], [2.0, 1.0, math.inf, LOST, 1.0])
    assert found.surviving == [0, 4]
    assert found.lost == (1, 1)
    worst = math.log(2)
    assert list(found.column(range(5))) == pytest.approx(
        [worst, -worst, worst, math.nan, 0.0], nan_ok=True
    )
    assert found.differences() == pytest.approx([worst, 0.0])
    better = sample([2.0, 1.0], [1.0, LOST], lower=False)
    assert list(better.column([0, 1])) == pytest.approx([math.log(2), math.log(2)])


def test_seeds_that_have_not_ended_are_no_pair() -> None:
    found = sample([1.0, 1.0], [2.0, LOST])
    assert list(found.column([5, 1, 0])) == [
        NAN,
        pytest.approx(math.log(2)),
        pytest.approx(math.log(2)),
    ]


def test_where_nobody_survives_every_loss_counts_one() -> None:
    found = sample([1.0] * 6, [LOST] * 6)
    assert list(found.column(range(6))) == [1.0] * 6
    assert sign_flip_p(found.column(range(6))) == 2 / 64
    assert found.differences().shape == (0,)
    both = sample([LOST] * 6, [LOST] * 6)
    assert np.isnan(both.column(range(6))).all()
    assert both.lost == (0, 0)


def test_the_largest_difference_is_that_of_the_seeds_looked_at() -> None:
    """What a look sees does not depend on seeds that come after it."""
    found = sample([1.0, 1.0, 1.0], [2.0, LOST, 100.0])
    assert found.column([0, 1])[1] == pytest.approx(math.log(2))
    assert found.column([0, 1, 2])[1] == pytest.approx(math.log(100))
    first = found.until([0, 1])
    assert (list(first.cell), list(first.baseline)) == ([0, 1], [0, 1])
    assert first.column([0, 1]) == pytest.approx(found.column([0, 1]))
    assert list(found.until([2, 9, 0]).cell) == [2, 0]


def test_exchanging_cell_and_baseline_turns_every_sign() -> None:
    rng = np.random.default_rng(0)
    base, cell = np.exp(rng.normal(0, 1, (2, 9))).tolist()
    base[2] = cell[5] = LOST
    one, other = sample(base, cell), sample(cell, base)
    assert other.column(range(9)) == pytest.approx(-one.column(range(9)))
    assert other.lost == one.lost[::-1]

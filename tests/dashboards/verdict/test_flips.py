"""Proves: many differences are judged together as a slow, literal reading of the method would."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from dashboards.verdict.flips import flipped, step_down, threshold
from dashboards.verdict.statistics import Floats, sign_flip_p


def literal(columns: Floats, early: NDArray[np.bool_] | None = None) -> list[float]:
    """Step by step: the largest of all, then the largest of the rest, each against its own maximum."""
    n, count = columns.shape
    scale = [sum(x * x for x in columns[:, v] if x == x) ** 0.5 for v in range(count)]
    flips = list(itertools.product((1, -1), repeat=n))[::1]

    def sums(flip: tuple[int, ...]) -> list[float]:
        return [
            abs(sum(s * x for s, x in zip(flip, columns[:, v], strict=True) if x == x))
            / (scale[v] or 1.0)
            for v in range(count)
        ]

    observed = sums((1,) * n)
    left = sorted(range(count), key=lambda v: -observed[v])
    p, highest = [0.0] * count, 0.0
    while left:
        best = left[0]
        reached = 0
        for place, flip in enumerate(flips):
            found = sums(flip)
            before = early is not None and any(early[place, v] for v in left)
            reached += before or max(found[v] for v in left) >= observed[best] - 1e-9
        highest = max(highest, reached / len(flips))
        p[best] = highest
        left = left[1:]
    return p


def adjusted(columns: Floats) -> Floats:
    observed, under = flipped(columns)
    return step_down(np.abs(observed), np.abs(under))


def with_gaps(rng: np.random.Generator, n: int, count: int) -> Floats:
    columns = rng.normal(0.8, 1, (n, 1)) + rng.normal(0, 1, (n, count))
    columns[rng.random((n, count)) < 0.15] = np.nan
    return columns


@pytest.mark.parametrize("seed", range(6))
def test_adjusted_p_is_the_literal_step_down(seed: int) -> None:
    columns = with_gaps(np.random.default_rng(seed), 6, 4)
    assert adjusted(columns) == pytest.approx(literal(columns))


def test_what_exceeded_before_counts_as_exceeding() -> None:
    rng = np.random.default_rng(3)
    columns = rng.normal(1, 1, (5, 3))
    flips = np.array(list(itertools.product((1.0, -1.0), repeat=5)))
    early = rng.random((32, 3)) < 0.1
    observed, under = flipped(columns, flips)
    p = step_down(np.abs(observed), np.abs(under), early)
    assert p == pytest.approx(literal(columns, early))
    assert (p >= adjusted(columns)).all()
    assert (p > adjusted(columns)).any()


@pytest.mark.parametrize("seed", range(20))
def test_an_adjusted_p_is_never_below_that_of_one_alone(seed: int) -> None:
    columns = np.random.default_rng(seed).normal(0.7, 1, (8, 5))
    p = adjusted(columns)
    assert (p >= [sign_flip_p(columns[:, v]) - 1e-12 for v in range(5)]).all()
    strength = np.argsort(-np.abs(flipped(columns)[0]))
    assert (np.diff(p[strength]) >= 0).all(), "what stands out more has no larger p"
    assert adjusted(columns[:, :1])[0] == sign_flip_p(columns[:, 0])


def test_the_order_and_unit_of_columns_do_not_matter() -> None:
    columns = np.random.default_rng(9).normal(0.5, 1, (7, 4))
    p = adjusted(columns)
    assert adjusted(columns[:, ::-1]) == pytest.approx(p[::-1])
    assert adjusted(columns * [1, -1000, 0.001, 1]) == pytest.approx(p)


def test_columns_that_say_the_same_cost_nothing() -> None:
    """Nothing is divided by the number of comparisons: twenty copies are one."""
    one = np.random.default_rng(5).normal(1, 1, (8, 1))
    assert adjusted(np.tile(one, 20)) == pytest.approx([sign_flip_p(one[:, 0])] * 20)


@pytest.mark.parametrize("cells", [1, 3, 40])
def test_six_seeds_are_enough_for_any_number_of_clear_cells(cells: int) -> None:
    columns = np.random.default_rng(cells).uniform(0.1, 3, (6, cells))
    assert (adjusted(columns) == 2 / 64).all()
    assert (adjusted(columns[:5]) == 2 / 32).all()


def test_a_clear_cell_is_found_among_noise_that_is_not() -> None:
    rng = np.random.default_rng(1)
    columns = np.concatenate([rng.uniform(0.9, 1.1, (8, 1)), rng.normal(0, 1, (8, 6))], axis=1)
    p = adjusted(columns)
    assert p[0] < 0.05
    assert (p[1:] > 0.05).all()


def test_no_pair_is_no_evidence() -> None:
    columns = np.array([[1.0, np.nan, 0.0]] * 6)
    assert list(flipped(columns)[0]) == [pytest.approx(6**0.5), 0.0, 0.0]
    assert list(adjusted(columns)) == [2 / 64, 1.0, 1.0]
    fewer = np.array([[2.0], [1.0], [np.nan], [3.0]])
    assert adjusted(fewer)[0] == sign_flip_p([2.0, 1.0, 3.0])


@pytest.mark.parametrize("spent", [0.0, 0.01, 0.05, 0.3, 1.0])
def test_no_more_flips_exceed_the_threshold_than_may(spent: float) -> None:
    under = np.abs(flipped(np.random.default_rng(2).normal(0, 1, (9, 3)))[1])
    limit = threshold(under, spent)
    beyond = float((under > limit).any(axis=1).mean())
    assert beyond <= spent
    lower = np.sort(np.unique(under.max(axis=1)))
    lower = lower[lower < limit - 1e-6]
    if spent < 1 and len(lower):
        assert (under.max(axis=1) >= lower[-1] - 1e-9).mean() > spent, "it is the lowest that does"


def test_flips_that_exceeded_before_use_up_what_may_be_spent() -> None:
    under = np.abs(flipped(np.random.default_rng(2).normal(0, 1, (9, 3)))[1])
    early = np.zeros(under.shape, dtype=bool)
    early[:20, 1] = True
    limit = threshold(under, 0.05, early)
    both = (under > limit).any(axis=1) | early.any(axis=1)
    assert 20 / 512 < both.mean() <= 0.05
    early[:26] = True
    assert threshold(under, 0.05, early) == np.inf
    assert threshold(under[:, :0], 0.05) == np.inf

"""Proves: looking several times, as planned, does not raise how often there is a claim without a difference."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dashboards.verdict.flips import flipped, step_down
from dashboards.verdict.looks import Family, misses, spending
from dashboards.verdict.statistics import ALPHA, Floats, interval, sign_flip_p, smallest_p


def claims(columns: Floats, looks: tuple[int, ...]) -> bool:
    """Whether anything stands out at any look."""
    family = Family(looks, two_sided=True)
    return any(bool((family.look(columns[:n]) < ALPHA).any()) for n in looks)


@pytest.mark.parametrize(
    "looks",
    [(6,), (3, 6, 12), (6, 9, 12), (4, 8, 12, 16, 20, 24), (7, 30), (2, 3, 4, 5, 6), (3, 5)],
)
def test_error_is_spent_over_the_looks_and_all_of_it_at_the_last(looks: tuple[int, ...]) -> None:
    spent = spending(looks)
    assert list(spent) == sorted(spent)
    assert spent[-1] == ALPHA
    assert all(0 < part <= ALPHA for part in spent)
    proportional = [ALPHA * n / looks[-1] for n in looks]
    assert all(part >= fair - 1e-12 for part, fair in zip(spent, proportional, strict=True))


def test_the_first_look_that_can_decide_gets_enough_for_it() -> None:
    assert spending((6, 9, 12)) == pytest.approx((2 / 64, 0.0375, 0.05))
    assert spending((3, 6, 24)) == pytest.approx((0.05 * 3 / 24, 2 / 64, 0.05))
    assert spending((4, 7, 20)) == pytest.approx((0.01, 0.05 * 7 / 20, 0.05)), "7/20 is more"
    family = Family((6, 24), two_sided=True)
    assert family.look(np.arange(1.0, 7.0)[:, None])[0] < ALPHA


def test_one_look_is_the_test_itself() -> None:
    columns = np.random.default_rng(0).normal(0.5, 1, (9, 5))
    family = Family((9,), two_sided=True)
    observed, under = flipped(columns)
    assert family.look(columns) == pytest.approx(step_down(np.abs(observed), np.abs(under)))
    one_sided = Family((9,), two_sided=False).look(columns)
    assert one_sided == pytest.approx(np.minimum(1, 2 * step_down(observed, under)))
    single = Family((9,), two_sided=True).look(columns[:, :1])
    assert single[0] == pytest.approx(sign_flip_p(columns[:, 0]))


@pytest.mark.parametrize(
    ("looks", "count"), [((6, 8, 10), 1), ((6, 8, 10), 4), ((3, 6, 9), 3), ((7, 8, 9, 10), 2)]
)
def test_of_all_signs_of_any_data_no_more_than_a_twentieth_is_a_claim(
    looks: tuple[int, ...], count: int
) -> None:
    """Not by simulation: under no difference all signs of the seeds are equally likely, and all are tried."""
    n = looks[-1]
    columns = np.abs(np.random.default_rng([n, count]).standard_t(3, (n, count)))
    columns *= np.random.default_rng(1).choice([-1, 1], (n, count))
    patterns = list(
        itertools.product((1.0, -1.0), repeat=n - 1)
    )  # the mirror image claims the same
    wrong = sum(claims(np.array([1.0, *signs])[:, None] * columns, looks) for signs in patterns)
    assert wrong / len(patterns) <= ALPHA
    assert wrong / len(patterns) > 0.6 * ALPHA, (
        "what may be spent is spent, as far as flips are fine"
    )


@pytest.mark.parametrize(("looks", "cells"), [((6, 9, 12), 1), ((4, 8, 16), 3)])
def test_claims_without_a_difference_stay_below_five_percent(
    looks: tuple[int, ...], cells: int
) -> None:
    """Rivals share the baseline's noise, two measures of one cell are alike."""
    rng = np.random.default_rng(12)
    wrong = 0
    for _ in range(400):
        trials = rng.standard_t(4, (looks[-1], cells + 1))
        final = trials[:, 1:] - trials[:, :1]
        wrong += claims(
            np.concatenate([final, final + rng.normal(0, 1, final.shape)], axis=1), looks
        )
    assert wrong / 400 <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 400)


def test_a_column_that_stood_out_makes_room_for_the_others() -> None:
    """The size that is left is that of the rest: a second look tests it as if the first column were not there."""
    rng = np.random.default_rng(4)
    clear, other = rng.uniform(1, 2, (8, 1)), rng.normal(0.4, 1, (8, 1))
    both = Family((6, 8), two_sided=True)
    assert list(both.look(np.hstack([clear, other])[:6]) < ALPHA) == [True, False]
    gone = np.hstack([np.full((8, 1), np.nan), other])
    alone = Family((6, 8), two_sided=True)
    alone.look(other[:6])
    p = both.look(gone)
    assert p[0] == 1.0
    assert p[1] == pytest.approx(alone.look(other)[0])


def test_a_look_too_early_spends_nothing_that_it_cannot_use() -> None:
    columns = np.arange(1.0, 9.0)[:, None]
    family = Family((3, 8), two_sided=True)
    assert family.look(columns[:3])[0] > ALPHA
    assert family.size == 0
    assert family.look(columns)[0] == smallest_p(8)


def test_the_size_is_what_was_spent() -> None:
    columns = np.random.default_rng(7).normal(0, 1, (12, 4))
    family, spent = Family((6, 9, 12), two_sided=True), spending((6, 9, 12))
    for n, most in zip((6, 9, 12), spent, strict=True):
        before = family.size
        family.look(columns[:n])
        assert before <= family.size <= most
    assert family.size > 0.9 * ALPHA


def test_a_column_of_less_weight_disturbs_the_others_less_and_may_still_stand_out() -> None:
    rng = np.random.default_rng(3)
    worse = 0
    for _ in range(30):
        columns = rng.normal(0.9, 1, (9, 4))
        plain, light = (
            Family((9,), two_sided=True, weights=weights).look(columns)
            for weights in (1.0, np.array([1.0, 0.85, 0.85, 0.85]))
        )
        alone = sign_flip_p(columns[:, 0])
        assert alone <= light[0]
        assert light[0] <= max(plain[0], light[1:].max())
        worse += light[0] < plain[0]
    assert worse > 5
    assert (
        Family((6,), two_sided=True, weights=np.array([1, 0.85])).look(np.ones((6, 2))) < ALPHA
    ).all()


def test_without_numbers_nothing_stands_out() -> None:
    family = Family((6, 12), two_sided=True)
    assert list(family.look(np.full((6, 2), np.nan))) == [1.0, 1.0]
    assert list(family.look(np.zeros((12, 2)))) == [1.0, 1.0]


def test_intervals_at_several_looks_miss_in_five_percent_together() -> None:
    assert misses((9,)) == (ALPHA,)
    looks = (6, 9, 12)
    nominal = misses(looks)
    assert all(smallest_p(n) <= miss < ALPHA for n, miss in zip(looks, nominal, strict=True))
    assert sum(nominal) > ALPHA, "looks at the same seeds miss together"
    rng = np.random.default_rng(6)
    missed = 0
    for _ in range(1000):
        values = rng.normal(0, 1, 12)
        found = [interval(values[:n], miss) for n, miss in zip(looks, nominal, strict=True)]
        missed += any(not (f.low or 0) <= 0 <= (f.high or 0) for f in found)
    assert abs(missed / 1000 - ALPHA) < 3 * math.sqrt(ALPHA * (1 - ALPHA) / 1000)


def test_what_was_chosen_among_more_spends_less_and_is_not_disturbed_by_a_word_that_did_not_fall() -> (
    None
):
    """Nine pairs of one sign among four that were chosen from: p = 4 x 2/512, whatever a second measure does."""
    rng = np.random.default_rng(0)
    first = -5 + 0.3 * rng.standard_normal((9, 1))
    columns = np.hstack([first, 8 * rng.standard_normal((9, 1)) - first])
    family = Family((6, 9), two_sided=True, weights=np.array([1.0, 0.85]), alpha=ALPHA / 4)
    assert family.look(columns[:6])[0] == pytest.approx(min(1.0, 4 * 2 / 64 * 9 / 6))
    assert family.look(columns)[0] == pytest.approx(4 * 2 / 512)
    assert spending((6, 9), ALPHA / 4)[-1] == ALPHA / 4

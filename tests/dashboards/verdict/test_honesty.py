"""Proves, in a short form of `make honesty`: whole reports claim too much in no more than 5 % of experiments."""

from __future__ import annotations

import math

import pytest

from tests.honesty.certificate import Schedule, Tally, fixed, planned, run, unplanned
from tests.honesty.worlds import World

EXPERIMENTS = 120
LOOSE = 3
"""Standard errors within which a rate has to hold: the full certificate is two and a half times as sharp."""


@pytest.mark.parametrize(
    ("world", "schedule"),
    [
        (World("gaussian", (0.0,) * 5), fixed(6)),
        (World("log-normal", (0.0, 0.0)), fixed(8)),
        (World("t3", (0.0,)), planned(6, 9, 12)),
        (World("gaussian", (0.0, 0.0)), unplanned(3, (3, 6, 9, 12))),
        (World("gaussian", (0.0,), metric="eval/kid"), fixed(7)),
        (World("gaussian", (0.0,), further=2), fixed(8)),
    ],
    ids=["five rivals", "skewed", "looks", "unplanned", "own scale", "further protocols"],
)
def test_reports_without_a_difference_claim_one_in_at_most_five_percent(
    world: World, schedule: Schedule
) -> None:
    tally = run(world, schedule, EXPERIMENTS)
    bound = 0.05 + LOOSE * math.sqrt(0.05 * 0.95 / EXPERIMENTS)
    assert tally.claims / tally.experiments <= bound
    for name, hits in tally.covered.items():
        share, error = Tally.rate(sum(hits), len(hits))
        assert share >= 0.94 - LOOSE * math.sqrt(len(world.effects)) * error, name


def test_a_difference_as_large_as_the_margin_is_not_called_the_same() -> None:
    world = World("gaussian", (math.log1p(0.1), math.log1p(0.1)), margin=0.1)
    tally = run(world, fixed(8), EXPERIMENTS)
    assert tally.same / tally.experiments <= 0.05 + LOOSE * math.sqrt(0.05 * 0.95 / EXPERIMENTS)


def test_differences_are_found_as_often_as_by_a_test_of_nothing_else() -> None:
    """One rival, twelve pairs, one standard deviation: a sign-flip test of this number alone finds 87.5 %."""
    from tests.honesty.worlds import PAIR_SD

    tally = run(World("gaussian", (PAIR_SD,)), fixed(12), EXPERIMENTS)
    share, error = Tally.rate(tally.decided, tally.cells)
    assert share >= 0.875 - 0.08 - LOOSE * error

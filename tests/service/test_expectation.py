"""What seeds until decided are expected to take lies between the first look and the last, and falls with the effect."""

from __future__ import annotations

import time

import pytest

from service.expectation import EFFECTS, expected_trials

LOOKS = (6, 9, 12, 15, 18, 21, 24)


@pytest.mark.parametrize("rivals", [1, 2, 5])
def test_a_larger_effect_takes_fewer_trials(rivals: int) -> None:
    counts = [expected_trials(LOOKS, rivals, effect) for effect in (*EFFECTS, 20.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 6 * (rivals + 1)
    assert 23.0 * (rivals + 1) < counts[0] <= 24 * (rivals + 1)
    assert counts[0] > 1.5 * counts[2]


def test_no_difference_is_claimed_in_five_percent_at_most() -> None:
    """With two looks a claim at the first saves the second: the mean says how often it fell."""
    mean = expected_trials((6, 12), 1, 0.0)
    early = (24 - mean) / 12
    assert early == pytest.approx(0.025, abs=0.011), (
        "half of alpha is spent there; 3 standard errors"
    )


def test_looks_below_six_seeds_decide_nothing() -> None:
    assert expected_trials((2, 4), 1, 50.0) == 8


def test_it_is_quick() -> None:
    began = time.process_time()
    for effect in EFFECTS:
        expected_trials(LOOKS, 5, effect)
    assert time.process_time() - began < 2.0, "measured at 0.2 s"

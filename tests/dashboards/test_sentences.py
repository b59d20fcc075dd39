"""Proves: numbers are rounded as a person would, and costs, ratios and shares carry sensible units."""

from __future__ import annotations

import pytest

from dashboards import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.2149, "4.21"),
        (0.03127, "0.0313"),
        (1234.6, "1235"),
        (-0.5, "-0.500"),
        (0.0, "0"),
        (1.2e-7, "1.20e-07"),
        (9.999, "10.0"),
        (float("nan"), "n/a"),
        (None, "n/a"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0461, "+4.6 %"), (-0.2, "-20.0 %"), (1.5, "+150 %"), (None, "n/a")]
)
def test_percent(share: float | None, text: str) -> None:
    assert wording.percent(share) == text


def test_unsigned_percent_drops_an_empty_decimal() -> None:
    assert wording.percent(0.02, signed=False) == "2 %"
    assert wording.percent(0.025, signed=False) == "2.5 %"


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.001, "1 CPU-minute"),
        (0.2, "12 CPU-minutes"),
        (2.5, "2.5 CPU-hours"),
        (48.4, "48 CPU-hours"),
        (1234.0, "1234 CPU-hours"),
    ],
)
def test_hours(hours: float, text: str) -> None:
    assert wording.hours(hours, "CPU") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.26, "4.3 s"), (17.2, "17 s"), (245.0, "4 min 05 s"), (7800.0, "2 h 10 min"), (None, "")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


def test_mean_and_spread_share_their_decimals() -> None:
    assert wording.with_spread(4.1149, 0.1312) == ("4.11", "0.13")
    assert wording.with_spread(2.7229, 0.0951) == ("2.72", "0.10")
    assert wording.with_spread(321.4, 17.2) == ("321", "17")
    assert wording.with_spread(4.1149, 0.0) == ("4.11", "0")


def test_p_values() -> None:
    assert wording.p_value(0.25) == "p = 0.25"
    assert wording.p_value(2 / 64) == "p = 0.031"
    assert wording.p_value(1e-5) == "p < 0.001"


def test_titles_tell_the_protocols_apart() -> None:
    assert wording.title("eval/fid") == "FID"
    assert wording.title("rung/fid") == "FID (cheap protocol)"
    assert wording.title("eval/recall") == "recall"


def test_names_are_a_list_in_words() -> None:
    assert wording.names(["a"]) == "`a`"
    assert wording.names(["a", "b", "c"]) == "`a`, `b` and `c`"

"""Proves: numbers are rounded as a person would, and costs, ratios and shares carry sensible units."""

from __future__ import annotations

import pytest

from dashboards import text


@pytest.mark.parametrize(
    ("value", "written"),
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
def test_number(value: float | None, written: str) -> None:
    assert text.number(value) == written


@pytest.mark.parametrize(
    ("per_second", "written"),
    [(6.528, "6.53"), (553.1, "553"), (999.7, "1,000"), (1012.4, "1,012"), (11467.0, "11,470")],
)
def test_rates_have_commas_and_no_powers_of_ten(per_second: float, written: str) -> None:
    assert text.rate(per_second) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [(0.512, "0.512"), (9.6, "9.6"), (819.2, "819.2"), (999.96, "1,000"), (25000.0, "25,000")],
)
def test_kimg_has_commas_and_no_powers_of_ten(amount: float, written: str) -> None:
    assert text.kimg(amount) == written


@pytest.mark.parametrize(
    ("share", "written"), [(0.0461, "+4.6 %"), (-0.2, "-20.0 %"), (1.5, "+150 %"), (None, "n/a")]
)
def test_percent(share: float | None, written: str) -> None:
    assert text.percent(share) == written


def test_unsigned_percent_drops_an_empty_decimal() -> None:
    assert text.percent(0.02, signed=False) == "2 %"
    assert text.percent(0.025, signed=False) == "2.5 %"


@pytest.mark.parametrize(
    ("hours", "written"),
    [
        (0.001, "1 CPU-minute"),
        (0.2, "12 CPU-minutes"),
        (2.5, "2.5 CPU-hours"),
        (48.4, "48 CPU-hours"),
        (1234.0, "1234 CPU-hours"),
    ],
)
def test_hours(hours: float, written: str) -> None:
    assert text.hours(hours, "CPU") == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (4.26, "4.3 s"),
        (9.97, "10 s"),
        (17.2, "17 s"),
        (59.7, "1 min 00 s"),
        (245.0, "4 min 05 s"),
        (7800.0, "2 h 10 min"),
        (None, ""),
    ],
)
def test_duration(seconds: float | None, written: str) -> None:
    assert text.duration(seconds, tenths=True) == written
    if seconds is not None and seconds > 10:
        assert text.duration(seconds) == written


def test_whole_seconds_are_enough_for_a_forecast() -> None:
    assert text.duration(4.26) == "4 s"
    assert text.duration(18_120) == "5 h 02 min"


def test_mean_and_spread_share_their_decimals() -> None:
    assert text.with_spread(4.1149, 0.1312) == ("4.11", "0.13")
    assert text.with_spread(2.7229, 0.0951) == ("2.72", "0.10")
    assert text.with_spread(321.4, 17.2) == ("321", "17")
    assert text.with_spread(4.1149, 0.0) == ("4.11", "0")


def test_p_values() -> None:
    assert text.p_value(0.25) == "p = 0.25"
    assert text.p_value(2 / 64) == "p = 0.031"
    assert text.p_value(1e-5) == "p < 0.001"


def test_names_are_a_list_in_words() -> None:
    assert text.names(["a"]) == "`a`"
    assert text.names(["a", "b", "c"]) == "`a`, `b` and `c`"

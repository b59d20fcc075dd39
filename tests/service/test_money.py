"""A price is read as it is written, and hours become money by it."""

from __future__ import annotations

import pytest

from service.planning.money import Price
from service.resources import DeviceHours, Resources
from service.settings import load
from trainer.errors import InputError


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("2.5", Price(any=2.5)),
        (" 2.5 USD ", Price(any=2.5, unit="USD")),
        ("2.5€", Price(any=2.5, unit="€")),
        (".5", Price(any=0.5)),
        ("gpu=2.5,cpu=0.04 EUR", Price(gpu=2.5, cpu=0.04, unit="EUR")),
        ("cpu = 1", Price(cpu=1.0)),
    ],
)
def test_a_price_is_a_rate_with_a_unit(text: str, price: Price) -> None:
    assert Price.parse(text) == price


@pytest.mark.parametrize(
    "text",
    [
        "",
        "free",
        "-1",
        "0",
        "1e9",
        "9999999",
        "2,3",
        "gpu=1,gpu=2",
        "gpu=1,2",
        "tpu=3",
        "2.5 a day",
    ],
)
def test_anything_else_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"gpu=2\.5,cpu=0\.04 EUR|an hour costs more than 0"):
        Price.parse(text)


def test_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFSWEEP_PRICE", "2.5 EUR")
    assert load().price == Price(any=2.5, unit="EUR")
    monkeypatch.setenv("DIFFSWEEP_PRICE", "")
    assert load().price is None
    monkeypatch.setenv("DIFFSWEEP_PRICE", "dear")
    with pytest.raises(InputError, match="DIFFSWEEP_PRICE: `dear` is no price: write"):
        load()


@pytest.mark.parametrize(
    ("price", "gpus", "amount", "rate"),
    [
        ("2 EUR", 1, 20.0, "2 EUR per GPU-hour"),
        ("2 EUR", 0, 80.0, "2 EUR per CPU-hour"),
        ("gpu=2,cpu=0.5", 1, 40.0, "2 per GPU-hour and 0.5 per CPU-hour"),
        ("gpu=2,cpu=0.5", 0, 20.0, "0.5 per CPU-hour"),
        ("gpu=2", 0, None, ""),
    ],
)
def test_hours_become_money(price: str, gpus: float, amount: float | None, rate: str) -> None:
    hours = DeviceHours.of([(36000, Resources(gpus=gpus, cpus=4))])
    money = Price.parse(price).of(hours)
    assert (money.amount, money.rate) == (amount, rate) if money is not None else amount is None


def test_each_trial_pays_for_its_own_devices() -> None:
    hours = DeviceHours.of([(3600, Resources(gpus=1, cpus=8)), (7200, Resources(cpus=2))])
    money = Price.parse("2 EUR").of(hours)
    assert money is not None
    assert (money.amount, money.rate) == (10.0, "2 EUR per GPU-hour and 2 EUR per CPU-hour")
    both = Price.parse("gpu=2,cpu=0.5").of(hours)
    assert both is not None
    assert both.amount == 2 * 1 + 0.5 * (8 + 4)


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.001, "less than 0.01 EUR"), (1.234, "1.23 EUR"), (0, "0.00 EUR"), (1234.5, "1,234 EUR")],
)
def test_an_amount_is_written_as_money(hours: float, text: str) -> None:
    money = Price.parse("1 EUR").of(DeviceHours.of([(3600 * hours, Resources())]))
    assert money is not None
    assert money.text() == text

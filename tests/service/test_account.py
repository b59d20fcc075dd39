"""What was foretold of a run lies beside what it took, and is told."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import pytest

from service import launch
from service.experiment import Experiment
from service.planning import measuring
from service.planning.account import FILE, Account, Totals, accounts
from service.planning.money import Money
from service.planning.plan import plan
from service.planning.starting import Starting, learn, starting
from service.resources import Capacity
from service.results import collect, judged, report_page
from service.settings import Settings
from tests.service.sweeps import sweep
from tests.service.test_tracking import runs


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(measuring, "TRAIN_S", 0.05)
    monkeypatch.setattr(measuring, "GENERATE_S", 0.03)
    return Settings.model_validate({"home": tmp_path, "concurrency": 1, "price": "1 EUR"})


def inproc(toy: dict[str, Any], seeds: int, **changes: Any) -> Experiment:
    return sweep(toy, launcher="inproc", seeds=seeds, **changes)


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_run_alone_is_foretold_by_its_first_trial_and_the_next_before_it_trains(
    toy: dict[str, Any], settings: Settings
) -> None:
    first = launch.run(inproc(toy, 1), settings)
    assert first.finished == 2
    (one,) = accounts(settings.experiment("toy"))
    assert first.costs == one
    assert one.predicted is not None
    assert one.actual is not None
    assert one.after_s > 0, "nothing was known before"
    assert one.trials == 2
    assert one.is_whole
    hours = one.actual.cpu_hours
    assert one.predicted.cpu_hours > hours / 3, "it holds what was spent by then, and what was left"
    assert one.predicted.disk_bytes > 0
    assert one.actual.wall_s >= 3600 * hours
    assert one.actual.money is not None
    assert one.actual.money.amount == pytest.approx(hours)
    assert set(one.ratios) == {"wall_s", "cpu_hours", "disk_bytes"}
    told = first.summary()["costs"]
    assert told == json.loads((settings.experiment("toy") / FILE).read_text())[0]
    assert starting(settings.cache, "inproc", _place()).first_s == pytest.approx(first.first_step_s)

    second = launch.run(inproc(toy, 2), settings)
    earlier, two = accounts(settings.experiment("toy"))
    assert earlier == one
    assert second.costs == two
    assert two.predicted is not None
    assert (two.trials, two.after_s) == (2, 0.0)
    assert two.basis == "measured in 2 finished trials of the same shape"
    assert two.predicted.cpu_hours == pytest.approx(hours)
    (tags,) = [
        run.data.tags
        for run in runs(settings, "toy")
        if run.data.tags["diffsweep.key"] == "sweep:toy"
    ]
    assert tags["costs"] == two.text()

    judged_ = judged(inproc(toy, 2), settings, collect(inproc(toy, 2), settings))
    assert escape(two.text()) in report_page(inproc(toy, 2), settings, judged_)

    done = launch.run(inproc(toy, 2), settings)
    assert done.costs is None, "nothing was left to train"
    planned = plan(inproc(toy, 3), settings)
    assert planned.last_run == two
    assert len(accounts(settings.experiment("toy"))) == 2


def _place() -> str:
    from service.planning.speed import machine_digest

    return machine_digest("cpu")


def test_a_plan_is_what_the_next_run_is_told_beforehand(
    toy: dict[str, Any], settings: Settings
) -> None:
    """Timed once: the run's own plan, which measures nothing, says the same."""
    from service.planning.book import Book

    wanted = inproc(toy, 2)
    settings.prepare()
    book = Book(wanted, settings)
    book.foresee(Capacity(most=1), is_cluster=False)
    assert book.account is not None
    assert book.account.predicted is None, "nobody timed this machine"
    planned = plan(wanted, settings)
    book = Book(wanted, settings)
    book.foresee(Capacity(most=1), is_cluster=False)
    assert book.account is not None
    assert book.account.predicted == Totals(
        planned.wall_s, planned.cpu_hours, 0.0, planned.disk_bytes, planned.money
    )
    assert book.account.basis == planned.basis


def test_what_is_foretold_and_what_it_took_is_a_sentence() -> None:
    money = Money(0.5, "EUR", "1 EUR per GPU-hour")
    said, took = Totals(730, 8, 0.5, 10, money), Totals(785, 8, 0.6, 12, money)
    whole = Account(0.0, 4, said, "timed", actual=took, is_whole=True)
    assert whole.text() == (
        "predicted 12 min 10 s and 30 GPU-minutes, 0.50 EUR; took 13 min 05 s and 36 GPU-minutes, 0.50 EUR"
    )
    assert whole.ratios["wall_s"] == pytest.approx(730 / 785)
    assert Account.of(whole.to_dict()) == whole
    part = Account(0.0, 4, said, "timed", 20.0, took)
    assert "0.50 EUR, 20 s after its beginning; took" in part.text()
    assert part.text().endswith(" until it ended early")
    assert part.ratios == {}
    unknown = Account(0.0, 4, None, actual=took, is_whole=True)
    assert unknown.text() == "took 13 min 05 s and 36 GPU-minutes, 0.50 EUR"


@pytest.mark.parametrize("text", ["", "[{]", "{}", "[1]", '[{"begun_s": 1}]'])
def test_damaged_accounts_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert accounts(tmp_path) == []


def test_starting_is_learned_and_what_is_not_known_stays(tmp_path: Path) -> None:
    assumed = starting(tmp_path, "train", "here")
    learn(tmp_path, "train", "here", 20.0, None)
    assert starting(tmp_path, "train", "here") == Starting(20.0, assumed.each_s)
    learn(tmp_path, "train", "here", None, -1.0)
    assert starting(tmp_path, "train", "here") == Starting(20.0, 0.0)
    assert starting(tmp_path, "train", "cluster") == assumed
    assert starting(tmp_path, "inproc", "here") != assumed

"""What the watchdog tells and whom it would replace, by a clock of the test."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from service.watchdog import Watchdog
from trainer.pulse import FILE, Pulse

SHORTEST = 60.0


class Case:
    """A watchdog over one trial, and time that passes when the test says so."""

    def __init__(self, folder: Path, shortest_s: float = SHORTEST) -> None:
        self.folder, self.now, self.notes, self.beats = folder, 1000.0, list[str](), 0
        self.dog = Watchdog(self.notes.append, shortest_s, lambda: self.now)
        self.dog.started("k", "a seed 0", folder)

    def beat(self, images: int = 0, measures: bool = False) -> None:
        self.beats += 1
        told = Pulse(images, 1000, 10.0, 0.1, measures, time_s=float(self.beats))
        (self.folder / FILE).write_text(json.dumps(asdict(told)))

    def passes(self, seconds: float, beating_every: float | None = None) -> list[str]:
        """Whom it names meanwhile; it looks every two seconds, as a driver does."""
        named, since = list[str](), 0.0
        for _ in range(int(seconds / 2)):
            self.now, since = self.now + 2, since + 2
            if beating_every is not None and since >= beating_every:
                self.beat()
                since = 0.0
            named += self.dog.look()
        return named

    def training(self) -> None:
        """It has started and beats every four seconds."""
        assert self.passes(40, beating_every=4) == []
        assert self.notes == []


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_silence_is_told_of_once_and_then_it_is_replaced_once(case: Case) -> None:
    case.training()
    assert case.passes(70) == []
    assert case.passes(6) == []
    assert case.passes(10) == [], "20 times its four seconds are 80"
    assert len(case.notes) == 1
    assert case.notes[0].startswith("a seed 0: no sign of life since ")
    assert case.passes(400) == ["k"]
    assert case.notes[1].startswith("a seed 0: no sign of life for 6")
    assert len(case.notes) == 2


def test_who_goes_on_is_told_of_and_its_pace_is_learned(case: Case) -> None:
    case.training()
    assert case.passes(200) == []
    assert len(case.notes) == 1
    case.beat()
    assert case.passes(4) == []
    assert "goes on after 3 min" in case.notes[1]
    assert case.passes(3000) == []
    assert len(case.notes) == 2, "200 s proved to be usual here"


def test_a_process_that_was_replaced_has_the_time_to_start(case: Case) -> None:
    """The pulse of the dead one is still there."""
    case.training()
    assert case.passes(900) == ["k"]
    case.dog.started("k", "a seed 0", case.folder)
    assert case.passes(1500) == []
    assert len(case.notes) == 3
    assert case.passes(10_000) == ["k"]


def test_measuring_takes_longer_and_a_report_says_how_long(case: Case) -> None:
    case.training()
    case.beat(100, measures=True)
    assert case.passes(3500) == []
    assert case.notes == [], "nobody knows yet how long it takes"
    case.dog.heard("k", 10.0)
    case.training()
    case.beat(200, measures=True)
    assert case.passes(190) == []
    case.dog.heard("k", 10.0)
    assert case.notes == []
    case.beat(1000, measures=True)
    assert case.passes(3500) == []
    assert case.notes == [], "the last one is larger"


def test_a_trial_whose_disk_is_elsewhere_is_heard_by_its_reports(tmp_path: Path) -> None:
    case = Case(tmp_path)
    for _ in range(3):
        assert case.passes(400) == []
        case.dog.heard("k", 5.0)
    assert case.passes(7900) == []
    assert case.notes == [], "20 times 400 s"
    assert case.passes(300) == []
    assert len(case.notes) == 1
    assert case.passes(40_000) == ["k"]


def test_clocks_that_jump_and_a_driver_that_stood_still_alarm_nobody(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.training()
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert case.passes(50) == []
    case.now += 100_000  # Ctrl-Z, or a machine that slept
    assert case.passes(20) == []
    assert case.notes == []
    assert case.passes(40) == []
    assert len(case.notes) == 1, "then time counts again"


def test_who_has_ended_is_not_watched_and_zero_turns_it_off(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.training()
    case.dog.ended("k")
    case.dog.heard("k")
    assert case.passes(10_000) == []
    silent = Case(tmp_path, shortest_s=0.0)
    assert silent.passes(10_000) == []
    assert case.notes == silent.notes == []


def test_trials_that_share_a_process_live_by_each_others_signs(tmp_path: Path) -> None:
    """While one measures the others wait, and are not blamed; a process that says nothing is told of once."""
    (tmp_path / "b").mkdir()
    case, other = Case(tmp_path), tmp_path / "b"
    case.dog.ended("k")
    case.dog.started("k", "a seed 0", tmp_path, "p")
    case.dog.started("l", "a seed 1", other, "p")
    for _ in range(10):  # both train
        case.beat()
        (other / FILE).write_bytes((tmp_path / FILE).read_bytes())
        assert case.passes(4) == []
    assert case.passes(600, beating_every=4) == [], "the other waits"
    case.beat(images=500, measures=True)
    assert case.passes(2000) == [], "nothing is known yet of how long it measures"
    assert case.notes == []
    case.beat(images=501)
    assert case.passes(700) == ["k"]
    assert len(case.notes) == 2

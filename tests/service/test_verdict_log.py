"""Looks that were planned before the first verdict stand, whatever the YAML says later; and no verdict is forgotten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.experiment import Experiment
from service.results import Judged, collect, judged
from service.settings import Settings
from service.verdict_log import LOG, VerdictLog, in_force, wished
from tests.conftest import toy_trial
from tests.service.by_hand import Driver
from tests.service.sweeps import UNDER, sweep


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seeds of two cells, trained."""
    home = tmp_path_factory.mktemp("home")
    driver = Driver(sweep(toy_trial(), seeds=8), home)
    list(driver.jobs())
    driver.close()
    return home


@pytest.fixture
def settings(home: Path) -> Settings:
    known = Settings(home=home, tracking_uri=None)
    (known.experiment("toy") / LOG).unlink(missing_ok=True)
    return known


def look(experiment: Experiment, settings: Settings, **asked: Any) -> Judged:
    return judged(experiment, settings, collect(experiment, settings, **asked))


def test_the_plan_of_the_first_verdict_stands(toy: dict[str, Any], settings: Settings) -> None:
    look(sweep(toy, seeds=1), settings)
    assert VerdictLog.read(settings.experiment("toy")) is None, "one pair shows no noise"

    six, eight = sweep(toy, seeds=6), sweep(toy, seeds=8)
    assert in_force(six, settings).looks == (6,)
    first = look(six, settings)
    assert first.verdicts is not None
    assert first.verdicts.guarantee.looks == (6,)
    assert not first.verdicts.guarantee.anytime

    plan = in_force(eight, settings)
    assert (plan.looks, plan.seeds) == ((6,), tuple(range(8)))
    assert plan.cells == wished(six).cells
    more = look(eight, settings)
    assert more.verdicts is not None
    assert more.verdicts.guarantee.looks == (6,)
    (before,), (now,) = first.verdicts.comparisons, more.verdicts.comparisons
    assert more.verdicts.guarantee.anytime == (before.word == "INCONCLUSIVE")
    if before.word != "INCONCLUSIVE":
        assert (now.word, now.decided_at) == (before.word, 6)


def test_a_screen_of_three_is_a_look_too(toy: dict[str, Any], settings: Settings) -> None:
    look(sweep(toy, seeds=3), settings)
    later = look(sweep(toy, seeds=8), settings)
    assert later.verdicts is not None
    assert later.verdicts.guarantee.looks == (3,)
    assert later.verdicts.guarantee.anytime


def test_every_verdict_is_kept_once(toy: dict[str, Any], settings: Settings) -> None:
    for seeds in (6, 6, 8, 8):
        look(sweep(toy, seeds=seeds), settings)
    log = VerdictLog.read(settings.experiment("toy"))
    assert log is not None
    assert [set(given.pairs) for given in log.given] == [{"under"}] * len(log.given)
    assert 1 <= len(log.given) <= 2
    assert log.planned.looks == (6,)
    assert json.loads((settings.experiment("toy") / LOG).read_text())["planned"]["looks"] == [6]


def test_another_question_is_called_one(toy: dict[str, Any], settings: Settings) -> None:
    six = sweep(toy, seeds=6)
    assert look(six, settings).hint == ""
    other = look(six, settings, metric="rung/fid")
    assert other.hint.startswith(
        "Planned was eval/fid against `uniform`; this asks rung/fid against `uniform`"
    )


def test_a_cell_that_came_after_the_first_verdict_is_named(
    toy: dict[str, Any], settings: Settings
) -> None:
    look(sweep(toy, seeds=6), settings)
    other = {"uniform": {}, "under": {"optimizer.lr": 1e-4}}
    found = judged(
        changed := sweep(toy, seeds=6, arms=other),
        settings,
        collect(sweep(toy, seeds=6), settings),
    )
    assert changed.identities() != sweep(toy, seeds=6).identities()
    assert found.hint.startswith(
        "`under` is not what this experiment compared at its first verdict"
    )


def test_seeds_that_were_judged_cannot_be_left_out(toy: dict[str, Any], settings: Settings) -> None:
    """A verdict of eight, then six of them chosen: all eight count, and the word is the same."""
    all_of_them = look(sweep(toy, seeds=8), settings)
    chosen = look(sweep(toy, seeds=[0, 1, 2, 3, 4, 6]), settings)
    assert all_of_them.verdicts is not None
    assert chosen.verdicts is not None
    assert chosen.verdicts.comparisons == all_of_them.verdicts.comparisons


def test_a_damaged_file_is_said_and_kept(toy: dict[str, Any], settings: Settings) -> None:
    look(sweep(toy, seeds=6), settings)
    file = settings.experiment("toy") / LOG
    file.write_text("{")
    found = look(sweep(toy, seeds=8), settings)
    assert found.hint.startswith(f"{file} cannot be read (")
    assert found.verdicts is not None
    assert found.verdicts.guarantee.anytime, "nobody knows what was planned"
    assert file.read_text() == "{"


def test_another_margin_and_fewer_cells_are_named(toy: dict[str, Any], settings: Settings) -> None:
    arms = {"uniform": {}, "under": UNDER}
    more = sweep(toy, seeds=6, arms=arms | {"wide": {"model.width": 40}})
    look(more, settings)
    six = sweep(toy, seeds=6, arms=arms)
    hint = judged(six, settings, collect(six, settings, margin=0.5)).hint
    assert hint.startswith("The margin of the first verdict was 0.02, not 0.5")
    assert "`wide` was compared at the first verdict and is left out here" in hint


def test_a_cell_that_came_later_takes_no_word_away(toy: dict[str, Any], settings: Settings) -> None:
    before = look(sweep(toy, seeds=8), settings)
    arms = {"uniform": {}, "under": UNDER, "wide": {"model.width": 40}}
    after = look(sweep(toy, seeds=8, arms=arms), settings)
    assert before.verdicts is not None
    assert after.verdicts is not None
    finals = [found.verdicts.comparisons[0].final for found in (before, after)]
    assert finals[0] is not None
    assert finals[1] is not None
    known = [replace(final, outlook=None) for final in finals if final is not None]
    assert known[0] == known[1], "what more seeds would cost counts the new cell"
    assert after.verdicts.comparisons[1].word == "INCONCLUSIVE"

"""`train.precision: auto` of an experiment: chosen once where it trains, and the same for all cells and later runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service import launch, precisions
from service.experiment import Experiment
from service.experiment.saved import read_saved
from service.planning.assumed import assumed
from service.progress import Event, SweepNote
from service.settings import Settings
from tests.service.sweeps import UNDER
from trainer.calibrating import Chosen
from trainer.record import Record

BF16 = Chosen("CPU", {"fp32": 2.0, "bf16": 1.0})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tracking_uri=None)


def asked(toy: dict[str, Any], settings: Settings, precision: str, **more: Any) -> Experiment:
    """Two cells and a seed."""
    base = toy | {"train": toy["train"] | {"precision": precision}}
    arms = {"uniform": {}, "under": UNDER}
    data = {"name": "toy", "base": base, "arms": arms, "seeds": 1, "launcher": "inproc", **more}
    return Experiment.from_mapping(data, home=settings.home)


def test_trials_are_those_of_the_precision_that_was_chosen(
    toy: dict[str, Any], settings: Settings
) -> None:
    before = [trial.key for trial in asked(toy, settings, "auto").trials]
    precisions.keep(settings.experiment("toy"), BF16)
    keys = [trial.key for trial in asked(toy, settings, "auto", seeds=2).trials]
    assert keys == [trial.key for trial in asked(toy, settings, "bf16", seeds=2).trials]
    assert not set(before) & set(keys)
    other = [trial.key for trial in asked(toy, settings, "auto", name="other").trials]
    assert other == before, "another experiment chooses for itself"
    mixed = asked(toy, settings, "auto", arms={"a": {}, "b": {"train.precision": "fp32"}})
    assert [cell.trial.train.precision for cell in mixed.cells] == ["bf16", "fp32"]


def test_what_is_not_chosen_yet_is_planned_in_fp32(toy: dict[str, Any], settings: Settings) -> None:
    experiment, said = assumed(asked(toy, settings, "auto"))
    assert {cell.trial.train.precision for cell in experiment.cells} == {"fp32"}
    assert "chosen when it is run" in " ".join(said)
    precisions.keep(settings.experiment("toy"), BF16)
    known = asked(toy, settings, "auto")
    assert assumed(known) == (known, [])


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_chooses_before_its_first_trial_and_later_ones_keep_to_it(
    toy: dict[str, Any], settings: Settings
) -> None:
    events: list[Event] = []
    outcome = launch.run(asked(toy, settings, "auto"), settings, events.append)
    assert (outcome.exit_code, outcome.finished) == (0, 2)
    folder = settings.experiment("toy")
    chosen = precisions.known(folder)
    assert chosen is not None
    said = [event.text for event in events if isinstance(event, SweepNote)]
    assert f"train.precision: {chosen.text()}" in said
    for trial in read_saved(folder).trials:
        assert trial.spec.train.precision == chosen.precision
        known = Record(settings.trial(trial.key)).trial()
        assert known is not None
        assert known.train.precision == chosen.precision
    events.clear()
    outcome = launch.run(asked(toy, settings, "auto", seeds=2), settings, events.append)
    assert (outcome.finished, outcome.skipped) == (2, 2)
    assert not [e for e in events if isinstance(e, SweepNote) and "precision" in e.text]

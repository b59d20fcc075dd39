"""A budget buys as many seeds as it pays for, and says what they find."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from service.experiment import Experiment
from service.experiment.budget import Budget
from service.planning.calibration import Bench
from service.planning.plan import Plan, plan
from service.planning.proposals import Proposals
from service.planning.speed import Speed
from service.settings import Settings
from trainer.errors import InputError
from trainer.loop import train

CELLS = 2


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    speed = Speed(0.001, 6.4, 1.0, 10, "cpu")
    monkeypatch.setattr(Bench, "speed", lambda *_: speed)
    return Settings.model_validate({"home": tmp_path, "concurrency": 2, "price": "2 EUR"})


def experiment(toy: dict[str, Any], **parts: Any) -> Experiment:
    arms = {"a": {}, "b": {"optimizer.lr": 1e-3}}
    whole = {"name": "x", "base": toy, "arms": arms, "seeds": 2, "launcher": "inproc", **parts}
    return Experiment.from_mapping(whole)


def of(toy: dict[str, Any], settings: Settings, budget: str, **parts: Any) -> Proposals:
    made = plan(experiment(toy, **parts), settings, budget=Budget.of(budget)).proposals
    assert made is not None
    return made


def whole_hours(toy: dict[str, Any], settings: Settings) -> float:
    """Of one trial."""
    return plan(experiment(toy), settings).cpu_hours / (2 * CELLS)


@pytest.fixture
def large(toy: dict[str, Any]) -> dict[str, Any]:
    """With more of an evaluation than it needs."""
    measured = {"evaluations": 8, "spacing": "even", "draws": 1, "features": {"kind": "pixels"}}
    sets = {"full": {"images": 640, "steps": 4}, "rung": {"images": 64, "steps": 2}}
    return {**toy, "evaluation": {**measured, **sets}}


def test_the_yaml_comes_first_and_every_row_pays_for_more_seeds(
    large: dict[str, Any], settings: Settings
) -> None:
    each = whole_hours(large, settings)
    found = of(large, settings, f"{CELLS * 10.5 * each:.6f}cpuh")
    first = found.rows[0]
    assert (first.seeds, first.trials, first.evaluations, first.images) == (10, 20, 8, 640)
    assert first.cpu_hours == pytest.approx(20 * each)
    assert first.money is not None
    assert first.money.amount == pytest.approx(40 * each)
    assert [row.seeds for row in found.rows] == sorted({row.seeds for row in found.rows})
    assert {(row.evaluations, row.images) for row in found.rows[1:]} <= {
        *[(4, 640), (8, 320), (4, 320)]
    }
    assert len(found.rows) > 1
    limit = CELLS * 10.5 * each
    assert all(row.cpu_hours <= limit + 1e-9 for row in found.rows)
    recommended = found.recommended
    assert recommended is not None
    assert recommended.images == 640, "images go last: fewer add noise to the number itself"
    finds = [row.detects for row in found.rows if row.images == 640 and row.detects is not None]
    assert recommended.detects is not None
    assert recommended.detects <= 1.1 * min(finds)


def test_what_is_typed_costs_what_was_said(large: dict[str, Any], settings: Settings) -> None:
    """Every row's options make an experiment of that design: its plan, by the same costs, is the row."""
    each = whole_hours(large, settings)
    for row in of(large, settings, f"{CELLS * 10.5 * each:.6f}cpuh").rows:
        base = {"name": "x", "base": large, "arms": {"a": {}, "b": {"optimizer.lr": 1e-3}}}
        typed = Experiment.from_mapping({**base, "launcher": "inproc"}, overrides=row.options)
        assert len(typed.seeds) == row.seeds
        trial = typed.cells[0].trial
        assert len(trial.evaluation_points()) == row.evaluations
        assert trial.evaluation.full.images == row.images
        if not row.options[1:]:
            planned = plan(typed, settings)
            assert planned.cpu_hours == pytest.approx(row.cpu_hours)
            assert planned.wall_s == pytest.approx(row.wall_s)


def test_too_little_decides_nothing_and_says_how_much_would(
    toy: dict[str, Any], settings: Settings
) -> None:
    each = whole_hours(toy, settings)
    found = of(toy, settings, f"{CELLS * 3.5 * each:.6f}cpuh")
    assert found.rows[0].seeds == 3
    assert found.rows[0].detects is None
    assert found.rows[0].finds == 0.0
    assert found.recommended is None
    assert "this budget can decide nothing: 6 seeds are the fewest that can" in found.notes[0]
    assert "1.7 times this budget" in found.notes[0]
    nothing = of(toy, settings, f"{CELLS * 0.1 * each:.6f}cpuh")
    assert nothing.rows == ()
    assert nothing.recommended is None


def test_what_is_trained_already_costs_nothing(toy: dict[str, Any], settings: Settings) -> None:
    each, made = whole_hours(toy, settings), experiment(toy)
    for trial in made.trials[:CELLS]:
        list(train(trial.spec, settings.trial(trial.key), cache=settings.cache, device="cpu"))
    found = of(toy, settings, f"{CELLS * 2.5 * each:.6f}cpuh")
    assert found.rows[0].seeds >= 3
    assert found.rows[0].cpu_hours < CELLS * 2.5 * each


def test_one_cell_compares_nothing(toy: dict[str, Any], settings: Settings) -> None:
    found = of(toy, settings, "1cpuh", arms={"a": {}})
    assert found.recommended is None
    assert found.rows[0].finds is None
    assert found.notes == ("one cell alone is compared with nothing: no design of it can decide",)


def test_gpu_hours_are_of_trials_on_gpus(toy: dict[str, Any], settings: Settings) -> None:
    with pytest.raises(InputError, match="its trials take no GPU: give cpuh"):
        of(toy, settings, "40gpuh")
    with pytest.raises(InputError, match="give hours"):
        of(toy, settings, "40 trials")
    shared = of(toy, settings, "1gpuh", resources={"gpus": 0.5})
    assert shared.rows[0].gpu_hours == pytest.approx(0.5 * shared.rows[0].cpu_hours)
    assert shared.rows[0].gpu_hours <= 1.0


@pytest.mark.parametrize(
    "text", ["", "40", "gpuh", "-3cpuh", "0cpuh", "1e9cpuh", "40 hours", "\uff11\uff10cpuh"]
)
def test_a_budget_is_hours_of_a_device(text: str) -> None:
    with pytest.raises(InputError, match="is no budget: write 40gpuh or 200cpuh"):
        Budget.of(text)


@pytest.mark.parametrize("text", ["40gpuh", "1.5 CPUh", "12 trials"])
def test_a_budget_is_written_as_it_is_read(text: str) -> None:
    assert Budget.of(Budget.of(text).short()) == Budget.of(text)


def test_a_plan_travels_as_json(toy: dict[str, Any], settings: Settings) -> None:
    made = plan(experiment(toy), settings, budget=Budget.of("0.5cpuh"))
    again = Plan.of(made.to_dict())
    assert asdict(again) == asdict(made)
    assert again == made

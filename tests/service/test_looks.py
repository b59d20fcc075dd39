"""Seeds are given until cells are decided: by planned looks alone, and from the records alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.verdict.judging import judge
from dashboards.verdict.sentences import headline
from service import looks
from service.agenda import Agenda
from service.experiment import Experiment
from service.looks import NOT_COMPARED, Looks, evidence_of
from service.policy import Design, Fixed, Standing, Work
from service.records import stand
from service.results import collect
from service.settings import Settings
from tests.service.sweeps import sweep
from trainer.record import Record
from trainer.report import Failure, Report, Result, Status, Stop

WHOLE = 2560
STOP = Stop("toy", "near", "halving", "r", "stopped by halving: x", 1280)
ARMS = {"base": {}, "near": {"optimizer.lr": 1e-3}, "far": {"optimizer.lr": 1e-2}}


def design(toy: dict[str, Any], **seeds: int) -> Design:
    spec = sweep(toy, arms=ARMS, seeds=seeds or {"first": 8, "most": 12, "every": 2})
    cells = {cell.name: cell.trial for cell in spec.cells}
    return Design(cells, tuple(spec.seeds), spec.spec.compare, spec.looks)


def ended(fid: float, status: Status = Status.FINISHED) -> Standing:
    metrics = {"eval/fid": fid, "rung/fid": fid}
    points = [(640, 3 * fid), (1280, 2 * fid), (WHOLE, fid)]
    reports = tuple(
        Report(images, 0.0, {"rung/fid": value}, protocol={"rung/fid": "r"})
        for images, value in points
    )
    word: Any = status.value
    protocol = {"eval/fid": "e", "rung/fid": "r"}
    result = Result(word, None, WHOLE, metrics, 0.0, 1.0, 1.0, protocol, 10)
    return Standing(status, reports, result)


def noise(cell: str, seed: int) -> float:
    """Common to a seed, and a little of the cell's own; `far` is far away."""
    own = np.random.default_rng([seed, len(cell), ord(cell[0])]).standard_normal()
    scale = {"base": 1.0, "near": 1.0, "far": 2.0}[cell]
    return float(scale * (4.0 + 0.3 * np.sin(seed) + 0.2 * own))


def standings(
    seen: Design, upto: Mapping[str, int] | int, **odd: Standing
) -> dict[tuple[str, int], Standing]:
    """Everything up to so many seeds has ended; `odd` takes the place of some, as `near_3`."""
    every = {}
    for cell in seen.cells:
        count = upto if isinstance(upto, int) else upto.get(cell, 0)
        for seed in seen.seeds:
            there = ended(noise(cell, seed)) if seed < count else Standing()
            every[cell, seed] = odd.get(f"{cell}_{seed}", there)
    return every


def given(seen: Design, every: Mapping[tuple[str, int], Standing]) -> dict[str, int]:
    return {c: len(state.seeds) for c, state in Looks(seen).states(every).items()}


def test_everybody_gets_the_seeds_of_the_first_look(toy: dict[str, Any]) -> None:
    seen = design(toy)
    for count in range(8):
        assert given(seen, standings(seen, count)) == {"base": 8, "near": 8, "far": 8}


def test_the_decided_stop_the_undecided_go_on_and_the_baseline_gets_what_pairs_need(
    toy: dict[str, Any],
) -> None:
    seen = design(toy)
    states = Looks(seen).states(standings(seen, 8))
    assert {c: len(state.seeds) for c, state in states.items()} == {
        "base": 10,
        "near": 10,
        "far": 8,
    }
    assert (states["far"].word, states["far"].look) == ("WORSE", 8)
    assert states["far"].text() == "WORSE at 8 seeds"
    assert states["near"].text() == "8 of 10 pairs"
    assert not states["base"].is_settled

    later = standings(seen, {"base": 10, "near": 10, "far": 8})
    assert given(seen, later) == {"base": 12, "near": 12, "far": 8}
    last = Looks(seen).states(standings(seen, {"base": 12, "near": 12, "far": 8}))
    assert (last["near"].word, last["near"].look) == ("INCONCLUSIVE", 12)
    assert all(state.is_settled for state in last.values())


def test_nobody_looks_between_the_looks(
    toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One verdict per completed look, however often it is asked what is wanted."""
    asked: list[int] = []

    def counted(evidence: Any, **more: Any) -> Any:
        asked.append(len({trial.seed for trial in evidence.trials}))
        return judge(evidence, **more)

    monkeypatch.setattr(looks, "judge", counted)
    seen = design(toy)
    memory = Looks(seen)
    for base in range(13):
        for near in range(13):
            every = standings(seen, {"base": base, "near": near, "far": 8})
            for _ in range(3):
                memory.states(every)
    assert asked == [8, 10, 12]


def test_it_is_over_when_nobody_is_undecided(toy: dict[str, Any]) -> None:
    seen = design(toy)
    without = {cell: trial for cell, trial in seen.cells.items() if cell != "near"}
    seen = dataclasses.replace(seen, cells=without)
    states = Looks(seen).states(standings(seen, 8))
    assert {c: (len(s.seeds), s.is_settled) for c, s in states.items()} == {
        "base": (8, True),
        "far": (8, True),
    }


def test_a_trial_that_broke_holds_up_no_look_and_gives_no_pair(toy: dict[str, Any]) -> None:
    seen = design(toy)
    broken = Standing(Status.FAILED, failure=Failure("broke", "now"))
    states = Looks(seen).states(standings(seen, 8, near_3=broken))
    assert (len(states["near"].seeds), states["near"].pairs) == (10, 7)
    waits = given(seen, standings(seen, 8, near_3=Standing(Status.STOPPED)))
    assert waits == {"base": 8, "near": 8, "far": 8}


def test_a_cell_that_was_stopped_holds_up_no_look(toy: dict[str, Any]) -> None:
    seen = design(toy)
    every = standings(seen, {"base": 8, "near": 2, "far": 8})
    assert given(seen, every) == {"base": 8, "near": 8, "far": 8}
    states = Looks(seen).states(every, {"near": STOP})
    assert states["far"].word == "WORSE"
    assert states["base"].is_settled


def test_a_cell_that_is_never_compared_gets_no_more_seeds(toy: dict[str, Any]) -> None:
    seen = design(toy)
    every = standings(seen, 8)
    for seed in range(8):
        near = every["near", seed]
        assert near.result is not None
        other = dataclasses.replace(near.result, protocol={"eval/fid": "x", "rung/fid": "r"})
        every["near", seed] = dataclasses.replace(near, result=other)
    states = Looks(seen).states(every)
    assert (states["near"].word, len(states["near"].seeds)) == (NOT_COMPARED, 8)


def test_a_fixed_number_of_seeds_is_open_from_the_start(toy: dict[str, Any]) -> None:
    seen = dataclasses.replace(design(toy), looks=(12,))
    assert given(seen, standings(seen, 0)) == {"base": 12, "near": 12, "far": 12}
    assert seen.seeds_of("near") == seen.seeds


def test_one_cell_is_trained_with_the_first_seeds(toy: dict[str, Any]) -> None:
    alone = sweep(toy, arms={"a": {}}, seeds={"first": 2, "most": 5})
    home = Settings(home=Path("nowhere"))
    assert [trial.seed for trial, _ in Agenda(alone, home).open_work()] == [0, 1]


def test_the_driver_judges_what_the_report_judges(trained: Path) -> None:
    """The evidence from records is that from tables, to the last number."""
    experiment, home = Experiment.from_yaml(trained / "x.yaml"), Settings(home=trained / "runs")
    tables = collect(experiment, home).evidence
    cells = {cell.name: cell.trial for cell in experiment.cells}
    seen = Design(cells, tuple(experiment.seeds), experiment.spec.compare, experiment.looks)
    every = {(t.cell, t.seed): stand(Record(home.trial(t.key)), None) for t in experiment.trials}
    pairs = [(trial.cell, trial.seed) for trial in experiment.trials]
    records = evidence_of(seen, every, pairs)

    assert records.cells == tables.cells
    assert headline(judge(records)) == headline(judge(tables))
    of_tables = {(t.cell, t.seed): t for t in tables.trials}
    for trial in records.trials:
        twin = of_tables[trial.cell, trial.seed]
        assert (trial.finals, trial.images, trial.status) == (twin.finals, twin.images, twin.status)
        assert trial.seconds == pytest.approx(twin.seconds)
        assert list(trial.curves) == list(twin.curves)
        for name, curve in trial.curves.items():
            np.testing.assert_array_equal(curve.kimg, twin.curves[name].kimg)
            np.testing.assert_array_equal(curve.value, twin.curves[name].value)
            assert trial.protocols[name] == twin.protocols[name]


def test_work_on_seeds_that_are_not_open_is_passed_over(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    spec = sweep(toy, seeds={"first": 2, "most": 4})
    agenda = Agenda(spec, Settings(home=tmp_path))
    assert [(t.cell, t.seed) for t, _ in agenda.open_work()] == [
        ("uniform", 0),
        ("under", 0),
        ("uniform", 1),
        ("under", 1),
    ]
    assert not agenda.foreseen
    assert len(agenda.open_trials()) == 4
    cells = {cell.name: cell.trial for cell in spec.cells}
    opened = {"uniform": (0, 1), "under": (0,)}
    seen = Design(cells, (0, 1), spec.spec.compare, (1, 2), open=opened)
    assert list(Fixed().wanted(seen, {})) == [
        Work("uniform", 0, WHOLE),
        Work("under", 0, WHOLE),
        Work("uniform", 1, WHOLE),
    ]

"""`fixed` wants every trial to its end, each cell's first seed before any second one."""

from __future__ import annotations

from typing import Any

from service.policy import Design, Fixed, Standing, Work
from tests.service.sweeps import sweep
from trainer.report import Status


def test_seeds_are_in_the_outer_loop_and_records_change_nothing(toy: dict[str, Any]) -> None:
    experiment = sweep(toy, seeds=[3, 7])
    cells = {cell.name: cell.trial for cell in experiment.cells}
    seen = Design(cells, tuple(experiment.seeds), experiment.spec.compare)
    expected = [
        Work("uniform", 3, 2560),
        Work("under", 3, 2560),
        Work("uniform", 7, 2560),
        Work("under", 7, 2560),
    ]
    pairs = [(cell, seed) for cell in cells for seed in experiment.seeds]

    for status in Status:
        standings = dict.fromkeys(pairs, Standing(status))
        assert Fixed().wanted(seen, standings) == expected
    assert Fixed().foreseen


def test_it_is_what_an_experiment_gets_that_names_no_policy(toy: dict[str, Any]) -> None:
    named = sweep(toy, policy={"kind": "fixed"})

    assert sweep(toy).spec.policy == named.spec.policy == Fixed()
    assert named.resolved()["policy"] == {"kind": "fixed"}

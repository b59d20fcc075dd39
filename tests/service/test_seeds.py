"""Seeds are a count, a list, or as many as it takes with planned looks; every way of saying so works alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboards.metrics import quantities
from dashboards.verdict.evidence import Evidence, Trial
from dashboards.verdict.judging import judge
from dashboards.verdict.statistics import fewest_seeds
from service.commands.sweeps import opening
from service.experiment import Experiment
from service.experiment.design_notes import design_notes
from service.experiment.saved import read_saved, save
from service.experiment.seeds import Seeds, looks, seed_list
from service.policy import Fixed, Halving, PlanPolicy
from tests.service.policies import Ending
from tests.service.sweeps import sweep
from trainer.errors import InputError
from trainer.report import Status


@pytest.mark.parametrize(
    ("first", "most", "every", "planned"),
    [
        (6, 24, None, (6, 9, 12, 15, 18, 21, 24)),
        (6, 13, None, (6, 9, 12, 13)),
        (5, 10, None, (5, 8, 10)),
        (1, 3, None, (1, 2, 3)),
        (6, 6, None, (6,)),
        (6, 24, 6, (6, 12, 18, 24)),
        (6, 10, 100, (6, 10)),
    ],
)
def test_looks_rise_to_the_most(
    first: int, most: int, every: int | None, planned: tuple[int, ...]
) -> None:
    assert Seeds(first=first, most=most, every=every).looks() == planned


def test_a_count_and_a_list_are_looked_at_once() -> None:
    assert (looks(4), seed_list(4)) == ((4,), [0, 1, 2, 3])
    assert (looks([7, 3]), seed_list([7, 3])) == ((2,), [7, 3])


@pytest.mark.parametrize(
    ("written", "options", "planned"),
    [
        (2, ("seeds={first: 6, most: 12}",), (6, 9, 12)),
        ({"first": 6, "most": 24}, ("seeds.most=12",), (6, 9, 12)),
        ({"first": 6, "most": 24}, ("seeds={most: 12, every: 6}",), (6, 12)),
        ({"first": 6, "most": 24}, ("seeds=6",), (6,)),
        ({"first": 6, "most": 24}, ("seeds=[5, 6]",), (2,)),
    ],
)
def test_options_change_them(
    toy: dict[str, Any], written: Any, options: tuple[str, ...], planned: tuple[int, ...]
) -> None:
    data = {"name": "x", "base": toy, "arms": {"a": {}, "b": {"optimizer.lr": 1e-3}}}
    found = Experiment.from_mapping({**data, "seeds": written}, overrides=options)
    assert found.looks == planned
    assert len(found.trials) == 2 * planned[-1]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"first": 7, "most": 6}, "seeds.first: 7 is more than most: 6"),
        ({"first": 0, "most": 6}, "seeds.first: must be 1 or more, not `0`"),
        ({"first": 6, "most": 1001}, "seeds.most: must be 1,000 or less, not `1001`"),
        ({"first": 6, "most": 6.5}, "seeds.most: must be a whole number, not `6.5`"),
        ({"frist": 6, "most": 9}, "seeds.frist: unknown key, did you mean `first`?"),
        ({"first": 6}, "seeds.most: is missing"),
    ],
)
def test_slips_are_told_in_plain_words(toy: dict[str, Any], seeds: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        sweep(toy, seeds=seeds)
    assert len(error.value.problems) == 1
    assert message in str(error.value)


@pytest.mark.parametrize("seeds", [3, [3, 1], {"first": 2, "most": 5, "every": 1}])
def test_what_was_run_is_read_back(toy: dict[str, Any], tmp_path: Path, seeds: Any) -> None:
    experiment = sweep(toy, seeds=seeds)
    save(experiment, tmp_path)
    again = read_saved(tmp_path)
    assert (again.seeds, again.looks) == (experiment.seeds, experiment.looks)
    assert again.resolved()["seeds"] == experiment.resolved()["seeds"]


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (1, "one seed screens, it cannot decide"),
        (5, "5 seeds screen, they cannot decide"),
        (6, None),
        ({"first": 2, "most": 5}, "5 seeds screen, they cannot decide"),
        ({"first": 3, "most": 9}, "the looks at 3 and 5 seeds can decide nothing"),
        ({"first": 5, "most": 9}, "the look at 5 seeds can decide nothing"),
        ({"first": 6, "most": 24}, None),
    ],
)
def test_what_too_few_seeds_cannot_do_is_said_before_they_are_paid_for(
    toy: dict[str, Any], seeds: Any, words: str | None
) -> None:
    notes = design_notes(sweep(toy, seeds=seeds))
    if words is None:
        assert notes == []
        return
    (note,) = notes
    assert note.startswith(words)
    assert f"{fewest_seeds()} pairs are the fewest" in note


def test_one_cell_has_nothing_to_decide(toy: dict[str, Any]) -> None:
    alone = sweep(toy, arms={"a": {}}, seeds={"first": 2, "most": 5})
    assert design_notes(alone) == [
        "there is one cell and nothing to decide: it is trained with the first 2 seeds"
    ]
    assert design_notes(sweep(toy, arms={"a": {}}, seeds=2)) == []


def test_the_opening_counts_from_the_first_look_to_the_last(toy: dict[str, Any]) -> None:
    line = opening(sweep(toy, seeds={"first": 6, "most": 24}))
    assert line == "toy: 2 cells x 6 to 24 seeds = 12 to 48 trials, eval/fid against `uniform`"


FIVE = {
    c: {"optimizer.lr": lr} for c, lr in zip("abcde", (1e-5, 1e-4, 1e-3, 2e-3, 1e-2), strict=True)
}


@pytest.mark.parametrize(
    ("cells", "seeds", "words", "way_out"),
    [
        ("abcde", 3, "3 seeds screen, they cannot decide", "set `seeds: 8` or more"),
        ("abcde", 6, "6 can decide nothing with fewer than 3 of them", "set `seeds: 8` or more"),
        ("abcde", 7, "7 can decide nothing with fewer than 2 of them", "{first: 8, most: 32}"),
        ("abc", 6, "6 can decide nothing once one of them is stopped", "set `seeds: 7` or more"),
        ("abcde", 8, None, None),
        ("ab", 6, None, None),
        ("abcde", {"first": 6, "most": 9}, "the look at 6 seeds can then decide nothing", None),
    ],
)
def test_a_policy_that_stops_cells_takes_more_seeds_and_says_so(
    toy: dict[str, Any], cells: str, seeds: Any, words: str | None, way_out: str | None
) -> None:
    arms = {cell: FIVE[cell] for cell in cells}
    notes = design_notes(sweep(toy, arms=arms, seeds=seeds, policy={"kind": "halving"}))
    if words is None:
        assert notes == []
        return
    (note,) = notes
    assert words in note
    assert "for any number of cells" not in note
    assert way_out is None or way_out in note
    assert design_notes(sweep(toy, arms=arms, seeds=8)) == []


@pytest.mark.parametrize(
    ("cells", "policy", "words"),
    [
        (
            "ab",
            {"kind": "median", "least": 1000, "at": [0.5]},
            "each cell has 1 other, and least: 1000 must have come to a rung before it stops anybody",
        ),
        ("abc", {"kind": "median"}, "each cell has 2 others, and least: 3 must have come"),
        ("abcd", {"kind": "median"}, None),
        ("ab", {"kind": "median", "least": 1}, None),
        ("a", {"kind": "racing"}, "there is one cell, and nobody to stop"),
        ("a", {"kind": "fixed"}, None),
        ("ab", {"kind": "racing"}, None),
    ],
)
def test_a_policy_that_can_stop_nobody_says_so(
    toy: dict[str, Any], cells: str, policy: dict[str, Any], words: str | None
) -> None:
    arms = {cell: FIVE[cell] for cell in cells}
    notes = design_notes(sweep(toy, arms=arms, seeds=8, policy=policy))
    if words is None:
        assert notes == []
        return
    (note,) = notes
    assert note.startswith(f"`policy: {policy['kind']}` stops nobody: {words}")


def test_a_margin_that_calls_nearly_everything_the_same_is_noted(toy: dict[str, Any]) -> None:
    (note,) = design_notes(sweep(toy, seeds=6, compare={"margin": 0.99}))
    assert note.startswith("`compare.margin: 0.99` calls cells the SAME that differ by 99 % of")
    assert design_notes(sweep(toy, seeds=6, compare={"margin": 0.25})) == []


def test_the_seeds_that_are_asked_for_are_those_with_which_the_last_rival_can_be_decided() -> None:
    """The note counts as the verdict does: a word falls at 8 pairs where 3 of 4 rivals were stopped, none at 7."""
    for seeds, words in ((7, {"INCONCLUSIVE"}), (8, {"BETTER"})):
        trials = [
            Trial(cell, seed, Status.FINISHED, finals={"eval/fid": level * (1 + 0.01 * seed)})
            for seed in range(seeds)
            for cell, level in (("base", 2.0), ("a", 1.0))
        ]
        trials += [
            Trial(cell, 0, Status.STOPPED, stopped="stopped by halving: x") for cell in "bcd"
        ]
        metric = "eval/fid"
        evidence = Evidence(
            tuple(trials), ("base", *"abcd"), metric, quantities([metric]), baseline="base"
        )
        assert {c.word for c in judge(evidence).comparisons} == words


def test_every_policy_says_whether_it_stops_cells() -> None:
    members = [m for m in PlanPolicy.__subclasses__() if m.__module__.startswith("service.")]
    assert {Fixed, Halving} < set(members)
    assert {member.stops_cells for member in members} == {True, False}
    for member in (*members, Ending):
        assert member.stops_cells == (member.stops is not PlanPolicy.stops)

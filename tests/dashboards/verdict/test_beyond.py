"""Proves: beyond the planned looks a word falls one seed at a time, for each cell alone, and stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dashboards.verdict.evidence import Evidence
from dashboards.verdict.judging import judge
from dashboards.verdict.values import Comparison
from tests.dashboards.verdict.made import Outcome, base, evidence, rival
from tests.honesty.worlds import PAIR_SD, World

BASE = base(24)
WORSE = [*rival(BASE, 0.0, 0.1)[:6], *rival(BASE, 0.4)[6:]]
"""As good as the baseline for six seeds, and then worse without an exception."""


def found(cells: Mapping[str, Sequence[Outcome]]) -> dict[str, Comparison]:
    """By cell; six seeds were planned."""
    order = tuple(range(24))
    verdicts = judge(evidence({"a": BASE} | dict(cells), looks=(6,), order=order))
    return {c.cell: c for c in verdicts.comparisons}


def decided_at(outcomes: Sequence[Outcome]) -> int:
    """Alone."""
    at = found({"b": outcomes})["b"].decided_at
    assert at is not None
    return at


def test_a_cell_that_was_decided_beyond_the_plan_does_not_freeze_the_others() -> None:
    """One stops at its word; what the other says goes by its own seeds, as if the first had gone on."""
    later = [*rival(BASE, 0.0, 0.1)[:10], *rival(BASE, 0.4)[10:]]
    both = found({"b": WORSE, "c": later})
    first, second = both["b"].decided_at, both["c"].decided_at
    assert first is not None
    assert second is not None
    assert 6 < first < second <= 24
    short = found({"b": WORSE[:first], "c": later})
    assert (short["b"].word, short["b"].decided_at) == ("WORSE", first)
    assert (short["c"].word, short["c"].decided_at) == ("WORSE", second)
    gone = found({"b": WORSE[:first], "c": later[: second - 1]})
    assert (gone["b"].decided_at, gone["c"].word) == (first, "INCONCLUSIVE")
    assert gone["c"].final is not None
    assert gone["c"].final.p_at == second - 1, "every seed of its own was read"


def test_a_cell_without_more_seeds_does_not_hold_the_others() -> None:
    both = found({"b": WORSE, "c": rival(BASE, 0.0, 0.1, seed=4)[:6]})
    assert both["b"].word == "WORSE"
    left = both["c"].final
    assert left is not None
    assert (left.word, left.tested, left.p_at) == ("INCONCLUSIVE", 6, 6)


def test_a_word_beyond_the_plan_is_not_taken_back() -> None:
    """The seeds after it say the opposite so loudly that all of them together say nothing at all."""
    at = decided_at(WORSE)
    turned = [*WORSE[:at], *rival(BASE, -0.6)[at:]]
    mean = np.log(np.array(turned) / np.array(BASE)).mean()
    assert mean < 0, "on average it is the better one"
    alone = judge(evidence({"a": BASE, "b": turned})).comparisons[0]
    assert alone.word != "WORSE"
    for seeds in range(at, 25):
        now = found({"b": turned[:seeds]})["b"]
        assert (now.word, now.decided_at) == ("WORSE", at)
        assert now.final is not None
        assert now.final.seeds == tuple(range(at))


def test_every_word_falls_at_its_first_crossing() -> None:
    """Whoever looks after each seed and whoever looks once at the end read the same words."""
    fallen = 0
    for number in range(12):
        world = World("gaussian", (0.0, 2 * PAIR_SD), margin=0.05)
        whole = world.draw(14, np.random.default_rng([11, number]))
        whole = dataclasses.replace(whole, looks=(3,), order=tuple(range(14)))
        said: dict[tuple[str, str], tuple[str, int | None]] = {}
        for seeds in range(3, 15):
            for key, word in _words(_until(whole, seeds)).items():
                if key in said:
                    assert word == said[key]
                elif word[1] is not None:
                    assert word[1] == seeds
                    said[key] = word
        fallen += sum(at is not None and at > 3 for _, at in said.values())
    assert fallen >= 12, "words beyond the plan are what this is about"


def test_cells_that_came_late_change_no_word_of_the_others() -> None:
    """And are judged among themselves: not held by the others, and not paying for them."""
    whole = base(9)
    planned = {f"c{k}": rival(whole, effect, 0.1, seed=k) for k, effect in enumerate((0.1, 0.0))}
    late = {f"d{k}": rival(whole, 0.1, 0.1, seed=50 + k) for k in range(6)}
    options = {"looks": (6, 9), "order": tuple(range(9))}

    def all_of(
        cells: Mapping[str, Sequence[Outcome]], **more: object
    ) -> dict[str, tuple[object, ...]]:
        verdicts = judge(evidence({"a": whole} | dict(cells), **(options | more)))
        return {
            c.cell: (c.word, c.decided_at, c.final and (c.final.p_adjusted, c.final.interval))
            for c in verdicts.comparisons
        }

    apart = all_of(planned | late, late=frozenset(late))
    assert apart == all_of(planned) | all_of(late)
    assert apart != all_of(planned | late), "of one family they would pay for one another"


def _until(whole: Evidence, seeds: int) -> Evidence:
    return dataclasses.replace(whole, trials=tuple(t for t in whole.trials if t.seed < seeds))


def _words(made: Evidence) -> dict[tuple[str, str], tuple[str, int | None]]:
    measures = [m for c in judge(made).comparisons for m in c.measures()]
    return {(m.cell, m.name): (m.word, m.decided_at) for m in measures}

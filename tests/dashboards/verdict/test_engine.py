"""Proves: all samples go in, decisions come out, at planned looks only, and what is decided stays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from dashboards.verdict.engine import Decision, Engine, Key
from dashboards.verdict.samples import LOST, Sample
from dashboards.verdict.statistics import ALPHA, interval, sign_flip_p
from dashboards.verdict.values import Name

Samples = dict[str, dict[Name, Sample]]


def sample(shift: float, seeds: int = 12, noise: float = 0.02, seed: int = 0) -> Sample:
    """A cell that is worse by `shift` on average (in logarithms)."""
    rng = np.random.default_rng(seed)
    levels, own = 4 + rng.normal(0, 0.2, 30), np.exp(shift + rng.normal(0, noise, 30))
    base = {s: float(levels[s]) for s in range(seeds)}
    cell = {s: float(levels[s] * own[s]) for s in range(seeds)}
    return Sample("eval/fid", True, True, base, cell)


def engine(
    samples: Samples,
    looks: Sequence[int] = (),
    *,
    seeds: int = 12,
    ended: dict[str, Sequence[int]] | None = None,
    margin: float | None = math.log(1.02),
    stopped: int = 0,
) -> Engine:
    have = {cell: list(next(iter(own.values())).cell) for cell, own in samples.items()}
    keys = [(cell, name) for cell, own in samples.items() for name in own]
    margins: dict[Key, float | None] = dict.fromkeys(keys, margin)
    return Engine(samples, have | (ended or {}), range(seeds), looks, margins, stopped)


def decide(samples: Samples, looks: Sequence[int] = (), **options: object) -> dict[Key, Decision]:
    return engine(samples, looks, **options).run()  # type: ignore[arg-type]


def words(decisions: dict[Key, Decision]) -> dict[Key, str]:
    return {key: decision.word for key, decision in decisions.items()}


def test_one_run_decides_every_cell_and_measure() -> None:
    decisions = decide(
        {
            "worse": {"final": sample(0.3), "area": sample(0.2, seed=1)},
            "better": {"final": sample(-0.3, seed=2)},
            "same": {"final": sample(0.0, noise=0.005, seed=3)},
            "open": {"final": sample(0.02, noise=0.2, seed=4)},
        }
    )
    assert words(decisions) == {
        ("worse", "final"): "WORSE",
        ("worse", "area"): "WORSE",
        ("better", "final"): "BETTER",
        ("same", "final"): "SAME",
        ("open", "final"): "INCONCLUSIVE",
    }
    final = decisions["worse", "final"]
    assert (final.seeds, final.decided_at) == (tuple(range(12)), 12)
    assert final.p == 2 / 2**12
    assert final.p <= (final.p_adjusted or 0) < ALPHA
    assert final.interval == interval(sample(0.3).differences())
    assert decisions["open", "final"].decided_at is None


def test_six_seeds_decide_any_number_of_clear_cells() -> None:
    many: Samples = {
        f"c{k}": {"final": sample(0.3, 6, seed=k), "area": sample(-0.2, 6, seed=k + 50)}
        for k in range(20)
    }
    found = decide(many, seeds=6)
    assert {found[key].word for key in found if key[1] == "final"} == {"WORSE"}
    assert {found[key].word for key in found if key[1] == "area"} == {"BETTER"}
    few: Samples = {"c": {"final": sample(0.3, 5)}}
    assert words(decide(few, seeds=5)) == {("c", "final"): "INCONCLUSIVE"}


def test_no_word_falls_before_a_planned_look_is_complete() -> None:
    clear: Samples = {"b": {"final": sample(0.5, 7)}}
    waiting = engine(clear, (8, 12))
    (decision,) = waiting.run().values()
    assert (decision.word, decision.p_adjusted, decision.p) == ("INCONCLUSIVE", None, 2 / 2**7)
    assert decision.seeds == tuple(range(7))
    guarantee = waiting.guarantee()
    assert (guarantee.passed, guarantee.following, guarantee.anytime) == (0, 8, False)
    done = engine({"b": {"final": sample(0.5, 8)}}, (8, 12))
    assert list(words(done.run()).values()) == ["WORSE"]
    assert (done.guarantee().passed, done.guarantee().following) == (1, None), "nobody is open"


def test_a_look_waits_for_every_open_cell() -> None:
    both: Samples = {"b": {"final": sample(0.5, 8)}, "c": {"final": sample(0.0, 6, 0.2)}}
    assert set(words(decide(both, (8, 12))).values()) == {"INCONCLUSIVE"}
    full: Samples = {"b": {"final": sample(0.5, 8)}, "c": {"final": sample(0.0, 8, 0.2)}}
    assert words(decide(full, (8, 12)))["b", "final"] == "WORSE"


def test_between_looks_more_seeds_change_no_word() -> None:
    """What was read at six stays until nine are there, however the seeds between would have it."""
    found = []
    for seeds in (6, 7, 8, 9):
        samples: Samples = {"b": {"final": sample(0.05, seeds, 0.05)}}
        found.append(decide(samples, (6, 9, 12))["b", "final"])
    assert [one.word for one in found] == ["INCONCLUSIVE"] * 3 + ["WORSE"]
    assert found[3].decided_at == 9
    assert [len(one.seeds) for one in found] == [6, 7, 8, 9]
    assert len({one.p_adjusted for one in found[:3]}) == 1, "it is that of the look at six"
    assert found[1].p < ALPHA, "alone and at once, seven would have been enough"


def test_a_decided_cell_keeps_the_seeds_and_numbers_of_its_look() -> None:
    noisy = sample(0.0, 12, 0.2, seed=3)
    at_six = decide({"b": {"final": sample(0.5, 6)}, "c": {"final": noisy}}, (6, 9, 12))
    later = decide({"b": {"final": sample(0.5, 12)}, "c": {"final": noisy}}, (6, 9, 12))
    for found in (at_six["b", "final"], later["b", "final"]):
        assert (found.word, found.decided_at, found.seeds) == ("WORSE", 6, tuple(range(6)))
    first = sample(0.5, 12).until(range(6))
    assert later["b", "final"].p == sign_flip_p(first.differences())
    open_ = later["c", "final"]
    assert (open_.word, len(open_.seeds)) == ("INCONCLUSIVE", 12)


def test_seeds_of_a_decided_cell_are_not_waited_for() -> None:
    """It gets no more of them, and the others go on to their look."""
    found = engine(
        {"b": {"final": sample(0.5, 6)}, "c": {"final": sample(0.06, 12, 0.05, seed=4)}}, (6, 9, 12)
    )
    decisions = found.run()
    assert decisions["b", "final"].decided_at == 6
    assert (decisions["c", "final"].decided_at or 0) > 6
    assert found.guarantee().passed > 1


def test_whatever_is_decided_at_a_look_is_decided_at_each_later_one() -> None:
    looks = (6, 8, 10, 12)
    for seed in range(12):
        whole: Samples = {
            name: {"final": sample(shift, 12, 0.1, seed=100 * seed + place)}
            for place, (name, shift) in enumerate({"b": 0.1, "c": 0.0, "d": -0.1}.items())
        }
        before: dict[Key, Decision] = {}
        for n in looks:
            seen: Samples = {
                cell: {name: one.until(range(n)) for name, one in own.items()}
                for cell, own in whole.items()
            }
            now = decide(seen, looks)
            for key, decision in before.items():
                if decision.decided_at is not None:
                    assert (now[key].word, now[key].seeds) == (decision.word, decision.seeds)
                    assert now[key].interval == decision.interval
            before = now


def test_beyond_the_plan_evidence_that_holds_at_any_time_decides() -> None:
    found = engine({"b": {"final": sample(0.08, 20, 0.08, seed=4)}}, (6,), seeds=20)
    (decision,) = found.run().values()
    assert found.guarantee().anytime
    at = decision.decided_at or 0
    assert (decision.word, decision.seeds) == ("WORSE", tuple(range(at)))
    assert 6 < at < 20, "at the first seed at which it is enough"
    assert decision.interval.method == "anytime"
    assert (decision.p_adjusted or 0) < ALPHA
    plan = engine({"b": {"final": sample(0.08, 6, 0.08, seed=4)}}, (6,), seeds=6)
    assert next(iter(plan.run().values())).word == "INCONCLUSIVE"
    noise = engine({"b": {"final": sample(0.0, 20, 0.08, seed=4)}}, (6,), seeds=20)
    open_ = next(iter(noise.run().values()))
    assert (open_.word, open_.interval.method) == ("INCONCLUSIVE", "anytime")


@pytest.mark.parametrize("other", [0.5, 0.0], ids=["decided", "open"])
def test_beyond_the_plan_a_cell_with_seeds_waits_for_none_without(other: float) -> None:
    clear = [sample(0.0, 6, 0.2, seed=1), sample(0.5, 20, 0.02, seed=2)]
    mixed = Sample(
        "eval/fid",
        True,
        True,
        clear[1].baseline,
        {s: (clear[0] if s < 6 else clear[1]).cell[s] for s in range(20)},
    )
    pair: Samples = {"b": {"final": sample(other, 6, 0.2, 5)}, "c": {"final": mixed}}
    found = engine(pair, (6,), seeds=20)
    decisions = found.run()
    assert decisions["b", "final"].decided_at == (6 if other else None)
    assert found.guarantee().anytime
    own = decisions["c", "final"]
    assert own.word == "WORSE"
    assert 6 < (own.decided_at or 0) <= 20
    if not other:
        left = decisions["b", "final"]
        assert (left.word, left.seeds, left.p_at) == ("INCONCLUSIVE", tuple(range(6)), 6)


def test_beyond_the_plan_a_cell_has_to_have_every_seed_in_order() -> None:
    """Otherwise whoever lets some run on first chooses what is looked at."""
    gap = sample(0.5, 20)
    without = Sample(
        "eval/fid",
        True,
        True,
        {s: v for s, v in gap.baseline.items() if s != 3},
        {s: v for s, v in gap.cell.items() if s != 3},
    )
    found = engine({"b": {"final": without}}, (3,), seeds=20)
    assert words(found.run()) == {("b", "final"): "INCONCLUSIVE"}
    assert not found.guarantee().anytime
    whole = engine({"b": {"final": gap}}, (3,), seeds=20)
    assert words(whole.run()) == {("b", "final"): "WORSE"}


def test_a_cell_that_lost_every_seed_is_worse_at_six() -> None:
    base = dict.fromkeys(range(6), 4.0)
    lost = Sample("eval/fid", True, True, base, dict.fromkeys(range(6), LOST))
    both = Sample("eval/fid", True, True, dict.fromkeys(range(6), LOST), lost.cell)
    found = decide({"b": {"final": lost}, "c": {"final": both}}, seeds=6)
    assert words(found) == {("b", "final"): "WORSE", ("c", "final"): "INCONCLUSIVE"}
    assert found["b", "final"].p == 2 / 64
    assert not found["b", "final"].interval.known


def test_same_is_not_said_of_survivors_or_without_a_margin() -> None:
    alike = sample(0.0, 12, 0.005)
    assert words(decide({"b": {"final": alike}}))["b", "final"] == "SAME"
    assert words(decide({"b": {"final": alike}}, margin=None))["b", "final"] == "INCONCLUSIVE"
    cell = dict(alike.cell) | {3: LOST}
    survivors = Sample("eval/fid", True, True, alike.baseline, cell)
    assert words(decide({"b": {"final": survivors}}))["b", "final"] == "INCONCLUSIVE"


def test_same_agrees_with_the_interval() -> None:
    """Both sides of one cell are tested at half the error: SAME where its interval lies within the margin."""
    margin = math.log(1.02)
    words_by_interval = set()
    for seed in range(40):
        one = sample(0.012, 9, 0.012, seed=seed)
        found = decide({"b": {"final": one}}, seeds=9)["b", "final"]
        low, high = found.interval.low, found.interval.high
        assert low is not None
        assert high is not None
        assert (found.word == "SAME") == (-margin < low <= high < margin)
        words_by_interval.add(found.word)
    assert words_by_interval >= {"SAME", "INCONCLUSIVE"}


def test_a_cell_without_any_pair_leaves_the_others_alone() -> None:
    found = decide({"b": {"final": sample(0.5, 6)}}, seeds=6, ended={"gone": []})
    assert words(found) == {("b", "final"): "WORSE"}
    planned = engine({"b": {"final": sample(0.5, 6)}}, (6,), seeds=6, ended={"gone": []})
    assert set(words(planned.run()).values()) == {"INCONCLUSIVE"}, "its seeds may still come"


@pytest.mark.parametrize("looks", [(), (6, 9, 12), (8,)])
def test_no_sample_no_decision(looks: tuple[int, ...]) -> None:
    assert decide({}, looks) == {}


def test_survivors_of_a_policy_are_judged_more_strictly() -> None:
    """One cell of two was stopped by what was seen of it: the other's p counts twice."""
    one: Samples = {"b": {"final": sample(0.5, 6)}}
    assert words(decide(one, seeds=6))["b", "final"] == "WORSE"
    chosen = decide(one, seeds=6, stopped=1)["b", "final"]
    assert (chosen.word, chosen.p_adjusted) == ("INCONCLUSIVE", 4 / 64)
    assert (
        words(decide({"b": {"final": sample(0.5, 7)}}, seeds=7, stopped=1))["b", "final"] == "WORSE"
    )

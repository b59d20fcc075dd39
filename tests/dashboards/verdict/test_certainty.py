"""Proves: the first sentence names every cell's word once, and how sure it is follows from the numbers."""

from __future__ import annotations

from dashboards.verdict.certainty import how_sure, sentence
from tests.dashboards.synthetic import ended, judge, sweep


def test_the_sentence_groups_cells_by_word() -> None:
    verdicts = judge(sweep({"a": 0.0, "worse": 0.4, "better": -0.3, "open": 0.0}, seeds=6))
    assert sentence(verdicts) == (
        "`better` is BETTER than `a` in FID (classifier); `worse` is WORSE than `a` in FID (classifier);"
        " `open` is INCONCLUSIVE."
    )


def test_many_or_long_names_are_counted() -> None:
    many = judge(sweep({"a": 0.0} | {f"c{n}": 0.4 for n in range(5)}, seeds=8))
    assert sentence(many) == "5 cells are WORSE than `a` in FID (classifier)."
    long = judge(sweep({"a": 0.0, "x" * 70: 0.4}, seeds=6))
    assert sentence(long) == "1 cell is WORSE than `a` in FID (classifier)."


def test_nothing_decided_is_said_with_the_number_of_seeds() -> None:
    verdicts = judge(sweep({"a": 0.0, "b": 0.0}))
    assert (
        sentence(verdicts) == "INCONCLUSIVE: 3 seeds cannot tell `b` from `a` in FID (classifier)."
    )


def test_a_claim_says_its_p_and_on_how_many_seeds() -> None:
    (one,) = judge(sweep({"a": 0.0, "b": 0.4}, seeds=6)).comparisons
    assert how_sure(one) == "sure: p = 0.031, higher on 6 of 6 seeds"


def test_same_says_the_margin() -> None:
    (one,) = judge(sweep({"a": 0.0, "b": 0.0}, seeds=12, noise=0.002)).comparisons
    assert one.word == "SAME"
    assert how_sure(one) == "sure: the whole interval lies within 2 %"


def test_an_open_one_says_what_would_settle_it() -> None:
    (one,) = judge(sweep({"a": 0.0, "b": 0.0}, seeds=6)).comparisons
    assert one.final is not None
    up = sum(effect > 0 for effect in one.final.effects)
    agreed = f"higher on {up} of 6" if one.final.effect > 0 else f"lower on {6 - up} of 6"
    assert how_sure(one).startswith("not sure: p = ")
    assert agreed in how_sure(one)
    assert "12 seeds in a new experiment would find" in how_sure(one)
    (few,) = judge(sweep({"a": 0.0, "b": 0.4}, seeds=3)).comparisons
    assert how_sure(few) == "too early: 3 seeds cannot decide, 6 can; higher on 3 of 3 seeds"


def test_lost_seeds_are_counted() -> None:
    found = ended(sweep({"a": 0.0, "b": 0.4}, seeds=8), "b", 1, "diverged", "diverged: nan")
    (one,) = judge(found).comparisons
    assert how_sure(one).endswith("higher on 7 of 7 seeds, 1 seed lost")

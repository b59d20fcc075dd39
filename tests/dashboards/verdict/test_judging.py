"""Proves: each word falls exactly when it may, and a lost trial is not free."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np
import pytest

from dashboards.verdict.evidence import Curve, Evidence
from dashboards.verdict.judging import judge
from dashboards.verdict.statistics import interval, sign_flip_p
from dashboards.verdict.values import Measure
from tests.dashboards.verdict.made import Outcome, base, evidence, only, rival

LOOKS = (6, 9, 12)


def two(seeds: int, effect: float, noise: float = 0.02, **options: object) -> Evidence:
    """A baseline and one rival."""
    whole = base(24)
    rivals = rival(whole, effect, noise)[:seeds]
    return evidence({"a": whole[:seeds], "b": rivals}, **options)  # type: ignore[arg-type]


def final(made: Evidence) -> Measure:
    found = only(made).final
    assert found is not None
    return found


# --- words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "word"), [(-0.2, "BETTER"), (0.2, "WORSE"), (0.0, "SAME"), (-0.008, "SAME")]
)
def test_words(effect: float, word: str) -> None:
    assert only(two(8, effect, noise=0.004)).word == word


@pytest.mark.parametrize(("effect", "word"), [(-0.2, "WORSE"), (0.2, "BETTER")])
def test_words_turn_round_when_higher_is_better(effect: float, word: str) -> None:
    assert only(two(8, effect, metric="eval/recall")).word == word


def test_an_effect_is_the_mean_log_ratio_with_its_interval() -> None:
    made = two(9, 0.3, 0.1)
    found = final(made)
    logs = np.log(np.array(found.cell_values) / np.array(found.baseline_values))
    assert found.effect == pytest.approx(math.expm1(logs.mean()))
    assert found.effects == pytest.approx(np.expm1(logs))
    ends = interval(logs).mapped(math.expm1)
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high))
    assert found.interval.low is not None
    assert found.interval.low > -1
    assert found.p == sign_flip_p(logs)


def test_six_seeds_decide_any_number_of_cells_and_five_none() -> None:
    whole = base(6)
    cells = {"a": whole} | {f"c{k}": rival(whole, 0.2, seed=k) for k in range(12)}
    assert {c.word for c in judge(evidence(cells, curve=True)).comparisons} == {"WORSE"}
    fewer = {cell: outcomes[:5] for cell, outcomes in cells.items()}
    assert {c.word for c in judge(evidence(fewer, curve=True)).comparisons} == {"INCONCLUSIVE"}


def test_pairing_removes_what_the_seeds_share() -> None:
    """Seeds scatter by 50 %, the cell is 5 % worse in each: unpaired nothing, paired certain."""
    scattered = [float(v) for v in np.geomspace(2, 8, 8)]
    assert only(evidence({"a": scattered, "b": rival(scattered, 0.05, 0.002)})).word == "WORSE"


def test_values_that_are_no_ratios_are_compared_in_their_own_unit() -> None:
    kid = [0.001, -0.0005, 0.002, 0.0, 0.0015, -0.001, 0.0005]
    made = evidence({"a": kid, "b": [v + 0.003 for v in kid]}, metric="eval/kid")
    found = final(made)
    assert found.word == "WORSE"
    assert not found.ratio
    assert found.effect == pytest.approx(0.003)
    alike = evidence({"a": kid, "b": [v + 1e-5 for v in kid]}, metric="eval/kid")
    assert only(alike).word == "WORSE", "without a margin every difference matters"
    noise = [v + d for v, d in zip(kid, [1e-5, -1e-5, 2e-5, -2e-5, 1e-5, 0, -1e-5], strict=True)]
    near = evidence({"a": kid, "b": noise}, metric="eval/kid")
    assert (only(near).word, final(near).margin) == ("INCONCLUSIVE", None)
    own = dataclasses.replace(near, own_margin=0.001)
    assert (only(own).word, final(own).margin) == ("SAME", 0.001)
    assert judge(own).margin == 0.001


def test_claims_without_a_difference_are_rare_over_all_that_a_report_says() -> None:
    """Two rivals, four measures each: any BETTER or WORSE at all, in no more than a twentieth."""
    rng = np.random.default_rng(23)
    wrong = 0
    for _ in range(150):
        numbers = {cell: [float(v) for v in np.exp(0.1 * rng.normal(size=8))] for cell in "abc"}
        verdicts = judge(evidence(numbers, curve=True))
        claimed = {m.word for c in verdicts.comparisons for m in c.measures()}
        wrong += bool(claimed & {"BETTER", "WORSE"})
    assert wrong / 150 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)


def test_a_large_experiment_is_judged_quickly() -> None:
    """25 cells, 20 seeds, 50 evaluations: two seconds on a quiet core; twice that is no order of magnitude."""
    kimg = np.geomspace(1, 64, 50)
    rng = np.random.default_rng(5)
    cells = {f"c{k}": [float(v) for v in np.exp(0.1 * rng.normal(size=20))] for k in range(25)}
    made = evidence(cells)
    trials = tuple(
        dataclasses.replace(
            t, curves={"rung/fid": Curve(kimg, (3 + 30 / kimg) * np.exp(rng.normal(0, 0.05, 50)))}
        )
        for t in made.trials
    )
    began = time.process_time()
    judge(dataclasses.replace(made, trials=trials))
    assert time.process_time() - began < 4


# --- looks -----------------------------------------------------------------------------


def test_no_word_falls_before_the_look_is_complete() -> None:
    waiting = only(two(7, 0.5, looks=(8, 12), order=tuple(range(12))))
    assert waiting.final is not None
    assert (waiting.word, waiting.decided_at, waiting.final.p_adjusted) == (
        "INCONCLUSIVE",
        None,
        None,
    )
    assert waiting.final.p == 2 / 2**7, "which would be small enough"
    assert waiting.planned == 8
    there = only(two(8, 0.5, looks=(8, 12), order=tuple(range(12))))
    assert (there.word, there.decided_at, there.planned) == ("WORSE", 8, 8)
    assert there.dropped == ()


def test_a_trial_that_is_still_running_holds_the_look_and_one_that_failed_does_not() -> None:
    whole = base(6)
    open_ = evidence({"a": whole, "b": [*rival(whole, 0.5)[:5], "running"]}, looks=(6,))
    assert only(open_).word == "INCONCLUSIVE"
    assert judge(open_).guarantee.following == 6
    over = evidence({"a": whole, "b": [*rival(whole, 0.5)[:5], "failed"]}, looks=(6,))
    assert only(over).word == "WORSE", "five times worse, and once it did not even finish"


def test_what_is_decided_stays_decided_and_keeps_its_seeds() -> None:
    plan = {"looks": LOOKS, "order": tuple(range(12))}
    at_six = only(two(6, 0.3, **plan))
    assert (at_six.word, at_six.decided_at) == ("WORSE", 6)
    assert at_six.final is not None
    for seeds in (7, 9, 12):
        later = only(two(seeds, 0.3, **plan))
        assert later.final is not None
        assert (later.word, later.decided_at, later.final.seeds) == ("WORSE", 6, tuple(range(6)))
        assert later.final.interval == at_six.final.interval
        assert later.dropped == ()


def test_seeds_count_in_the_order_of_the_experiment() -> None:
    """A look of six takes the first six of the order, whichever numbers they have."""
    whole = base(12)
    outcomes: list[Outcome] = [*rival(whole, 0.0, 0.2)[:6], *rival(whole, 0.5)[6:]]
    forwards = evidence({"a": whole, "b": outcomes}, looks=(6,), order=tuple(range(12)))
    backwards = evidence({"a": whole, "b": outcomes}, looks=(6,), order=tuple(range(11, -1, -1)))
    assert only(forwards).decided_at != 6
    assert (only(backwards).word, only(backwards).decided_at) == ("WORSE", 6)
    found = final(backwards)
    assert found.seeds == (11, 10, 9, 8, 7, 6)


def test_beyond_the_plan_evidence_of_any_time_decides() -> None:
    whole = base(24)
    first = rival(whole, 0.02, 0.05)[:6]
    assert only(evidence({"a": whole[:6], "b": first}, looks=(6,))).word == "INCONCLUSIVE"
    more = [*first, *rival(whole, 0.3)[6:]]
    verdicts = judge(evidence({"a": whole, "b": more}, looks=(6,)))
    (found,) = verdicts.comparisons
    assert verdicts.guarantee.anytime
    assert found.final is not None
    assert found.word == "WORSE"
    assert 6 < (found.decided_at or 0) < 24, "at the first seed at which it is enough"
    assert len(found.final.seeds) == found.decided_at
    assert found.final.interval.method == "anytime"


def test_an_outlook_promises_no_decision_that_the_rules_do_not_give() -> None:
    """When all looks are done, more seeds hardly decide: only a new plan does, and that is what is said."""
    done = final(two(12, 0.02, 0.1, looks=LOOKS)).outlook
    assert done is not None
    assert (done.seeds, done.decides, done.is_new) == (24, None, True)
    assert 0 < done.detects < math.inf
    waiting = final(two(9, 0.02, 0.1, looks=LOOKS, order=tuple(range(12)))).outlook
    assert waiting is not None
    assert (waiting.seeds, waiting.is_new) == (12, False)
    assert 0 < (waiting.decides or 0) < 1
    few = final(two(4, 0.2)).outlook
    assert few is not None
    assert (few.seeds, few.decides, few.is_new) == (8, None, True), "no look follows"
    short = final(two(3, 0.2, looks=(5,), order=tuple(range(5)))).outlook
    assert short is not None
    assert (short.seeds, short.detects, short.decides, short.is_new) == (5, math.inf, 0, False)
    every = judge(two(12, 0.02, 0.1, looks=LOOKS, curve=True)).comparisons[0].measures()
    assert [m.name for m in every if m.outlook] == ["final"]
    assert final(two(12, 0.3)).outlook is None


# --- lost trials -------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["diverged", "failed"])
@pytest.mark.parametrize("curve", [True, False])
def test_a_cell_that_lost_every_seed_is_worse_at_six_and_not_before(bad: str, curve: bool) -> None:
    found = only(evidence({"a": base(6), "b": [bad] * 6}, curve=curve))
    assert (found.word, found.decided_at) == ("WORSE", 6)
    assert found.final is not None
    assert (found.final.seeds, found.final.tested, found.final.lost_cell) == ((), 6, 6)
    assert found.final.p == 2 / 64
    assert not found.final.interval.known
    assert len(found.dropped) == 6
    assert only(evidence({"a": base(5), "b": [bad] * 5})).word == "INCONCLUSIVE"
    assert only(evidence({"a": [bad] * 6, "b": base(6)})).word == "BETTER"


def test_survivors_alone_make_no_cell_better() -> None:
    """Half as good again on 7 survivors, diverged on the other 7: BETTER without them, not with."""
    whole = base(14)
    better = rival(whole, -0.3)
    assert only(evidence({"a": whole, "b": better}, curve=True)).word == "BETTER"
    found = only(evidence({"a": whole, "b": [*["diverged"] * 7, *better[7:]]}, curve=True))
    assert found.word == "INCONCLUSIVE"
    assert found.final is not None
    assert (len(found.final.seeds), found.final.tested) == (7, 14)
    assert found.final.p > 0.5
    assert all(m.word != "BETTER" for m in found.measures())


def test_a_cell_that_only_fails_more_is_worse_not_the_same() -> None:
    whole = base(20)
    alike = rival(whole, 0.0, 0.001)

    def with_lost(count: int, bad: str = "failed") -> Sequence[Outcome]:
        return [*[bad] * count, *alike[count:]]

    assert only(evidence({"a": whole, "b": alike})).word == "SAME"
    assert only(evidence({"a": whole, "b": with_lost(10)})).word == "WORSE"
    assert only(evidence({"a": whole, "b": with_lost(1)})).word != "SAME"
    other = [*["diverged"] * 10, *whole[10:]]
    assert only(evidence({"a": other, "b": alike})).word == "BETTER"


def test_a_lost_trial_by_hand() -> None:
    """Nine seeds, one lost: 8 equal differences against one, p = 2 (1 + 9) / 512."""
    found = final(evidence({"a": [4.0] * 9, "b": ["diverged", *[3.0] * 8]}))
    assert found.p == 20 / 512
    assert found.word == "BETTER"
    broken = final(evidence({"a": [4.0] * 9, "b": [math.nan, *[3.0] * 8]}))
    assert broken.p == 20 / 512
    infinite = final(evidence({"a": [4.0] * 9, "b": [math.inf, *[3.0] * 8]}))
    assert infinite.p == 20 / 512


def test_seeds_on_which_both_are_lost_say_nothing() -> None:
    outcomes: list[Outcome] = ["diverged"] * 6
    found = only(evidence({"a": [*outcomes, 4.0, 4.1], "b": [*outcomes, 4.0, 4.1]}))
    assert found.final is not None
    assert (found.word, found.final.tested) == ("INCONCLUSIVE", 2), "six losses are not alike"


def test_a_target_never_reached_is_the_worst_outcome() -> None:
    found = only(two(6, 0.3, 0.0, curve=True), target=4.9)
    assert found.target is not None
    assert found.target.word == "WORSE"
    assert found.target.lost_cell > 0
    assert found.target.tested == 6

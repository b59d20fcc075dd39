"""Proves: each word appears exactly when it should, nothing unequal is compared, and the sentences say why."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from dashboards.sweep import Sweep
from dashboards.verdict.comparable import IncomparableError, quantity
from dashboards.verdict.plain import to_dict
from dashboards.verdict.sentences import comparison_sentence, headline, measure_sentence
from dashboards.verdict.values import Comparison
from tests.dashboards.synthetic import KIMG, ended, fid, judge, sweep


def only(found: Sweep, **options: object) -> Comparison:
    (comparison,) = judge(found, **options).comparisons  # type: ignore[arg-type]
    return comparison


@pytest.mark.parametrize(
    ("effect", "word"), [(-0.2, "BETTER"), (0.2, "WORSE"), (0.0, "SAME"), (-0.012, "SAME")]
)
def test_words(effect: float, word: str) -> None:
    found = only(sweep({"a": 0.0, "b": effect}, seeds=8, noise=0.004))
    assert found.word == word
    assert comparison_sentence(found).startswith(f"{word}:")


@pytest.mark.parametrize(("effect", "word"), [(-0.2, "WORSE"), (0.2, "BETTER")])
def test_words_turn_round_when_higher_is_better(effect: float, word: str) -> None:
    found = sweep({"a": 0.0, "b": effect}, seeds=8, noise=0.004, metric="eval/recall")
    assert only(found).word == word


def test_a_real_difference_below_the_margin_is_the_same_and_says_so() -> None:
    base = [4.0 + 0.1 * i for i in range(8)]
    cell = [v * 1.005 + 0.0001 * i for i, v in enumerate(base)]
    found = only(sweep({"a": 0.0, "b": 0.0}, seeds=8, finals={"a": base, "b": cell}))
    assert found.final is not None
    assert found.final.p_holm < 0.05
    assert found.word == "SAME"
    assert "too small to matter" in comparison_sentence(found)


def test_three_seeds_cannot_decide_however_large_the_difference() -> None:
    verdicts = judge(sweep({"a": 0.0, "b": -0.5}, seeds=3, noise=0.001))
    (found,) = verdicts.comparisons
    assert found.word == "INCONCLUSIVE"
    assert found.final is not None
    assert found.final.p == 0.25
    text = comparison_sentence(found)
    assert "a sign-flip test of 3 cannot go below p = 0.25" in text
    assert "6 are the fewest that can reach p < .05" in text
    assert "3 more seeds would settle it (about 2 CPU-minutes)" in text
    assert "3 seeds cannot reach p < .05 (6 are the fewest that can)" in headline(verdicts)


def test_three_seeds_are_the_same_only_if_student_agrees() -> None:
    """The bootstrap of three is within +-2 %, Student's is not: no SAME on a too-short interval."""
    base = [4.0, 4.0, 4.0]
    found = only(
        sweep({"a": 0.0, "b": 0.0}, finals={"a": base, "b": [4.06, 3.95, 4.01]}), margin=0.02
    )
    assert found.final is not None
    assert found.final.interval.within(0.02 * 4.0)
    assert found.word == "INCONCLUSIVE"
    assert "too short to trust" in comparison_sentence(found)
    equal = only(sweep({"a": 0.0, "b": 0.0}, finals={"a": base, "b": base}))
    assert equal.word == "SAME"


def test_holm_counts_the_cells() -> None:
    """Six seeds decide one cell (p = 2/64) but not two (2 x 2/64 > .05)."""
    one = judge(sweep({"a": 0.0, "b": -0.3}, seeds=6))
    two = judge(sweep({"a": 0.0, "b": -0.3, "c": -0.4}, seeds=6))
    assert [c.word for c in one.comparisons] == ["BETTER"]
    assert [c.word for c in two.comparisons] == ["INCONCLUSIVE", "INCONCLUSIVE"]
    assert [c.final.p_holm for c in two.comparisons if c.final] == [4 / 64, 4 / 64]
    assert "7 are the fewest" in headline(two)


def test_false_positives_stay_below_alpha() -> None:
    """Cells that differ by luck alone are called BETTER or WORSE in at most 5 % of sweeps."""
    rng = np.random.default_rng(23)
    template = sweep({"a": 0.0, "b": 0.0, "c": 0.0}, seeds=8)
    template = dataclasses.replace(template, curves=template.curves.iloc[:0])
    wrong = 0
    for _ in range(200):
        trials = template.trials.assign(**{"eval/fid": 4 + 0.2 * rng.standard_normal(24)})
        words = {c.word for c in judge(dataclasses.replace(template, trials=trials)).comparisons}
        wrong += bool(words & {"BETTER", "WORSE"})
    assert wrong / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_pairing_removes_what_the_seeds_share() -> None:
    """Seeds scatter by 30 %, the cell is 5 % worse in each: unpaired nothing, paired certain."""
    found = only(sweep({"a": 0.0, "b": 0.05}, seeds=8, noise=0.002, seed_noise=0.3))
    assert found.word == "WORSE"
    assert found.final is not None
    spread = float(np.std(found.final.baseline_values))
    assert spread > 3 * found.final.mean


def test_diverged_and_missing_seeds_are_dropped_in_pairs_and_named() -> None:
    broken = ended(sweep(), "under", 1, "diverged", "diverged: loss is nan at 12.8 kimg")
    found = only(broken)
    assert found.final is not None
    assert found.final.seeds == (0, 2)
    assert "2 of 3 pairs: seed 1 of `under` diverged." in comparison_sentence(found)
    assert "which flatters `under`" in comparison_sentence(found)
    gone = broken.trials[(broken.trials["cell"] != "uniform") | (broken.trials["seed"] != 2)]
    fewer = only(dataclasses.replace(broken, trials=gone.reset_index(drop=True)))
    assert fewer.final is not None
    assert fewer.final.seeds == (0,)
    assert "seed 2 of `uniform` is missing" in comparison_sentence(fewer)
    assert "no 95 % CI" in comparison_sentence(fewer)
    assert "Too few pairs to say how many more seeds" in comparison_sentence(fewer)


def test_no_pair_at_all_is_said() -> None:
    broken = sweep(seeds=1)
    broken = ended(broken, "under", 0, "failed", "out of memory")
    verdicts = judge(broken)
    assert verdicts.comparisons[0].word == "INCONCLUSIVE"
    assert verdicts.comparisons[0].final is None
    assert "no seed finished both in `under` and in `uniform`" in headline(verdicts)


def test_area_and_target_are_closed_forms() -> None:
    """A cell twice as good everywhere has half the area; one twice as fast half the way to a target."""
    halved = only(sweep({"a": 0.0, "b": -0.5}, seeds=6, noise=0.0))
    assert halved.area is not None
    assert halved.area.relative == pytest.approx(-0.5)
    fast = only(sweep({"a": 0.0, "b": 0.0}, seeds=6, noise=0.0, seed_noise=0.0, speeds={"b": 1.5}))
    assert fast.target is not None
    assert fast.target.target == pytest.approx(1.5 * fid(KIMG[-1]))
    assert fast.target.baseline_values == pytest.approx([KIMG[-1]] * 6)
    assert fast.target.cell_values == pytest.approx([KIMG[-1] / 1.5] * 6)
    assert (fast.target.censored_baseline, fast.target.censored_cell) == (0, 0)
    assert fast.target.word == "BETTER"
    assert fast.speed is not None
    assert fast.speed.overall == pytest.approx(1.5)


def test_a_target_never_reached_is_censored() -> None:
    target = 1.5 * fid(KIMG[-1]) * 1.05  # the baseline gets there, a 20 % worse cell does not
    found = only(sweep({"a": 0.0, "b": 0.2}, seeds=6, seed_noise=0.0, noise=0.0), target=target)
    assert found.target is not None
    assert (found.target.censored_baseline, found.target.censored_cell) == (0, 6)
    assert found.target.cell_values == pytest.approx([KIMG[-1]] * 6)
    assert all(v < KIMG[-1] for v in found.target.baseline_values)
    assert "never reached by `a` in 0 and by `b` in 6 of 6 pairs" in measure_sentence(found.target)


def test_different_protocols_are_refused() -> None:
    found = sweep()
    trials = found.trials.assign(
        protocol=np.where(found.trials["cell"] == "under", "p-other", "p-full")
    )
    with pytest.raises(IncomparableError, match=r"eval/fid was measured under 2 protocols"):
        judge(dataclasses.replace(found, trials=trials))
    trials = found.trials.assign(
        protocol_rung=np.where(found.trials["seed"] == 1, "p-other", "p-rung")
    )
    with pytest.raises(IncomparableError, match=r"rung/fid was measured under 2 protocols"):
        judge(dataclasses.replace(found, trials=trials))


def test_different_budgets_are_refused() -> None:
    found = sweep()
    kimg = np.where(found.trials["cell"] == "under", 100.0, found.trials["kimg"])
    said = r"`under` was trained on 100,000 images, the baseline `uniform` on 57,600 images"
    with pytest.raises(IncomparableError, match=said):
        judge(dataclasses.replace(found, trials=found.trials.assign(kimg=kimg)))


def test_training_loss_is_never_compared() -> None:
    with pytest.raises(IncomparableError, match="never compared"):
        judge(sweep(), metric="train/loss")
    with pytest.raises(IncomparableError, match="these can: eval/fid"):
        judge(sweep(), metric="sys/img_per_s")
    with pytest.raises(IncomparableError, match="no trial reported eval/kid"):
        judge(sweep(), metric="eval/kid")


def test_baselines_are_checked() -> None:
    with pytest.raises(IncomparableError, match="no baseline is given; cells are: uniform, under"):
        judge(dataclasses.replace(sweep(), baseline=None))
    with pytest.raises(IncomparableError, match="'other' is no cell"):
        judge(sweep(), baseline="other")
    with pytest.raises(IncomparableError, match="nothing to compare"):
        judge(sweep({"uniform": 0.0}))
    assert judge(sweep(), baseline="under").comparisons[0].cell == "uniform"


def test_without_a_rung_the_metric_itself_is_the_curve() -> None:
    found = sweep()
    curves = found.curves.assign(metric=found.curves["metric"].replace("rung/fid", "eval/fid"))
    curves["protocol"] = curves["protocol"].replace("p-rung", "p-full")
    verdicts = judge(dataclasses.replace(found, curves=curves))
    assert verdicts.curve_metric == "eval/fid"
    assert verdicts.comparisons[0].area is not None


def test_gpu_hours_count_the_gpus() -> None:
    slow = sweep({"a": 0.0, "b": -0.5}, seeds=3, noise=0.001, gpus=4.0)
    slow = dataclasses.replace(slow, trials=slow.trials.assign(seconds=3600.0))
    assert "3 more seeds would settle it (about 24 GPU-hours)" in comparison_sentence(only(slow))


def test_headline_groups_the_words() -> None:
    effects = {"a": 0.0, "fast": -0.3, "alike": 0.0, "slow": 0.3}
    text = headline(judge(sweep(effects, seeds=9, noise=0.004)))
    assert "`fast` is BETTER than `a` in FID" in text
    assert "`slow` is WORSE than `a` in FID" in text
    assert "`alike` is the SAME as `a` in FID within 2 %" in text


def test_to_dict_is_json_without_loss_of_meaning() -> None:
    plain = to_dict(judge(ended(sweep(), "under", 1, "diverged")))
    text = json.dumps(plain, allow_nan=False)
    again = json.loads(text)
    assert again["sentence"].startswith("INCONCLUSIVE")
    assert again["comparisons"][0]["dropped"][0]["status"] == "diverged"
    assert again["comparisons"][0]["final"]["sentence"]
    assert again["comparisons"][0]["speed"]["mean"]["targets"]


def test_nan_finals_give_no_pair() -> None:
    found = sweep()
    trials = found.trials.copy()
    trials.loc[(trials["cell"] == "under") & (trials["seed"] == 0), "eval/fid"] = np.nan
    comparison = only(dataclasses.replace(found, trials=pd.DataFrame(trials)))
    assert comparison.final is not None
    assert comparison.final.seeds == (1, 2)
    assert comparison.dropped[0].reason == "it has no eval/fid"


def diverged(found: Sweep, cell: str, seeds: int) -> Sweep:
    for seed in range(seeds):
        found = ended(found, cell, seed, "diverged")
    return found


@pytest.mark.parametrize("metric", ["eval/fid", "eval/recall"])
def test_survivors_alone_make_no_cell_better(metric: str) -> None:
    """Half as good again on 7 survivors, diverged on the other 7: BETTER without them, not with."""
    lower = quantity(sweep(metric=metric).evidence, metric).lower_is_better
    effect = -0.5 if lower else 0.5
    whole = sweep({"a": 0.0, "b": effect}, seeds=14, noise=0.001, metric=metric)
    assert only(whole).word == "BETTER"
    verdicts = judge(diverged(whole, "b", 7))
    (found,) = verdicts.comparisons
    assert found.word == "INCONCLUSIVE"
    assert found.final is not None
    assert (found.final.diverged_baseline, found.final.diverged_cell) == (0, 7)
    assert (len(found.final.seeds), found.final.tested) == (7, 14)
    assert found.final.p > 0.5
    assert all(m.word != "BETTER" for m in found.measures())
    assert "`b` diverged on 7 of 14 seeds" in headline(verdicts)
    assert "for `b` on 7 surviving seeds" in headline(verdicts)
    assert "% on 7 surviving seeds (95 % CI" in comparison_sentence(found)


def test_a_cell_that_only_diverges_more_is_worse_not_the_same() -> None:
    found = sweep({"a": 0.0, "b": 0.0}, seeds=20, noise=0.001)
    assert only(found).word == "SAME"
    assert only(diverged(found, "b", 10)).word == "WORSE"
    assert only(diverged(found, "a", 10)).word == "BETTER"
    assert only(diverged(found, "b", 1)).word != "SAME"
    both = only(diverged(diverged(found, "a", 10), "b", 10))
    assert both.final is not None
    assert (both.word, both.final.tested) == ("SAME", 10)


def test_divergence_as_the_worst_outcome_by_hand() -> None:
    """Nine seeds, one diverged: 8 equal differences against one, p = 2 (1 + 9) / 512."""
    values = {"a": [4.0] * 9, "b": [3.0] * 9}
    found = only(diverged(sweep({"a": 0.0, "b": 0.0}, seeds=9, finals=values), "b", 1))
    assert found.final is not None
    assert found.final.p == 20 / 512
    assert found.word == "BETTER"


def test_diverged_on_every_seed_is_in_the_headline() -> None:
    text = headline(judge(diverged(sweep(), "under", 3)))
    assert "`under` diverged on 3 of 3 seeds" in text


@pytest.mark.parametrize(("gpus", "cpus", "cost"), [(0.0, 6.0, "36 CPU"), (0.5, 6.0, "3.0 GPU")])
def test_hours_count_all_a_trial_occupies(gpus: float, cpus: float, cost: str) -> None:
    """Three more seeds of two cells at one hour on 6 CPUs, or on half a GPU."""
    slow = sweep({"a": 0.0, "b": -0.5}, seeds=3, noise=0.001)
    slow = dataclasses.replace(
        slow, trials=slow.trials.assign(seconds=3600.0), gpus=gpus, cpus=cpus
    )
    assert f"3 more seeds would settle it (about {cost}-" in comparison_sentence(only(slow))


def test_the_headline_tells_how_unsure_the_number_of_seeds_is() -> None:
    base = [4.0, 4.0, 4.0]
    noisy = sweep(finals={"uniform": base, "under": [4.4, 3.8, 4.2]})
    (found,) = judge(noisy).comparisons
    assert found.final is not None
    plan = found.final.more
    assert plan is not None
    high = "more than 1000" if plan.high is None else plan.high
    text = f"about {plan.more} more seeds ({plan.low} to {high}) would settle it"
    assert text in headline(judge(noisy))
    assert text.capitalize() in comparison_sentence(found)
    two = judge(sweep({"a": 0.0, "b": 0.03, "c": 0.05}, seeds=2))
    assert "too few pairs to say how many more" in headline(two)
    assert "more seeds would settle it (about" not in headline(two)
    assert "Too few pairs to say how many more" in comparison_sentence(two.comparisons[0])


def test_one_odd_cell_does_not_silence_the_others() -> None:
    found = sweep({"a": 0.0, "b": -0.3, "odd": 0.0, "other": 0.0}, seeds=8)
    trials, specs = found.trials.copy(), json.loads(json.dumps(found.specs))
    trials.loc[trials["cell"] == "odd", "kimg"] = 57.696
    trials.loc[trials["cell"] == "other", "protocol"] = "p-other"
    specs["odd"]["train"]["batch_size"] = 96
    verdicts = judge(dataclasses.replace(found, trials=trials, specs=specs))
    assert [(c.cell, c.word) for c in verdicts.comparisons] == [("b", "BETTER")]
    assert verdicts.comparisons[0].final is not None
    assert verdicts.comparisons[0].final.comparisons == 1
    assert verdicts.kimg == 57.6
    budget, protocol = verdicts.refused
    assert budget.cell == "odd"
    assert "`odd` was trained on 57,696 images, the baseline `a` on 57,600" in budget.reason
    assert "a multiple of 0.384 kimg, which train.batch_size 96 and 128 divide" in budget.reason
    assert protocol.cell == "other"
    assert "p-full in `a`; p-other in `other`" in protocol.reason
    assert "the same `evaluation`" in protocol.reason
    assert "`odd` is not compared (57,696 images, not 57,600)" in headline(verdicts)
    assert to_dict(verdicts)["refused"][1]["cell"] == "other"


def test_a_baseline_of_two_budgets_is_refused() -> None:
    found = sweep()
    trials = found.trials.copy()
    trials.loc[(trials["cell"] == "uniform") & (trials["seed"] == 1), "kimg"] = 48.0
    said = "the baseline `uniform` were trained on 48,000 and 57,600 images"
    with pytest.raises(IncomparableError, match=said):
        judge(dataclasses.replace(found, trials=trials))

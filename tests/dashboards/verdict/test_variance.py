"""Proves: seeds, draws and their interaction are told apart as by hand, without bias, and said as far as known."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from dashboards.verdict.evidence import Evidence, Quantity, Trial
from dashboards.verdict.plain import spreads_to_list
from dashboards.verdict.spread_sentences import condition, shares_text, spread_sentence
from dashboards.verdict.variance import Parts, Spread, crossed, spreads
from tests.dashboards.synthetic import drawn, sweep
from trainer.report import Status


def test_two_by_two_by_hand() -> None:
    """Row means 2 and 8, column means 3 and 7, grand mean 5, every residual 1 or -1."""
    parts = crossed(np.array([[1.0, 3.0], [5.0, 11.0]]))
    squares = (parts.seed.mean_square, parts.draw.mean_square, parts.interaction.mean_square)
    assert squares == (36.0, 16.0, 4.0)
    assert (parts.seed.degrees, parts.draw.degrees, parts.interaction.degrees) == (1, 1, 1)
    estimates = (parts.seed.estimate, parts.draw.estimate, parts.interaction.estimate)
    assert estimates == (16.0, 6.0, 4.0)
    assert parts.of_mean() == (8.0, 3.0, 1.0)
    assert parts.of_mean(1) == (8.0, 6.0, 2.0)
    assert parts.shares == (8 / 12, 3 / 12, 1 / 12)
    assert parts.cut == 1 - 12 / 16
    assert parts.cut_by_seed == 1 - 9 / 10
    assert parts.unseen == math.sqrt(3.0)
    assert parts.seen == 3.0, "rows differ by 6: sd 6/sqrt(2), over sqrt(2) seeds"
    assert parts.below_zero == ()


def test_a_negative_estimate_counts_as_nothing_and_is_named() -> None:
    """A checkerboard: all interaction."""
    parts = crossed(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    assert parts.interaction.estimate == 4.0
    assert (parts.seed.estimate, parts.draw.estimate) == (-2.0, -2.0)
    assert parts.shares == (0.0, 0.0, 1.0)
    assert parts.below_zero == ("seed", "draw")


def test_pure_effects_are_pure_up_to_rounding() -> None:
    seeds, draws = np.array([[0.1], [0.7], [0.2]]), np.array([[0.3, 0.9, 0.4]])
    for table, shares in (
        (seeds + 0 * draws, (1.0, 0.0, 0.0)),
        (0 * seeds + draws, (0.0, 1.0, 0.0)),
    ):
        assert crossed(table).shares == shares
    assert crossed(np.full((3, 3), 0.1)).shares is None
    assert crossed(np.full((3, 3), 0.1)).cut is None


@pytest.mark.parametrize(("count", "draws"), [(3, 3), (6, 3), (8, 2)])
def test_estimates_are_unbiased_and_so_is_the_variance_of_the_mean(count: int, draws: int) -> None:
    """20,000 tables of known components in float64; means of estimates within 4 of their standard errors.

    Chance beyond 4 of one of the 12 means is below 0.1 %, and the generator is seeded.
    """
    true = np.array([0.5, 0.2, 0.3])
    rng = np.random.default_rng(count * 10 + draws)
    tables = 7.0 + math.sqrt(true[0]) * rng.standard_normal((20_000, count, 1))
    tables = tables + math.sqrt(true[1]) * rng.standard_normal((20_000, 1, draws))
    tables = tables + math.sqrt(true[2]) * rng.standard_normal((20_000, count, draws))
    found = [crossed(table) for table in tables]
    estimates = np.array(
        [[p.seed.estimate, p.draw.estimate, p.interaction.estimate] for p in found]
    )
    error = estimates.std(0) / math.sqrt(len(found))
    assert (np.abs(estimates.mean(0) - true) < 4 * error).all()
    # the variance of the reported mean, from the estimates and from the means that came out
    said = estimates @ [1 / count, 1 / draws, 1 / (count * draws)]
    means = tables.mean((1, 2))
    spread_of_variance = means.var() * math.sqrt(2 / len(found))
    assert abs(said.mean() - means.var()) < 4 * (
        said.std() / math.sqrt(len(found)) + spread_of_variance
    )


def test_the_test_by_seed_sees_what_it_is_said_to_see() -> None:
    """Draw effects common to all seeds move no standard error of a mean by seed, and the mean itself by `unseen`."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal((6, 1)) + 0.5 * rng.standard_normal((6, 3))
    effects = np.array([[-0.3, 0.4, 0.5]])
    plain, moved = crossed(base), crossed(base + effects)
    assert moved.seen == pytest.approx(plain.seen, rel=1e-12)
    assert moved.seen == pytest.approx(
        (base + effects).mean(1).std(ddof=1) / math.sqrt(6), rel=1e-12
    )
    assert moved.draw.mean_square != pytest.approx(plain.draw.mean_square, rel=0.1)


@pytest.mark.parametrize("interaction", [0.0, 0.3])
def test_the_limit_of_what_the_test_does_not_see_holds_in_95_of_100(interaction: float) -> None:
    """Of 20,000 tables; exact without interaction (error of a rate .95: .0015, four of them), else at least that."""
    rng = np.random.default_rng(5)
    draws = 0.4 * rng.standard_normal((20_000, 1, 3))
    noise = interaction * rng.standard_normal((20_000, 4, 3))
    tables = rng.standard_normal((20_000, 4, 1)) + draws + noise
    held = np.mean([0.4 / math.sqrt(3) <= crossed(table).unseen_below for table in tables])
    assert held > 0.95 - 0.006
    assert interaction > 0 or held < 0.95 + 0.006


# Of evidence


def evidence(values: dict[tuple[str, int], tuple[float, ...]], ratio: bool = False) -> Evidence:
    trials = tuple(
        Trial(
            cell,
            seed,
            Status.FINISHED,
            finals={"eval/fid": float(np.mean(each))},
            draws={"eval/fid": each} if len(each) > 1 else {},
        )
        for (cell, seed), each in values.items()
    )
    cells = tuple(dict.fromkeys(cell for cell, _ in values))
    return Evidence(
        trials, cells, "eval/fid", {"eval/fid": Quantity("FID", True, ratio=ratio)}, cells[0]
    )


def told(
    values: dict[tuple[str, int], tuple[float, ...]], ratio: bool = False
) -> tuple[Spread, ...]:
    found = evidence(values, ratio)
    return spreads(found, "eval/fid", "a", [cell for cell in found.cells if cell != "a"])


def test_a_draw_effect_that_cells_share_cancels_in_their_difference() -> None:
    shared = (0.0, 0.5, -0.5)
    base, own, difference = told(
        {("a", s): tuple(3.0 + s + d for d in shared) for s in range(3)}
        | {("b", s): tuple(4.0 + s * s + d for d in shared) for s in range(3)}
    )
    assert (base.cell, base.baseline, own.cell, own.baseline) == ("a", None, "b", None)
    assert (difference.cell, difference.baseline) == ("b", "a")
    assert base.parts is not None
    assert base.parts.draw.variance == pytest.approx(0.25)
    assert difference.parts is not None
    assert difference.parts.draw.variance == 0.0
    assert difference.parts.shares == (1.0, 0.0, 0.0)
    assert difference.mean == pytest.approx(np.mean([1.0, 1.0, 3.0]))
    assert difference.sd == pytest.approx(np.std([1.0, 1.0, 3.0], ddof=1))


def test_ratios_are_split_where_verdicts_compare_ratios() -> None:
    """A draw that is 10 % harder for both cells cancels; what is left is what the test by seed is made of."""
    factor = np.array([1.0, 1.1, 0.95])
    seeds = {0: 3.0, 1: 4.0, 2: 3.5, 3: 5.0}
    gain = {0: 1.2, 1: 1.3, 2: 1.25, 3: 1.1}
    base = {("a", s): tuple(map(float, v * factor)) for s, v in seeds.items()}
    own = {("b", s): tuple(map(float, v * gain[s] * factor)) for s, v in seeds.items()}
    *_, of_ratio = told(base | own, ratio=True)
    assert of_ratio.ratio
    assert of_ratio.parts is not None
    assert of_ratio.parts.shares == pytest.approx((1.0, 0.0, 0.0), abs=1e-12)
    logs = np.log(list(gain.values()))
    assert of_ratio.mean == pytest.approx(logs.mean(), rel=1e-12)
    assert of_ratio.parts.seen == pytest.approx(logs.std(ddof=1) / 2, rel=1e-12)
    *_, of_difference = told(base | own)
    assert not of_difference.ratio
    assert of_difference.parts is not None
    assert of_difference.parts.draw.variance > 0, "10 % of a larger number is more"


def test_a_seeds_mean_over_draws_is_what_the_verdict_compares() -> None:
    """Whatever the draws are: logarithms of the ratios of final values."""
    found = drawn(sweep(seeds=5)).evidence
    finals = {(t.cell, t.seed): t.finals["eval/fid"] for t in found.finished}
    *_, compared = spreads(found, "eval/fid", "uniform", ["under"])
    logs = [math.log(finals["under", s] / finals["uniform", s]) for s in range(5)]
    assert compared.mean == pytest.approx(np.mean(logs), rel=1e-12)
    assert compared.sd == pytest.approx(np.std(logs, ddof=1), rel=1e-12)
    assert "%" in spread_sentence(compared).split("standard deviation of")[1][:8]


def test_values_that_are_not_positive_are_compared_by_difference() -> None:
    base, *_, compared = told({(c, s): (s - 1.0, 2.0) for c in "ab" for s in range(3)}, ratio=True)
    assert (base.ratio, compared.ratio) == (False, False)


def test_only_finished_seeds_of_both_cells_make_a_difference() -> None:
    values = {("a", s): (1.0 + s, 2.0, 3.0) for s in range(4)}
    values |= {("b", s): (2.0, 4.0 + s, 3.0) for s in (1, 2)} | {("b", 3): (1.0, math.nan, 2.0)}
    base, own, difference = told(values)
    assert (base.seeds, own.seeds, difference.seeds) == ((0, 1, 2, 3), (1, 2), (1, 2))
    assert told({("a", 0): (1.0, 2.0)})[0].parts is None, "one seed"


def test_cells_of_other_numbers_of_draws_have_no_difference() -> None:
    found = told(
        {("a", s): (1.0 + s, 2.0) for s in range(3)} | {("b", s): (1.0 + s,) for s in range(3)}
    )
    assert [(s.cell, s.baseline, s.draws) for s in found] == [("a", None, 2), ("b", None, 1)]


def test_one_draw_makes_a_claim_conditional_and_the_sentence_says_so() -> None:
    found = told(
        {("a", s): (1.0 + s,) for s in range(3)} | {("b", s): (2.0 + s * s,) for s in range(3)}
    )
    assert all(spread.parts is None and spread.draws == 1 for spread in found)
    assert "one and the same generation noise: the claims hold for that noise" in condition(found)
    assert "`evaluation.draws: 3`" in condition(found)
    assert (
        spread_sentence(found[2])
        == "`b` against `a`: one draw, so seeds and draws cannot be told apart."
    )
    assert condition(found[:1]) == "", "nothing is compared"
    cheap = [dataclasses.replace(spread, metric="rung/fid") for spread in found]
    assert "evaluation.draws" not in condition(cheap), "the curve has one noise anyway"


def test_sentences_say_shares_cut_and_what_the_test_does_not_see() -> None:
    parts = crossed(np.array([[1.0, 3.0], [5.0, 11.0]]))
    spread = Spread("eval/fid", "b", "a", False, (0, 1), 2, 5.0, 4.2, parts)
    assert shares_text(parts) == ("67 %", "25 %", "8 %")
    text = spread_sentence(spread)
    for expected in (
        "`b` against `a`: 67 % of the variance of the mean is due to seeds, 25 % to draws, 8 % to seed x draw;",
        "with one draw it would be 1.33 times as large.",
        "A test by seed holds for these 2 draws: others would move the mean difference by a standard deviation of 1.7",
        "(below 32 with 95 % confidence), beside its standard error of 3.0.",
    ):
        assert expected in text
    assert condition([spread, dataclasses.replace(spread, cell="c")]) == (
        "2 draws instead of one cut the variance of the mean difference of `b` by 25 %, of `c` by 25 %. The draws'"
        " own part of what is left, which a test by seed does not see: 25 %, 25 %."
    )
    own = dataclasses.replace(spread, baseline=None)
    assert "test by seed" not in spread_sentence(own)


def test_truncation_is_said() -> None:
    parts = crossed(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    text = spread_sentence(Spread("eval/fid", "b", "a", False, (0, 1), 2, 0.0, 0.0, parts))
    assert text.endswith("The estimate for seeds and draws is below 0 and counts as 0.")
    still = Spread("eval/fid", "b", "a", False, (0, 1), 2, 0.1, 0.0, crossed(np.full((2, 2), 0.1)))
    assert spread_sentence(still) == "`b` against `a`: equal over 2 seeds and 2 draws."


def test_programs_read_components_and_what_follows() -> None:
    found = drawn(sweep(seeds=6)).evidence
    listed = json.loads(
        json.dumps(spreads_to_list(spreads(found, "eval/fid", "uniform", ["under"])))
    )
    assert [(s["cell"], s["baseline"]) for s in listed] == [
        ("uniform", None),
        ("under", None),
        ("under", "uniform"),
    ]
    parts = listed[2]["parts"]
    assert set(parts["shares"]) == {"seed", "draw", "interaction"}
    assert sum(parts["shares"].values()) == pytest.approx(1.0)
    assert parts["draw"]["degrees"] == 2
    assert 0.0 < parts["cut"] < 2 / 3 + 1e-9, (
        "three draws take two thirds of what is not the seeds'"
    )
    assert listed[2]["sentence"].startswith("`under` against `uniform`: ")


def test_the_mean_of_the_draws_is_what_verdicts_judge() -> None:
    found = drawn(sweep(seeds=4)).evidence
    for trial in found.finished:
        assert trial.finals["eval/fid"] == pytest.approx(
            np.mean(trial.draws["eval/fid"]), rel=1e-12
        )


def test_parts_of_other_numbers_of_draws_are_foretold() -> None:
    """What K draws would give, from the components of two: the table's own K is a special case."""
    parts = crossed(np.array([[1.0, 3.0], [5.0, 11.0]]))
    assert parts.of_mean(2) == parts.of_mean()
    assert sum(parts.of_mean(10**9)) == pytest.approx(parts.seed.variance / parts.seeds)
    assert isinstance(parts, Parts)

"""Proves: the same trainings under further protocols are compared where only one thing differs, in one family."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.evidence import Evidence, Further, Quantity, Row
from dashboards.verdict.judging import judge
from dashboards.verdict.plain import to_dict
from dashboards.verdict.row_wording import rows_headline, table_lines, unlike_sentences
from dashboards.verdict.sentences import headline, row_sentence
from dashboards.verdict.values import RowComparison, Verdicts
from tests.dashboards.verdict.made import base, evidence, rival
from trainer.report import Status

FEW, LARGE = Further("few", "eval/fid.few"), Further("large", "eval/fid.large", "64 images, not 32")
FID = Quantity("FID", lower_is_better=True)


def under(
    cells: Mapping[str, Sequence[Any]],
    also: Mapping[str, Mapping[Further, Sequence[float]]],
    *,
    curve: bool = False,
    **options: Any,
) -> Evidence:
    """Cells with numbers under further protocols too."""
    made = evidence(cells, curve=curve, **options)
    trials = tuple(
        dataclasses.replace(
            trial,
            finals=dict(trial.finals)
            | {f.metric: own[trial.seed] for f, own in also[trial.cell].items()},
            protocols={"eval/fid": ("p",), **{f.metric: (f.name,) for f in also[trial.cell]}},
        )
        if trial.status is Status.FINISHED
        else trial
        for trial in made.trials
    )
    known = dict(made.quantities) | {f.metric: FID for own in also.values() for f in own}
    further = {cell: tuple(own) for cell, own in also.items()}
    return dataclasses.replace(made, trials=trials, quantities=known, further=further)


def found(verdicts: Verdicts) -> dict[tuple[str, str], RowComparison]:
    return {(row.row.name, row.against.name): row for row in verdicts.rows}


A, B = base(8), rival(base(8), 0.2)
TWO = under({"a": A, "b": B}, {"a": {FEW: rival(A, 0.5, seed=2)}, "b": {FEW: rival(B, 0.5, seed=3)}})  # fmt: skip


def test_each_row_meets_the_baseline_under_its_protocol_and_its_own_training_as_reported() -> None:
    rows = found(judge(TWO))
    assert list(rows) == [("a@few", "a"), ("b@few", "a@few"), ("b@few", "b")]
    few = {t.cell: [u.finals["eval/fid.few"] for u in TWO.trials if u.cell == t.cell] for t in TWO.trials}  # fmt: skip
    for (_, against), (mine, other) in zip(
        rows, [(few["a"], A), (few["b"], few["a"]), (few["b"], B)], strict=True
    ):
        row = next(r for (_, name), r in rows.items() if name == against)
        assert row.final is not None
        logs = np.log(np.array(mine) / np.array(other))
        assert row.final.effect == pytest.approx(math.expm1(logs.mean()), rel=1e-12)
        assert row.word == "WORSE"
    assert [row.same_training for row in rows.values()] == [True, False, True]


def test_other_images_are_another_bias_so_only_trainings_are_compared() -> None:
    made = under({"a": A, "b": B}, {"a": {LARGE: rival(A, -0.5)}, "b": {LARGE: rival(B, -0.5)}})
    verdicts = judge(made)
    assert list(found(verdicts)) == [("b@large", "a@large")]
    assert unlike_sentences(verdicts) == [
        "`a@large` and `b@large` are not compared with `a` and `b`: 64 images, not 32, and that alone moves a"
        " distance."
    ]
    lines = [(row.name, c is None) for row, c in table_lines(verdicts)]
    assert lines == [("a@large", True), ("b@large", False)], "its baseline stands before it"


def test_other_ids_are_never_compared() -> None:
    trials = tuple(
        dataclasses.replace(t, protocols={**t.protocols, "eval/fid.few": ("other",)})
        if t.cell == "b"
        else t
        for t in TWO.trials
    )
    verdicts = judge(dataclasses.replace(TWO, trials=trials))
    assert list(found(verdicts)) == [("a@few", "a"), ("b@few", "b")]
    assert unlike_sentences(verdicts) == [
        "`b@few` is not compared with `a@few`: other protocol ids."
    ]


def test_a_protocol_of_one_cell_alone_is_compared_with_its_own_training() -> None:
    made = under({"a": A, "b": B}, {"a": {}, "b": {FEW: rival(B, 0.5)}})
    assert list(found(judge(made))) == [("b@few", "b")]


def test_one_cell_alone_is_compared_with_itself() -> None:
    made = under({"a": A}, {"a": {FEW: rival(A, -0.3)}}, baseline=None)
    verdicts = judge(made)
    assert (verdicts.comparisons, verdicts.baseline) == ((), "a")
    assert found(verdicts)["a@few", "a"].word == "BETTER"
    assert headline(verdicts).startswith(
        "under further protocols: 1 BETTER (`a@few` than `a`, -29.7 %)."
    )
    assert verdicts.guarantee.following is None
    with pytest.raises(IncomparableError, match="no baseline"):
        judge(dataclasses.replace(made, further={}))


def test_rows_stand_in_the_family_and_leave_the_deciding_metric_its_weight() -> None:
    """More columns never make a p smaller. Of eight pairs the mildest claim of the cell outlives ten protocols."""
    mild = rival(A, 0.03, noise=0.02)
    plain = judge(under({"a": A, "b": mild}, {"a": {}, "b": {}}))
    many = [Further(f"p{k}", f"eval/fid.p{k}") for k in range(10)]
    own = {
        cell: {f: rival(numbers, 0.0, seed=50 + 10 * at + k) for k, f in enumerate(many)}
        for at, (cell, numbers) in enumerate({"a": A, "b": mild}.items())
    }
    verdicts = judge(under({"a": A, "b": mild}, own))
    before, after = (v.comparisons[0].final for v in (plain, verdicts))
    assert before is not None
    assert after is not None
    assert (before.effect, before.interval) == (after.effect, after.interval)
    assert before.p_adjusted is not None
    assert after.p_adjusted is not None
    assert before.p_adjusted <= after.p_adjusted
    assert len(verdicts.rows) == 30
    for row in verdicts.rows:
        assert row.final is not None
        assert row.final.p_adjusted is not None
        assert row.final.p <= row.final.p_adjusted + 1e-12, "alone it is never less sure"


def test_a_row_asks_for_no_seeds_and_ends_with_its_cell() -> None:
    """Looks at 8 and 12: `b` is decided at eight; its rows and the baseline's are of these, though twelve ran."""
    a = base(12)
    b, same = rival(a, 0.5), rival(a, 0.0, noise=0.05)
    also = {"a": {FEW: same}, "b": {FEW: rival(b, 0.0, noise=0.05, seed=9)}}
    verdicts = judge(under({"a": a, "b": b}, also, looks=(8, 12)))
    assert verdicts.comparisons[0].decided_at == 8
    assert verdicts.guarantee.following is None
    for row in verdicts.rows:
        assert row.final is not None
        assert len(row.final.seeds) == 8
    # an open cell waits for twelve, whatever its rows say: they count less, so eight say it, six may not
    open_ = {"a": {FEW: rival(a[:8], 0.5)}, "b": {FEW: rival(a[:8], 0.5, seed=4)}}
    waiting = judge(
        under(
            {"a": a[:8], "b": rival(a[:8], 0.0, noise=0.1)},
            open_,
            looks=(8, 12),
            order=tuple(range(12)),
        )
    )
    assert waiting.guarantee.following == 12
    assert found(waiting)["a@few", "a"].word == "WORSE"


def test_a_lost_training_is_lost_under_every_protocol() -> None:
    """Against the baseline it counts as the worst; against itself it tells nothing."""
    cells: dict[str, list[Any]] = {"a": list(A), "b": [*B[:7], "diverged"]}
    made = under(cells, {"a": {FEW: rival(A, 0.5)}, "b": {FEW: rival(B, 0.5)}})
    rows = found(judge(made))
    against, own = rows["b@few", "a@few"].final, rows["b@few", "b"].final
    assert against is not None
    assert own is not None
    assert (against.lost_cell, against.tested) == (1, 8)
    assert (own.lost_cell, own.tested) == (0, 7)
    # a solver that goes astray loses its own row alone
    astray = under({"a": A, "b": B}, {"a": {FEW: A}, "b": {FEW: [math.nan, *rival(B[1:], 0.5)]}})
    rows = found(judge(astray))
    lost = rows["b@few", "b"].final
    assert lost is not None
    assert (lost.lost_cell, lost.tested) == (1, 8)
    assert judge(astray).comparisons[0].word == judge(TWO).comparisons[0].word


def test_they_are_said_in_words_and_to_programs() -> None:
    verdicts = judge(TWO)
    said = rows_headline(verdicts)
    assert said.startswith("under further protocols: 3 WORSE (`a@few` than `a`, +")
    assert headline(verdicts).endswith(f"; {said}.")
    assert row_sentence(verdicts.rows[1]).startswith(
        "WORSE: final FID of `b@few` against `a@few` is "
    )
    data = json.loads(json.dumps(to_dict(verdicts)))
    assert [row["same_training"] for row in data["rows"]] == [True, False, True]
    assert data["rows"][1]["row"] == {
        "name": "b@few", "cell": "b", "metric": "eval/fid.few", "protocol": "few",
    }  # fmt: skip
    assert data["rows"][1]["against"]["name"] == "a@few"
    assert data["rows"][1]["sentence"] == row_sentence(verdicts.rows[1])
    assert data["rows"][1]["final"]["p_adjusted"] == verdicts.rows[1].final.p_adjusted  # type: ignore[union-attr]
    assert Row("a", "eval/fid").name == "a"
    assert rows_headline(judge(evidence({"a": A, "b": B}))) == ""

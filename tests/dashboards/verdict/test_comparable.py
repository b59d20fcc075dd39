"""Proves: nothing unequal is compared, the reason is said, and one odd cell does not silence the others."""

from __future__ import annotations

import dataclasses

import pytest

from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.evidence import Curve, Evidence
from dashboards.verdict.judging import judge
from tests.dashboards.verdict.made import KIMG, base, evidence, rival


def changed(made: Evidence, cell: str, **more: object) -> Evidence:
    return dataclasses.replace(
        made,
        trials=tuple(
            dataclasses.replace(t, **more) if t.cell == cell else t  # type: ignore[arg-type]
            for t in made.trials
        ),
    )


def three_cells() -> Evidence:
    whole = base(6)
    made = evidence({"a": whole, "b": rival(whole, -0.2), "odd": rival(whole, 0.1)}, curve=True)
    for cell in made.cells:
        made = changed(made, cell, protocols={"eval/fid": ("p-full",), "rung/fid": ("p-rung",)})
    return dataclasses.replace(made, batch_sizes={"a": 128, "b": 128, "odd": 96})


def test_one_odd_cell_does_not_silence_the_others() -> None:
    verdicts = judge(changed(three_cells(), "odd", images=16_032))
    assert [(c.cell, c.word) for c in verdicts.comparisons] == [("b", "BETTER")]
    (refused,) = verdicts.refused
    assert refused.why == "16,032 images, not 16,000"
    assert "a multiple of 0.384 kimg, which train.batch_size 96 and 128 divide" in refused.reason
    mixed = changed(three_cells(), "odd", protocols={"rung/fid": ("p-other",)})
    (refused,) = judge(mixed).refused
    assert "rung/fid was measured under 2 protocols" in refused.reason
    assert "p-rung in `a`; p-other in `odd`" in refused.reason


def test_where_no_cell_is_left_the_reasons_are_the_answer() -> None:
    made = changed(three_cells(), "a", images=8_000)
    with pytest.raises(IncomparableError, match="`b` was trained on 16,000 images, the baseline"):
        judge(made)


def test_a_baseline_that_differs_in_itself_is_refused() -> None:
    made = three_cells()
    trials = (dataclasses.replace(made.trials[0], images=8_000), *made.trials[1:])
    with pytest.raises(IncomparableError, match="`a` were trained on 8,000 and 16,000 images"):
        judge(dataclasses.replace(made, trials=trials))
    odd = dataclasses.replace(made.trials[0], protocols={"eval/fid": ("p-other",)})
    with pytest.raises(IncomparableError, match="eval/fid was measured under 2 protocols"):
        judge(dataclasses.replace(made, trials=(odd, *made.trials[1:])))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "train/loss"}, "never compared"),
        ({"metric": "sys/img_per_s"}, "these can: eval/fid"),
        ({"metric": "eval/kid"}, "no trial reported eval/kid; final metrics are: eval/fid"),
        ({"baseline": "other"}, "'other' is no cell; cells are: a, b, odd"),
    ],
)
def test_what_cannot_be_asked_is_said(options: dict[str, str], said: str) -> None:
    with pytest.raises(IncomparableError, match=said):
        judge(three_cells(), **options)  # type: ignore[arg-type]


def test_another_baseline_metric_margin_or_target_may_be_asked() -> None:
    assert judge(three_cells(), baseline="b").comparisons[0].word == "WORSE"
    assert judge(three_cells(), margin=0.5).comparisons[1].word == "SAME"
    target = judge(three_cells(), target=9.0).comparisons[0].target
    assert target is not None
    assert target.target == 9.0


def test_without_a_rung_the_metric_itself_is_the_curve() -> None:
    curves = {"eval/fid": Curve(KIMG, 30.0 * KIMG**-0.8)}
    made = evidence({"a": base(2), "b": base(2)})
    verdicts = judge(changed(changed(made, "a", curves=curves), "b", curves=curves))
    assert verdicts.curve_metric == "eval/fid"
    assert verdicts.comparisons[0].area is not None

"""Proves: the evidence is drawn as it grew, its last point is the verdict's own, and a word's look has a star."""

from __future__ import annotations

import pytest

from dashboards.charts.evidence import evidence
from dashboards.sweep import Sweep
from tests.dashboards.synthetic import judge, sweep


def drawn(found: Sweep) -> dict[str, dict[str, list[float]]]:
    figure = evidence(found, judge(found))
    return {
        trace.name: {
            "x": list(trace.x),
            "y": list(trace.y),
            "star": [
                x for x, s in zip(trace.x, trace.marker.symbol or [], strict=False) if s == "star"
            ],
        }
        for trace in figure.data
        if trace.name
    }


def test_the_last_point_is_the_verdict_and_a_star_marks_its_look() -> None:
    found = sweep({"a": 0.0, "b": -0.3, "c": 0.0}, seeds=7)
    lines = drawn(found)
    for comparison in judge(found).comparisons:
        assert comparison.final is not None
        line = lines[comparison.cell]
        assert line["x"] == [2, 3, 4, 5, 6, 7]
        assert line["y"][-1] == pytest.approx(100 * comparison.final.effect)
        assert line["star"] == ([7] if comparison.word != "INCONCLUSIVE" else [])


def test_a_metric_near_zero_is_drawn_in_its_own_unit() -> None:
    found = sweep({"a": 0.0, "b": -0.3}, seeds=6, metric="eval/kid")
    (comparison,) = judge(found).comparisons
    assert comparison.final is not None
    assert drawn(found)["b"]["y"][-1] == pytest.approx(comparison.final.effect)
    assert evidence(found, judge(found)).layout.yaxis.ticksuffix == ""

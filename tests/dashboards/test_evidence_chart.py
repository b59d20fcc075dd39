"""Proves: the evidence is drawn as it grew, its last point is the verdict's own, and a word's look has a star."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dashboards.charts.evidence import evidence
from dashboards.sweep import Sweep
from dashboards.verdict.anytime import anytime_interval
from tests.dashboards.synthetic import ended, judge, sweep

LOOKS = (6, 9, 12)


def drawn(found: Sweep) -> dict[str, dict[str, Any]]:
    """Of each cell the line, the star and, by the number of pairs, the ends of the band."""
    figure = evidence(found, judge(found))
    lines: dict[str, dict[str, Any]] = {}
    bands = {t.legendgroup: t for t in figure.data if t.legendgroup and not t.name}
    for trace in (t for t in figure.data if t.name):
        band, n = bands[trace.legendgroup], len(trace.x)
        symbols = zip(trace.x, trace.marker.symbol, strict=True)
        lines[trace.legendgroup] = {
            "name": trace.name,
            "x": list(trace.x),
            "y": list(trace.y),
            "star": [x for x, symbol in symbols if symbol == "star"],
            "high": list(band.y[:n]),
            "low": list(band.y[n:])[::-1],
        }
    return lines


def is_the_verdicts_own(found: Sweep) -> None:
    """The last point of every cell, its band's ends and its star."""
    lines = drawn(found)
    for comparison in judge(found).comparisons:
        final, line = comparison.final, lines[comparison.cell]
        assert final is not None
        scale = 100 if final.ratio else 1
        assert final.interval.low is not None
        assert final.interval.high is not None
        assert line["x"] == list(range(2, len(final.seeds) + 1))
        assert line["y"][-1] == scale * final.effect
        assert line["low"][-1] == scale * final.interval.low
        assert line["high"][-1] == scale * final.interval.high
        assert line["star"] == ([len(final.seeds)] if comparison.word != "INCONCLUSIVE" else [])


def planned(found: Sweep, **changes: Any) -> Sweep:
    return dataclasses.replace(found, looks=LOOKS, order=tuple(range(12)), **changes)


@pytest.mark.parametrize("seeds", [4, 7, 9])
@pytest.mark.parametrize("metric", ["eval/fid", "eval/kid"])
def test_the_last_point_is_the_verdict_and_a_star_marks_its_look(seeds: int, metric: str) -> None:
    found = sweep({"a": 0.0, "b": -0.3, "c": 0.0}, seeds=seeds, metric=metric)
    is_the_verdicts_own(found)
    is_the_verdicts_own(planned(found))


def test_so_it_is_with_lost_pairs_and_with_cells_that_were_stopped() -> None:
    found = sweep({"a": 0.0, "b": 0.3, "c": 0.004}, seeds=9)
    for cell, seed in (("b", 2), ("c", 0), ("c", 7)):
        found = ended(found, cell, seed, "diverged")
    is_the_verdicts_own(planned(found))
    assert drawn(planned(found))["b"]["star"] == [5], (
        "decided at 6 seeds, one of them without a number"
    )
    more = sweep({"a": 0.0, "b": -0.3, "c": 0.004, "d": 0.1}, seeds=9)
    stopped = planned(more, stopped={"d": "stopped by halving: it is not among the best"})
    is_the_verdicts_own(stopped)
    assert "d" not in drawn(stopped)
    wide = drawn(stopped)["c"]
    narrow = drawn(planned(sweep({"a": 0.0, "b": -0.3, "c": 0.004}, seeds=9)))["c"]
    assert wide["high"][5] - wide["low"][5] != narrow["high"][5] - narrow["low"][5]


def test_beyond_the_planned_looks_intervals_hold_at_any_time() -> None:
    found = sweep({"a": 0.0, "b": 0.004}, seeds=12, noise=0.05)
    beyond = dataclasses.replace(found, looks=(6,), order=tuple(range(12)))
    is_the_verdicts_own(beyond)
    (comparison,) = judge(beyond).comparisons
    assert comparison.final is not None
    assert comparison.final.interval.method == "anytime"
    ends = anytime_interval(np.log1p(comparison.final.effects[:9])).mapped(np.expm1)
    line = drawn(beyond)["b"]
    assert line["low"][9 - 2] == pytest.approx(100 * float(ends.low or 0.0))
    assert line["high"][9 - 2] == pytest.approx(100 * float(ends.high or 0.0))


def test_a_metric_near_zero_is_drawn_in_its_own_unit() -> None:
    found = sweep({"a": 0.0, "b": -0.3}, seeds=6, metric="eval/kid")
    (comparison,) = judge(found).comparisons
    assert comparison.final is not None
    assert drawn(found)["b"]["y"][-1] == comparison.final.effect
    assert evidence(found, judge(found)).layout.yaxis.ticksuffix == ""


def test_a_huge_difference_does_not_flatten_the_others() -> None:
    found = sweep({"a": 0.0, "b": -0.05, "far": 241.91}, seeds=6)
    figure = evidence(found, judge(found))
    low, high = figure.layout.yaxis.range
    assert -60 < low < -5
    assert 0 < high < 60
    lines = drawn(found)
    assert lines["b"]["name"] == "b"
    assert lines["far"]["name"].startswith("far (off the axis: +24")
    assert figure.layout.xaxis.title.text == "pairs with a number in both"

    alone = sweep({"a": 0.0, "far": 241.91}, seeds=6)
    assert drawn(alone)["far"]["name"] == "far"
    assert evidence(alone, judge(alone)).layout.yaxis.range[1] > 24000

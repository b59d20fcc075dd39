"""Proves: the forest plot has every seed, its zero, margin and ticks where they belong, and says it all in words."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest

from dashboards.charts.forest import forest
from dashboards.verdict.values import Measure
from tests.dashboards.synthetic import ended, judge, sweep

CELLS = {"uniform": 0.0, "under": 0.1, "twin": 0.0}


def finals(**options: object) -> list[Measure]:
    found = sweep(CELLS, seeds=6, **options)  # type: ignore[arg-type]
    return [c.final for c in judge(found).comparisons if c.final is not None]


def test_places_are_even_in_the_logarithm_of_ratios() -> None:
    measures = finals()
    drawn = forest(measures, "FID")
    assert drawn is not None
    assert drawn.margin is not None
    scale = (drawn.margin[1] - drawn.margin[0]) / (math.log(1.02) - math.log(0.98))
    for measure, strip in zip(measures, drawn.strips, strict=True):
        assert strip.mean == pytest.approx(
            drawn.zero + scale * math.log1p(measure.effect), abs=0.01
        )
        expected = [drawn.zero + scale * math.log1p(effect) for effect in measure.effects]
        assert [dot.at for dot in strip.dots] == pytest.approx(expected, abs=0.01)
        assert strip.ends is not None
        assert strip.ends[0] < strip.mean < strip.ends[1]
        assert not any(dot.beyond for dot in strip.dots)


def test_every_seed_is_said() -> None:
    (strip, _) = forest(finals(), "FID").strips  # type: ignore[union-attr]
    assert [dot.text.split(":")[0] for dot in strip.dots] == [f"seed {n}" for n in range(6)]
    assert strip.label.startswith("under: +")
    assert all(dot.text in strip.label for dot in strip.dots)


def test_ticks_are_round_apart_and_include_zero() -> None:
    for effect in (0.001, 0.03, 0.4, 4.0):
        found = sweep({"a": 0.0, "b": effect, "c": -effect / 6}, seeds=4, noise=0.002)
        drawn = forest([c.final for c in judge(found).comparisons if c.final], "FID")
        assert drawn is not None
        places = [at for at, _ in drawn.ticks]
        assert all(0 <= at <= 100 for at in places)
        assert all(b - a >= 16 for a, b in pairwise(places))
        assert (round(drawn.zero, 2), "0") in drawn.ticks


def test_a_cell_far_away_stands_at_the_edge_and_leaves_the_others_their_room() -> None:
    found = sweep({"a": 0.0, "b": 0.05, "far": 40.0}, seeds=6)
    near, far = forest([c.final for c in judge(found).comparisons if c.final], "FID").strips  # type: ignore[union-attr]
    assert all(dot.beyond and dot.at == 100 for dot in far.dots)
    assert not any(dot.beyond for dot in near.dots)
    assert max(dot.at for dot in near.dots) - min(dot.at for dot in near.dots) > 10


def test_better_is_where_it_is() -> None:
    assert forest(finals(), "FID").left == "better"  # type: ignore[union-attr]
    assert forest(finals(metric="eval/recall"), "recall").left == "worse"  # type: ignore[union-attr]
    found = judge(sweep(CELLS, seeds=6, speeds={"under": 1.3}))
    speeds = [c.speed for c in found.comparisons if c.speed is not None]
    drawn = forest(speeds, "speed")
    assert drawn is not None
    assert drawn.right == "better"
    assert "1\N{MULTIPLICATION SIGN}" in dict(drawn.ticks).values()


def test_a_metric_that_is_no_ratio_is_drawn_in_its_own_unit() -> None:
    found = dataclasses.replace(sweep(CELLS, seeds=6, metric="eval/kid"), own_margin=0.5)
    drawn = forest([c.final for c in judge(found).comparisons if c.final], "KID")
    assert drawn is not None
    assert drawn.margin is not None
    assert not any("%" in text for _, text in drawn.ticks)
    assert drawn.margin[1] - drawn.zero == pytest.approx(drawn.zero - drawn.margin[0])


def test_cells_without_a_pair_are_left_out() -> None:
    found = sweep(CELLS)
    for seed in range(3):
        found = ended(found, "under", seed, "diverged", "diverged: nan")
    measures = [c.final for c in judge(found).comparisons if c.final is not None]
    drawn = forest(measures, "FID")
    assert drawn is not None
    assert [strip.cell for strip in drawn.strips] == ["twin"]
    assert forest([m for m in measures if not m.seeds], "FID") is None

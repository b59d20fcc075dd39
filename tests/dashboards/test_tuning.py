"""The best of so many candidates is exact over all orders; charts and page show a search as far as it is."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from dashboards.charts import tuning as charts
from dashboards.charts.style import colours
from dashboards.page import render
from dashboards.tuning import Point, Tuning, best_of_any_order
from tests.dashboards.synthetic import judge, sweep, tuning


def points(values: list[float]) -> tuple[Point, ...]:
    return tuple(Point(n, {"x": "1"}, {"x": 0.5}, v, v) for n, v in enumerate(values))


def test_the_band_is_that_of_all_orders() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0, 7.0]
    band = best_of_any_order(points(values))
    orders = np.array(list(itertools.permutations(values)))
    running = np.minimum.accumulate(orders, axis=1)
    assert band.spent == [1, 2, 3, 4, 5, 6]
    for spent, low, middle, high in zip(*band, strict=True):
        best = running[:, spent - 1]
        for value, share in ((low, 0.1), (middle, 0.5), (high, 0.9)):
            assert np.mean(best <= value) >= share - 1e-12
            assert np.mean(best < value) < share
    assert (band.low[-1], band.high[-1]) == (1.0, 1.0), (
        "all were spent: it is the best that was found"
    )


def test_a_diverged_candidate_is_one_that_was_spent() -> None:
    band = best_of_any_order(points([math.inf, 2.0, math.inf, 1.0]))
    assert band.spent == [3, 4], "before, one order in ten has nothing but diverged ones"
    assert band.high == [2.0, 1.0]
    assert best_of_any_order(points([math.inf])).spent == []


def test_thousands_of_candidates_do_not_overflow() -> None:
    band = best_of_any_order(points([float(v) for v in range(1, 1001)]))
    assert band.middle[0] == 500.0
    assert band.middle[-1] == 1.0
    assert band.high == sorted(band.high, reverse=True)


def test_the_best_so_far_begins_with_the_first_that_works() -> None:
    found = dataclasses.replace(tuning("a"), points=points([math.inf, 3.0, 5.0, 2.0, 2.0]))
    assert found.running_best == [(2, 3.0), (3, 3.0), (4, 2.0), (5, 2.0)]
    assert found.best is found.points[3]
    assert found.at_an_end == []
    edge = dataclasses.replace(found.points[3], place={"x": 0.99})
    assert dataclasses.replace(found, points=(edge,)).at_an_end == ["x"]
    nothing = dataclasses.replace(found, points=points([math.inf]))
    assert (nothing.best, nothing.running_best, nothing.at_an_end) == (None, [], [])


@pytest.mark.parametrize("by", ["tpe", "random"])
def test_the_budget_chart_has_a_dot_for_each_candidate_and_a_band_for_chance_alone(by: str) -> None:
    searches = [tuning("uniform", by), tuning("under", by, spent=17)]
    figure = charts.budget(searches, colours(["uniform", "under"]))
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert [len(trace.x) for trace in dots] == [
        sum(math.isfinite(point.value) for point in found.points) for found in searches
    ]
    assert sum(trace.fill == "toself" for trace in figure.data) == (2 if by == "random" else 0)
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert list(lines["uniform"].y)[-1] == searches[0].best.value  # type: ignore[union-attr]
    assert figure.layout.yaxis.type == "log"


def test_parallel_coordinates_draw_the_best_last_and_bold() -> None:
    found = tuning("uniform")
    figure = charts.settings(found, "#0072B2")
    assert len(figure.data) == sum(math.isfinite(point.value) for point in found.points)
    best = figure.data[-1]
    assert found.best is not None
    assert list(best.y) == [*found.best.place.values(), 1.0]
    assert best.line.width > figure.data[0].line.width
    assert figure.data[0].y[-1] == 0.0, "the worst is at the bottom of the last axis"
    assert list(figure.layout.xaxis.ticktext) == ["optimizer.lr", "ema.decay", "FID"]
    texts = {note.text for note in figure.layout.annotations}
    assert {"0.99", "0.999"} <= texts
    higher = dataclasses.replace(found, lower_is_better=False)
    points = [
        dataclasses.replace(p, score=-p.value) for p in found.points if math.isfinite(p.value)
    ]
    figure = charts.settings(dataclasses.replace(higher, points=tuple(points)), "#0072B2")
    assert figure.data[-1].y[-1] == 1.0
    assert figure.data[0].y[-1] == 0.0


def test_importances_are_a_bar_for_each_search() -> None:
    searches = [tuning("uniform"), tuning("under")]
    figure = charts.importances(searches, colours(["uniform", "under"]))
    assert [list(bar.x) for bar in figure.data] == [[10.0, 90.0]] * 2
    assert list(figure.data[0].y) == ["ema.decay", "optimizer.lr"]


def page(*searches: Tuning) -> str:
    found = dataclasses.replace(sweep(), tuning=searches)
    return render(found, judge(found))


def test_a_page_says_what_was_tuned_and_that_it_is_not_what_is_compared() -> None:
    assert "Tuned before it was compared" in page(tuning("uniform"), tuning("under"))
    html = page(tuning("uniform"), tuning("under", spent=17))
    for words in (
        "Being tuned, to be compared afterwards",
        "40 of 40",
        "17 of 40",
        "best so far",
        "a tree-structured Parzen estimator",
        "trained with seed 999999999",
        "none of these numbers is among them",
        "there is no band",
    ):
        assert words in html, words
    for figure in ("tuning", "tuning_settings_0", "tuning_settings_1", "tuning_importances"):
        assert f'id="figure-{figure}"' in html
        assert f'data-figure="{figure}"' in html
    assert "80&nbsp;% of the orders" not in html
    assert "80 % of the orders" in page(tuning("uniform", "random"))


def test_a_page_of_a_search_that_has_only_begun_has_no_charts_of_it() -> None:
    begun = tuning("uniform", spent=0)
    dead = dataclasses.replace(begun, points=points([math.inf]))
    html = page(begun, dead)
    assert "0 of 40" in html
    assert "1 of 40" in html
    assert "none works yet" in html
    assert "none has ended yet" in html
    assert "Being tuned, to be compared afterwards" in html
    assert "figure-tuning" not in html


def test_one_setting_for_all_cells_is_said_to_be_shared() -> None:
    html = page(dataclasses.replace(tuning("uniform"), cells=("uniform", "under")))
    assert "All cells share one setting" in html
    assert "all cells" in html


def test_a_page_without_a_search_says_nothing_of_it() -> None:
    assert "Tuned before" not in page()

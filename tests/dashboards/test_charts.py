"""Proves: charts show every cell in its one colour, keep unfinished trials out of means, refuse mixed protocols."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from dashboards.charts.comparison import paired_differences, speed_up
from dashboards.charts.curves import convergence, training_loss
from dashboards.charts.passports import passports
from dashboards.charts.style import PALETTE, colours, round_ticks
from dashboards.sweep import Sweep
from dashboards.verdict.comparable import IncomparableError
from tests.dashboards.synthetic import KIMG, ended, judge, sweep

CELLS = {"uniform": 0.0, "under": 0.1, "twin": 0.0}


def test_colours_follow_the_order_of_cells_and_repeat() -> None:
    many = [f"c{i}" for i in range(10)]
    shade = colours(many)
    assert len(shade) == 10
    assert len(set(PALETTE)) == len(PALETTE) == 8
    assert shade["c8"] == shade["c0"]


def test_one_colour_per_cell_in_every_chart() -> None:
    found = sweep(CELLS)
    verdicts = judge(found)
    shade = colours(found.cells)
    for figure in (
        convergence(found),
        speed_up(found, verdicts),
        training_loss(found),
    ):
        named = [trace for trace in figure.data if trace.showlegend is not False]
        assert {t.name for t in named} >= {"under", "twin"}
        assert all(trace.line.color == shade[trace.name] for trace in named)


def test_means_leave_out_unfinished_trials_which_are_still_drawn() -> None:
    found = ended(sweep(), "under", 1, "diverged")
    figure = convergence(found)
    mean = next(t for t in figure.data if t.name == "under")
    curve = found.curve("rung/fid", finished_only=True)
    own = curve[curve["cell"] == "under"].groupby("images")["value"].mean()
    assert list(mean.x) == list(KIMG)
    assert list(mean.y) == pytest.approx(own.tolist())
    dotted = [t for t in figure.data if t.line.dash == "dot"]
    assert [max(t.x) for t in dotted] == [KIMG[2]]


def test_bands_hold_the_mean() -> None:
    figure = convergence(sweep())
    for cell in ("uniform", "under"):
        mean = next(t for t in figure.data if t.name == cell)
        band = next(t for t in figure.data if t.fill == "toself" and t.legendgroup == cell)
        high, low = np.array(band.y[:6]), np.array(band.y[6:][::-1])
        assert (low < np.array(mean.y)).all()
        assert (np.array(mean.y) < high).all()


def test_axis_buttons_offer_log_only_where_there_is_one() -> None:
    def labels(found: Sweep) -> list[str]:
        return [b.label for b in convergence(found).layout.updatemenus[0].buttons]

    found = sweep()
    assert labels(found) == ["log", "linear"]
    shifted = found.curves.assign(value=found.curves["value"] - 30)
    assert labels(dataclasses.replace(found, curves=shifted)) == ["linear"]


@pytest.mark.parametrize(
    ("kimg", "kind"),
    [
        (KIMG, None),
        ([10 * i for i in range(1, 7)], None),
        ([1, 2, 4, 8, 16, 32], "log"),
        ([1, 2.05, 4, 8.1, 16, 20], "log"),
        ([10, 20, 30, 40, 50, 51], None),
    ],
)
def test_doublings_start_with_a_logarithmic_kimg_axis(kimg: list[float], kind: str | None) -> None:
    found = sweep()
    moved = found.curves["kimg"].replace(dict(zip(KIMG, kimg, strict=True)))
    figure = convergence(
        dataclasses.replace(found, curves=found.curves.assign(kimg=moved)), "rung/fid"
    )
    assert figure.layout.xaxis.type == kind


def test_charts_refuse_mixed_protocols() -> None:
    found = sweep()
    mixed = found.curves["protocol"].where(found.curves["seed"] != 1, "p-other")
    with pytest.raises(IncomparableError, match="2 protocols"):
        convergence(dataclasses.replace(found, curves=found.curves.assign(protocol=mixed)))


def test_paired_differences_show_every_seed_zero_and_margin() -> None:
    found = sweep(CELLS)
    verdicts = judge(found)
    figure = paired_differences(found, verdicts)
    dots = [t for t in figure.data if t.marker.symbol is None]
    measures = [m for c in verdicts.comparisons for m in c.measures()]
    assert len(measures) == 8, "two cells, four measures"
    drawn = {tuple(np.round(t.x, 9)) for t in dots}
    assert drawn == {tuple(np.round(np.multiply(100, m.effects), 9)) for m in measures if m.seeds}
    panels = len({m.name for m in measures if m.seeds})
    rectangles = [s for s in figure.layout.shapes if s.type == "rect"]
    lines = [s for s in figure.layout.shapes if s.type == "line"]
    assert [(s.x0, s.x1) for s in rectangles] == [pytest.approx((-2, 2))] * panels
    assert [s.x0 for s in lines] == [0] * panels
    left, right = figure.layout.xaxis.range
    assert left < -2
    assert right > max(max(t.x) for t in dots)


def test_speed_up_is_drawn_over_all_targets_from_easy_to_hard() -> None:
    found = sweep(CELLS)
    verdicts = judge(found)
    figure = speed_up(found, verdicts)
    mean = next(t for t in figure.data if t.name == "under")
    lines = verdicts.comparisons[0].lines
    assert lines is not None
    assert lines.mean is not None
    assert list(mean.x) == list(lines.mean.targets)
    assert list(mean.y) == list(lines.mean.ratios)
    assert figure.layout.xaxis.autorange == "reversed"
    rising = sweep(CELLS, metric="eval/recall")
    upside_down = rising.curves.assign(value=1 / rising.curves["value"])
    rising = dataclasses.replace(rising, curves=upside_down)
    assert speed_up(rising, judge(rising)).layout.xaxis.autorange is None


def test_passports_have_unit_area_and_a_dash_each() -> None:
    x = np.linspace(-10, 10, 201)
    bell = np.exp(-(x**2) / 8)
    curve = {"log_snr": x, "density": bell, "weight": x * 0 + 3, "product": 3 * bell}
    curve |= {"t": np.linspace(0, 1, 201), "schedule": -x}
    drawn = passports({"a": curve, "b": curve})
    assert list(drawn) == ["density", "product", "schedule"]
    for trace in drawn["product"].data:
        assert np.trapezoid(trace.y, trace.x) == pytest.approx(1.0)
    assert [t.line.dash for t in drawn["density"].data] == ["solid", "dash"]


def test_training_loss_says_it_does_not_compare() -> None:
    figure = training_loss(sweep())
    assert "not comparable across cells" in figure.layout.yaxis.title.text
    assert json.loads(figure.to_json())


def test_round_ticks_are_round_and_inside() -> None:
    ticks = round_ticks([4.2, 38.0])["tickvals"]
    assert ticks == pytest.approx([4, 5, 7, 10, 15, 20, 30, 40])
    assert round_ticks([-1.0, 3.0]) == {}

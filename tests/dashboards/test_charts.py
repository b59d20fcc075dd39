"""Proves: charts show every cell in its one colour, keep unfinished trials out of means, refuse mixed protocols."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from dashboards.charts.comparison import speed_up
from dashboards.charts.curves import convergence, training_loss
from dashboards.charts.passports import passports
from dashboards.charts.style import PALETTE, colours, round_ticks
from dashboards.sweep import Sweep
from dashboards.verdict.comparable import IncomparableError
from tests.dashboards.synthetic import KIMG, clocked, ended, judge, sweep

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


def mean_of(figure: Any, cell: str) -> Any:
    """The trace of a cell's mean."""
    means = [t for t in figure.data if (t.meta or {}).get("role") == "mean"]
    return next(t for t in means if t.name == cell)


def test_means_leave_out_unfinished_trials_which_are_still_drawn() -> None:
    found = ended(sweep(), "under", 1, "diverged")
    figure = convergence(found)
    mean = mean_of(figure, "under")
    curve = found.curve("rung/fid", finished_only=True)
    own = curve[curve["cell"] == "under"].groupby("images")["value"].mean()
    assert list(mean.x) == list(KIMG)
    assert list(mean.y) == pytest.approx(own.tolist())
    dotted = [t for t in figure.data if t.line.dash == "dot"]
    assert [max(t.x) for t in dotted] == [KIMG[2]]


def test_a_cell_without_a_finished_trial_is_in_the_legend_all_the_same() -> None:
    found = sweep({"uniform": 0.0, "under": 0.1}, seeds=2)
    for seed in (0, 1):
        found = ended(found, "under", seed, "running")
    named = [t for t in convergence(found).data if t.showlegend is not False]
    assert {t.name: t.line.dash for t in named} == {"uniform": None, "under": "dot"}


def test_bands_hold_the_mean() -> None:
    figure = convergence(sweep())
    for cell in ("uniform", "under"):
        mean = mean_of(figure, cell)
        band = next(t for t in figure.data if t.fill == "toself" and t.legendgroup == cell)
        high, low = np.array(band.y[:6]), np.array(band.y[6:][::-1])
        assert (low < np.array(mean.y)).all()
        assert (np.array(mean.y) < high).all()


def test_y_is_offered_as_a_logarithm_only_where_there_is_one() -> None:
    def kinds(found: Sweep) -> list[str]:
        return [kind["name"] for kind in convergence(found).layout.meta["y"]]

    found = sweep()
    assert kinds(found) == ["log", "linear"]
    shifted = found.curves.assign(value=found.curves["value"] - 30)
    assert kinds(dataclasses.replace(found, curves=shifted)) == ["linear"]


def test_single_seeds_are_one_hidden_trace_of_a_cell_that_says_whose_each_point_is() -> None:
    found = sweep(seeds=4)
    traces = [t for t in convergence(found).data if (t.meta or {}).get("role") == "seeds"]
    assert [t.legendgroup for t in traces] == found.cells
    assert all(t.visible is False for t in traces)
    rows = found.curve("rung/fid")
    for trace in traces:
        own = rows[rows["cell"] == trace.legendgroup]
        points = zip(trace.customdata, trace.x, trace.y, strict=True)
        drawn = [point for point in points if point[1] is not None]
        assert drawn == list(zip(own["seed"], own["kimg"], own["value"], strict=True))
        assert list(trace.x).count(None) == 3, "a gap between two seeds"


def test_x_is_offered_in_what_the_records_of_all_drawn_trials_tell() -> None:
    def ways(found: Sweep) -> list[str]:
        return [way["label"] for way in convergence(found).layout.meta["x"]]

    found = clocked(sweep())
    assert ways(found) == ["kimg", "CPU-seconds", "wall-clock", "FLOPs"]
    assert ways(dataclasses.replace(found, cost_unit="GPU"))[1] == "GPU-seconds"
    assert ways(clocked(sweep(), images_per_s=5.0, flops=None))[1:] == ["CPU-hours", "wall-clock"]
    assert ways(sweep()) == ["kimg"]
    lacking = found.clock[found.clock["trial_key"] != "under-1"]
    assert ways(dataclasses.replace(found, clock=lacking)) == ["kimg", "FLOPs"]
    only = dataclasses.replace(found, flops={"under": 3e7})
    assert "FLOPs" not in ways(only)


def test_device_time_is_training_on_all_devices_and_wall_clock_is_one_with_evaluations() -> None:
    found = dataclasses.replace(clocked(sweep({"a": 0.0}, seeds=2)), devices={"a": 4.0})
    (trace,) = [t for t in convergence(found).data if (t.meta or {}).get("role") == "mean"]
    clock = found.clock.groupby("images")[["train_s", "eval_s"]].mean()
    assert trace.meta["x"]["device"] == pytest.approx(4 * clock["train_s"])
    assert trace.meta["x"]["wall"] == pytest.approx(clock["train_s"] + clock["eval_s"])
    tera = [3e7 * 1000 * kimg / 1e12 for kimg in KIMG]
    assert trace.meta["x"]["flops"] == pytest.approx(tera)


@pytest.mark.parametrize(
    ("kimg", "kind"),
    [
        (KIMG, "linear"),
        ([10 * i for i in range(1, 7)], "linear"),
        ([1, 2, 4, 8, 16, 32], "log"),
        ([1, 2.05, 4, 8.1, 16, 20], "log"),
        ([10, 20, 30, 40, 50, 51], "linear"),
    ],
)
def test_doublings_start_with_a_logarithmic_kimg_axis(kimg: list[float], kind: str) -> None:
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

"""The loss by noise level over seeds and training: means over examples, few columns, colours that can be read."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from dashboards.charts import levels as charts
from dashboards.directories import read_trial
from dashboards.levels import Interval, by_cell
from dashboards.page import levels as page_levels
from dashboards.page import render
from tests.dashboards.synthetic import judge, levels, sweep
from tests.dashboards.test_sweep import planned
from trainer.record import Record
from trainer.report import Report

ROWS = ((-1.25, 10, 0.2, 9.0, None), (0.25, 30, 0.5, 9.0, 4.0))


def test_a_mean_is_over_the_examples_of_all_seeds() -> None:
    other = ((0.25, 10, 0.1, 9.0, 8.0),)
    found = by_cell({("a", 0): [Interval(1.0, ROWS)], ("a", 1): [Interval(1.0, other)]}, ["a"], 9)
    one = found["a"]
    assert one.log_snr == (-1.25, 0.25), "the bins that were drawn are no further apart"
    assert one.edges == (0.0, 1.0)
    assert one.mse[:, 0] == pytest.approx([0.2, (30 * 0.5 + 10 * 0.1) / 40])
    assert one.moment[1, 0] == pytest.approx((30 * 4 + 10 * 8) / 40)
    assert np.isnan(one.moment[0, 0]), "nobody looked"
    assert one.trials == 2


def test_bins_that_nobody_drew_are_blank_and_cells_share_their_axes() -> None:
    far = ((-1.25, 1, 0.2, 1.0, None), (0.25, 1, 0.3, 1.0, None), (0.75, 1, 0.4, 1.0, None))
    found = by_cell(
        {("a", 0): [Interval(1.0, ROWS)], ("b", 0): [Interval(2.0, far)]}, ["a", "b"], 9
    )
    assert found["a"].log_snr == found["b"].log_snr == (-1.25, -0.75, -0.25, 0.25, 0.75)
    assert found["a"].edges == found["b"].edges == (0.0, 1.0, 2.0)
    assert np.isnan(found["b"].mse[:, 0]).all()
    assert np.isfinite(found["b"].mse[:, 1]).tolist() == [True, False, False, True, True]


def test_many_reports_become_few_columns_and_no_example_is_lost() -> None:
    parts = [Interval(float(k), ((0.25, k, 1.0 / k, 0.0, None),)) for k in range(1, 101)]
    one = by_cell({("a", 0): parts}, ["a"], 7)["a"]
    assert len(one.edges) == 8
    assert one.edges[-1] == 100.0
    counts = np.diff([sum(range(int(edge) + 1)) for edge in one.edges])
    sums = np.diff(one.edges)  # k examples of 1/k each
    assert one.mse[0] == pytest.approx(sums / counts)


def test_colours_are_logarithms_on_one_scale_and_a_pointer_reads_the_number() -> None:
    found = sweep({"uniform": 0.0, "under": 0.1})
    cells = by_cell(levels(found), found.cells, 12)
    panels = charts.losses(cells)
    assert list(panels) == ["uniform", "under"]
    ends = {(p.data[0].zmin, p.data[0].zmax) for p in panels.values()}
    assert len(ends) == 1
    trace = panels["under"].data[0]
    assert np.allclose(10 ** np.asarray(trace.z), np.asarray(trace.customdata), rtol=1e-5)
    assert np.allclose(trace.customdata, cells["under"].mse, rtol=1e-5)
    against = charts.differences(cells, "uniform")
    assert list(against) == ["under"]
    seen = np.asarray(against["under"].data[0].customdata)
    middle = [abs(at) < 0.5 for at in cells["under"].log_snr]
    assert np.median(seen[middle]) == pytest.approx(20, abs=4), "made with 20 % more at log-SNR 0"
    assert charts.moments(cells) == {}


def test_extreme_values_do_not_take_the_colours() -> None:
    found = sweep()
    made = levels(found)
    deep = {t: (*p, Interval(99.0, ((-15.75, 5, 1e-9, 1.0, None),))) for t, p in made.items()}
    bar = next(iter(charts.losses(by_cell(deep, found.cells, 20)).values())).data[0]
    assert bar.zmax - bar.zmin == pytest.approx(3.0)
    assert bar.colorbar.ticktext[0].startswith("\N{LESS-THAN OR EQUAL TO} ")


def test_the_page_has_the_panels_and_stays_small() -> None:
    cells = {"base": 0.0} | {f"c{k}": 0.0 for k in range(24)}
    found = sweep(cells, seeds=2)
    every = levels(found, np.linspace(1, 57.6, 50).tolist(), gradients=True)
    drawn = page_levels.figures(dataclasses.replace(found, levels=every))
    assert len(drawn) == 25 + 24 + 25
    assert sum(len(figure.to_json()) for figure in drawn.values()) < 700_000
    few = sweep()
    html = render(dataclasses.replace(few, levels=levels(few)), judge(few))
    assert set(re.findall(r'data-figure="(levels_\w+)"', html)) == {
        *("levels_loss_0", "levels_loss_1", "levels_against_1"),
    }
    assert "weighted by examples" in html
    assert 'id="levels"' not in render(few, judge(few))


def test_a_trials_reports_have_them(tmp_path: Path) -> None:
    record = Record(tmp_path / "key")
    record.add_report(Report(1000, 1.0, {}, levels=list(ROWS)))
    record.add_report(Report(2000, 2.0, {}))
    trial = planned()[0]
    read = read_trial(trial, record.directory, "eval/fid")
    assert read.levels == (Interval(1.0, ROWS),)

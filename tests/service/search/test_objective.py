"""Scores order candidates: by logarithms, by ranks where one is not positive, the worst last, either direction."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from service.search.objective import Objective, reached, scores, shown
from trainer.record import Record
from trainer.report import Failure, Report, Result


def test_one_cell_is_ordered_by_the_mean_of_its_seeds() -> None:
    values = {0: {"a": (1.0, 3.0)}, 1: {"a": (1.5, 1.5)}, 2: {"a": (0.1, math.nan)}}
    lower = scores(values, lower_is_better=True)
    assert lower == pytest.approx({0: math.log(2.0), 1: math.log(1.5), 2: math.inf})
    higher = scores(values, lower_is_better=False)
    assert min(higher, key=lambda n: higher[n]) == 0
    assert higher[2] == math.inf, "what has no number is the worst in either direction"


def test_values_that_are_not_positive_are_ordered_as_they_are() -> None:
    values = {0: {"a": (-1.0,)}, 1: {"a": (2.0,)}, 2: {"a": (0.0,)}}
    assert sorted(values, key=scores(values, lower_is_better=True).__getitem__) == [0, 2, 1]


def test_over_cells_a_rank_mean_takes_the_place_of_logarithms() -> None:
    values = {
        0: {"a": (-1.0,), "b": (100.0,)},
        1: {"a": (0.5,), "b": (1.0,)},
        2: {"a": (0.6,), "b": (2.0,)},
        3: {"a": (math.inf,), "b": (0.1,)},
    }
    assert scores(values, lower_is_better=True) == {0: 2.0, 1: 1.5, 2: 2.5, 3: math.inf}
    assert shown(values[1]) == pytest.approx(math.sqrt(0.5))


def test_all_broken_are_all_the_worst() -> None:
    assert scores({0: {"a": (math.inf,)}}, lower_is_better=True) == {0: math.inf}
    assert scores({}, lower_is_better=True) == {}


def test_what_is_read_of_a_trial(tmp_path: Path) -> None:
    record, end = Record(tmp_path), Objective("eval/fid", None)
    on_the_way = Objective("eval/fid", 1000)
    assert reached(record, end) is None
    record.add_report(Report(640, 1.0, {"rung/fid": 9.0}))
    assert reached(record, on_the_way) is None
    record.add_report(Report(1280, 2.0, {"rung/fid": 7.0}))
    assert reached(record, on_the_way) == 7.0
    assert reached(record, end) is None
    record.write_failure(Failure("broke"))
    assert reached(record, end) == math.inf
    assert reached(record, on_the_way) == 7.0, "it came as far as was wanted"
    record.write_result(Result("finished", None, 2560, {"eval/fid": 5.0}, 0.0, 1.0, 1.0, {}, 10))
    assert reached(record, end) == 5.0
    assert reached(record, on_the_way) == 7.0
    record.write_result(Result("diverged", "nan", 2560, {}, 0.0, 1.0, 1.0, {}, 10))
    assert reached(record, end) == math.inf

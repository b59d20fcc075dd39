"""Proves: trial directories and MLflow's rows become the same tidy sweep, whatever is missing from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboards.rows import CURVE_COLUMNS, TRIAL_COLUMNS
from dashboards.runs import IncomparableError, Sweep
from tests.dashboards.synthetic import ended, sweep
from trainer.report import Report, Result, append_report, write_result
from trainer.spec import Spec


class Tiny(Spec):
    """Stands for a TrialSpec."""

    width: int
    seed: int


@dataclass(frozen=True)
class Plan:
    cell: str
    seed: int
    spec: Spec
    key: str


def planned() -> list[Plan]:
    return [
        Plan(cell, seed, Tiny(width=width, seed=seed), f"{cell}{seed}")
        for cell, width in (("wide", 8), ("slim", 2))
        for seed in (0, 1)
    ]


def written(home: Path) -> Path:
    """wide0 finished, wide1 diverged, slim0 is running, slim1 has not begun."""
    for key in ("wide0", "wide1", "slim0"):
        (home / key / "samples").mkdir(parents=True)
        (home / key / "samples" / "1000.png").write_bytes(b"png")
        early = Report(
            1000,
            time_s=1.0,
            metrics={"rung/fid": 30.0, "train/loss": 0.5},
            series=[(500, {"train/loss": 0.9}), (1000, {"train/loss": 0.5})],
            sample_png="samples/1000.png",
        )
        append_report(home / key, early)
    late = Report(
        2000, 2.0, {"rung/fid": 9.0, "eval/fid": 6.0}, sample_png="samples/2000.png", done=True
    )
    append_report(home / "wide0", late)
    ids = {"eval": "full-id", "rung": "rung-id"}
    write_result(
        home / "wide0",
        Result("finished", None, 2000, late.metrics, 0.0, 10.0, 2.0, ids, parameters=7),
    )
    reason = "diverged: loss is nan at 1.5 kimg"
    lost = {"rung/fid": 30.0}
    write_result(
        home / "wide1", Result("diverged", reason, 1500, lost, 0.0, 5.0, 1.0, ids, parameters=7)
    )
    return home


def test_directories_become_a_sweep(tmp_path: Path) -> None:
    found = Sweep.from_directories("demo", planned(), written(tmp_path), baseline="wide")
    assert found.cells == ["wide", "slim"]
    assert found.seeds == [0, 1]
    assert list(found.trials.columns[: len(TRIAL_COLUMNS)]) == list(TRIAL_COLUMNS)
    assert list(found.curves.columns) == list(CURVE_COLUMNS)
    trials = found.trials.set_index("trial_key")
    assert trials["status"].to_dict() == {
        "wide0": "finished",
        "wide1": "diverged",
        "slim0": "running",
        "slim1": "missing",
    }
    assert trials.loc["wide0", "eval/fid"] == 6.0
    assert trials.loc["wide0", "seconds"] == 12.0
    assert trials.loc["wide1", "reason"] == "diverged: loss is nan at 1.5 kimg"
    assert trials.loc["wide1", ["eval/fid", "rung/fid"]].isna().all()
    assert trials.loc["wide1", "kimg"] == 1.5
    assert found.final_metrics == ["rung/fid", "eval/fid"]
    assert found.specs["slim"] == {"width": 2}


def test_curves_hold_every_number_once_under_its_protocol(tmp_path: Path) -> None:
    found = Sweep.from_directories("demo", planned(), written(tmp_path))
    loss = found.curve("train/loss")
    assert len(loss[loss["trial_key"] == "wide0"]) == 2  # 1000 stands in series and in metrics
    rung = found.curve("rung/fid")
    assert rung["trial_key"].tolist() == ["wide0", "wide0", "wide1", "slim0"]
    assert rung["kimg"].tolist() == [1.0, 2.0, 1.0, 1.0]
    assert set(rung["protocol"].dropna()) == {"rung-id"}
    assert found.curve("rung/fid", finished_only=True)["value"].tolist() == [30.0, 9.0]
    assert found.curve_metric == "rung/fid"
    assert found.protocol("eval/fid") == "full-id"
    assert found.protocol("rung/fid") == "rung-id"
    assert found.protocol("train/loss") is None


def test_the_last_grid_that_is_there_is_the_sample(tmp_path: Path) -> None:
    found = Sweep.from_directories("demo", planned(), written(tmp_path))
    assert found.samples["wide", 0] == tmp_path / "wide0" / "samples" / "1000.png"
    assert ("slim", 1) not in found.samples


def test_failures_are_told_by_who_ran_it(tmp_path: Path) -> None:
    failures = {"slim0": "CUDA out of memory", "slim1": "no node has a GPU"}
    found = Sweep.from_directories("demo", planned(), written(tmp_path), failures=failures)
    trials = found.trials.set_index("trial_key")
    assert trials.loc["slim0", "status"] == trials.loc["slim1", "status"] == "failed"
    assert trials.loc["slim1", "reason"] == "no node has a GPU"
    assert trials.loc["wide0", "status"] == "finished"


def test_rows_of_the_server_become_the_same_sweep(tmp_path: Path) -> None:
    local = Sweep.from_directories("demo", planned(), written(tmp_path))
    rows = []
    for row in local.trials.astype(object).to_dict("records"):
        if row["status"] != "missing":
            metrics = {m: row.pop(m) for m in ("rung/fid", "eval/fid")} | {"train/loss": 0.5}
            rows.append(row | {"metrics": metrics, "spec_digest": "00"})
    points = [{str(k): v for k, v in row.items()} for row in local.curves.to_dict("records")]
    remote = Sweep.from_rows("demo", rows[::-1], points, planned=planned())
    assert remote.cells == local.cells
    columns = ["cell", "seed", "status", "eval/fid"]
    ours, theirs = (
        s.trials.sort_values(["cell", "seed"])[columns].reset_index(drop=True)
        for s in (local, remote)
    )
    assert ours.equals(theirs)
    assert remote.final_metrics == ["rung/fid", "eval/fid"]
    assert len(remote.curves) == len(local.curves)
    without_plan = Sweep.from_rows("demo", rows, points)
    assert without_plan.cells == ["wide", "slim"]
    assert len(without_plan.trials) == 3


def test_mixed_protocols_are_named() -> None:
    found = sweep()
    odd = found.curves["protocol"].where(found.curves["cell"] != "under", "p-new")
    mixed = dataclasses.replace(found, curves=found.curves.assign(protocol=odd))
    with pytest.raises(IncomparableError, match=r"p-rung in `uniform`, `under`; p-new in `under`"):
        mixed.protocol("rung/fid")
    assert mixed.protocol("rung/fid", cells=["uniform"]) == "p-rung"


def test_merging_keeps_the_more_complete_trial() -> None:
    whole, broken = sweep(), ended(sweep(), "under", 1, "running")
    for one, other in ((whole, broken), (broken, whole)):
        merged = one.merged(other)
        assert (merged.trials["status"] == "finished").all()
        assert len(merged.trials) == 6
        assert len(merged.curve("rung/fid")) == 36


def test_merging_adds_cells_and_refuses_two_meanings_of_a_name() -> None:
    one, other = sweep({"uniform": 0.0, "under": 0.1}), sweep({"uniform": 0.0, "edm": 0.1})
    assert one.merged(other).cells == ["uniform", "under", "edm"]
    changed = dataclasses.replace(other, specs=other.specs | {"uniform": {"train": {"kimg": 1}}})
    with pytest.raises(IncomparableError, match="mean different trials by uniform"):
        one.merged(changed)


def test_fewer_cells() -> None:
    found = sweep({"a": 0.0, "b": 0.1, "c": 0.2}).only(["c", "a"])
    assert found.cells == ["a", "c"]
    assert found.baseline == "a"
    assert set(found.trials["cell"]) == set(found.curves["cell"]) == {"a", "c"}

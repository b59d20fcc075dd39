"""Proves: trial directories and MLflow's rows become the same tidy sweep, whatever is missing from them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pytest

from dashboards.sweep import Sweep
from dashboards.tables import (
    CURVE_COLUMNS,
    TRIAL_COLUMNS,
    curve_table,
    final_metrics,
    trial_table,
)
from dashboards.verdict.comparable import IncomparableError
from service.tracking.outbox import report_points
from tests.dashboards.synthetic import sweep
from trainer.record import Record
from trainer.report import Failure, Report, Result, measured
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
    """wide0 finished, wide1 diverged, slim0 has begun, slim1 has not."""
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
        Record(home / key).add_report(early)
    late = Report(
        2000, 2.0, {"rung/fid": 9.0, "eval/fid": 6.0}, sample_png="samples/2000.png", done=True
    )
    Record(home / "wide0").add_report(late)
    ids = {"eval/fid": "full-id", "rung/fid": "rung-id"}
    Record(home / "wide0").write_result(
        Result("finished", None, 2000, late.metrics, 0.0, 10.0, 2.0, ids, parameters=7)
    )
    reason = "diverged: loss is nan at 1.5 kimg"
    lost = {"rung/fid": 30.0}
    Record(home / "wide1").write_result(
        Result("diverged", reason, 1500, lost, 0.0, 5.0, 1.0, ids, parameters=7)
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
        "slim0": "stopped",
        "slim1": "waiting",
    }
    assert trials.loc["wide0", "eval/fid"] == 6.0
    assert trials.loc["wide0", "seconds"] == 12.0
    assert trials.loc["wide1", "reason"] == "diverged: loss is nan at 1.5 kimg"
    assert trials.loc["wide1", ["eval/fid", "rung/fid"]].isna().all()
    assert trials.loc["wide1", "kimg"] == 1.5
    assert found.final_metrics == ["rung/fid", "eval/fid"]
    assert found.specs["slim"] == {"width": 2}


def test_time_is_that_of_training_and_evaluation_without_pauses(tmp_path: Path) -> None:
    """Speeds and evaluations of the reports count; when a report was written, a week later perhaps, does not."""
    week = 7 * 24 * 3600.0
    for place, (images, speed) in enumerate(((1000, 100.0), (2000, 50.0))):
        metrics = {"rung/fid": 9.0, "sys/img_per_s": speed, "sys/eval_s": 3.0}
        Record(tmp_path / "wide0").add_report(Report(images, week * place, metrics))
    Record(tmp_path / "wide1").add_report(Report(1000, 0.0, {"rung/fid": 9.0}))
    last = {"eval/fid": 9.0}
    Record(tmp_path / "wide0").write_result(
        Result("finished", None, 2000, last, 0.0, 30.0, 6.0, {}, 7, flops_per_image=5e6)
    )
    found = Sweep.from_directories("demo", planned(), tmp_path)
    assert set(found.clock["trial_key"]) == {"wide0"}, "the other does not tell"
    assert found.clock["train_s"].tolist() == [10.0, 30.0]
    assert found.clock["eval_s"].tolist() == [3.0, 6.0]
    assert found.flops == {"wide": 5e6}


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


def test_the_grids_that_are_there_are_the_samples(tmp_path: Path) -> None:
    found = Sweep.from_directories("demo", planned(), written(tmp_path))
    assert found.samples["wide", 0] == ((1.0, tmp_path / "wide0" / "samples" / "1000.png"),)
    assert ("slim", 1) not in found.samples


def test_failures_are_in_the_record(tmp_path: Path) -> None:
    home = written(tmp_path)
    Record(home / "slim0").write_failure(Failure("CUDA out of memory"))
    Record(home / "slim1").write_failure(Failure("no node has a GPU"))
    Record(home / "wide0").write_failure(Failure("broke once, then finished"))
    found = Sweep.from_directories("demo", planned(), home)
    trials = found.trials.set_index("trial_key")
    assert trials.loc["slim0", "status"] == trials.loc["slim1", "status"] == "failed"
    assert trials.loc["slim0", "reason"] == "CUDA out of memory"
    assert trials.loc["slim1", "reason"] == "no node has a GPU"
    assert trials.loc["wide0", "status"] == "finished"
    assert not isinstance(trials.loc["wide0", "reason"], str)


def test_rows_of_the_server_become_the_same_table(tmp_path: Path) -> None:
    local = Sweep.from_directories("demo", planned(), written(tmp_path)).trials
    rows = []
    for row in local.astype(object).to_dict("records"):
        if row["status"] == "stopped":
            metrics = {"rung/fid": 30.0}  # the last number of a trial that has not ended
        else:
            metrics = {m: row.pop(m) for m in ("rung/fid", "eval/fid")}
        rows.append(row | {"metrics": metrics | {"train/loss": 0.5}, "spec_digest": "00"})
    remote = trial_table(rows)
    assert list(remote.columns) == list(local.columns)
    assert remote.equals(local)


def test_protocols_are_of_each_metric(tmp_path: Path) -> None:
    metrics = {"eval/fid": 6.0, "eval/kid": 0.1, "rung/kid": 0.2}
    ids = {"eval/fid": "of-fid", "eval/kid": "of-kid", "rung/kid": "cheap-kid"}
    record = Record(tmp_path / "wide0")
    record.add_report(Report(2000, 2.0, metrics, done=True, protocol=ids))
    record.write_result(Result("finished", None, 2000, metrics, 0.0, 10.0, 2.0, ids, parameters=7))
    found = Sweep.from_directories("demo", planned()[:1], tmp_path, metric="eval/kid")
    assert found.trials["protocol"].tolist() == ["of-kid"]
    assert found.trials["protocol_rung"].tolist() == ["cheap-kid"]
    assert found.protocol("eval/fid") == "of-fid"
    assert found.evidence.trials[0].protocols["rung/kid"] == ("cheap-kid",)


def test_evidence_is_the_tables_in_plain_values(tmp_path: Path) -> None:
    found = Sweep.from_directories("demo", planned(), written(tmp_path), baseline="wide")
    evidence = found.evidence
    assert (evidence.cells, evidence.baseline, evidence.curve_metric) == (
        ("wide", "slim"),
        "wide",
        "rung/fid",
    )
    wide0, slim0, wide1, slim1 = (
        next(t for t in evidence.trials if (t.cell, t.seed) == place)
        for place in (("wide", 0), ("slim", 0), ("wide", 1), ("slim", 1))
    )
    assert wide0.finals == {"rung/fid": 9.0, "eval/fid": 6.0}
    assert (wide0.images, wide0.seconds) == (2000, 12.0)
    assert wide0.curves["rung/fid"].value.tolist() == [30.0, 9.0]
    assert "train/loss" not in wide0.curves
    assert (wide1.status, wide1.finals) == ("diverged", {})
    assert wide1.reason == "diverged: loss is nan at 1.5 kimg"
    assert (slim0.status, slim0.seconds) == ("stopped", None)
    assert (slim1.status, slim1.images, slim1.curves) == ("waiting", None, {})


def test_draws_reach_the_evidence_and_are_columns_of_no_table(tmp_path: Path) -> None:
    """From directories; and rows of the server, which have them as metrics of their own name."""
    values = {"eval/fid": [5.0, 7.0, 9.0]}
    metrics, ids = {"eval/fid": 7.0, "rung/fid": 9.0}, {"eval/fid": "id", "rung/fid": "cheap"}
    record = Record(tmp_path / "wide0")
    report = Report(2000, 2.0, metrics, done=True, protocol=ids, draws=values)
    record.add_report(report)
    record.write_result(
        Result("finished", None, 2000, metrics, 0.0, 10.0, 2.0, ids, parameters=7, draws=values)
    )
    found = Sweep.from_directories("demo", planned()[:2], written_before(tmp_path))
    assert found.final_metrics == ["eval/fid", "rung/fid"]
    assert set(found.curves["metric"]) == {"eval/fid", "rung/fid"}
    several, one = found.evidence.trials
    assert several.draws == {"eval/fid": (5.0, 7.0, 9.0), "rung/fid": (9.0,)}
    assert several.finals["eval/fid"] == 7.0
    assert one.draws == {"eval/fid": (4.0,)}, "what an earlier version wrote had one"

    points = {name: value for name, _, _, value in report_points(report)}
    assert {"draws/fid.0": 5.0, "draws/fid.1": 7.0, "draws/fid.2": 9.0}.items() <= points.items()
    same = {"cell": "wide", "seed": 0, "trial_key": "wide0", "protocol": "id"}
    remote = trial_table([same | {"status": "finished", "metrics": points}])
    assert final_metrics(remote) == ["eval/fid", "rung/fid"]
    drawn = [
        same | {"metric": name, "images": 2000, "kimg": 2.0, "value": value}
        for name, value in points.items()
    ]
    assert set(curve_table(drawn)["metric"]) == {"eval/fid", "rung/fid"}


def written_before(home: Path) -> Path:
    """wide1, finished by a version that knew of no draws."""
    (home / "wide1").mkdir(parents=True)
    result = Result("finished", None, 2000, {"eval/fid": 4.0}, 0.0, 10.0, 2.0, {}, parameters=7)
    old = asdict(result)
    del old["draws"]
    (home / "wide1" / "result.json").write_text(json.dumps(old))
    return home


def test_what_is_judged_needs_no_reports_of_trials_that_are_over(tmp_path: Path) -> None:
    """The result has the curves; one that lacks them, and a trial on its way, are read from their reports."""
    home = written(tmp_path)
    whole = Sweep.from_directories("demo", planned(), home, baseline="wide")
    record = Record(home / "wide0")
    result = record.result()
    assert result is not None
    assert result.curves == {}
    record.write_result(
        dataclasses.replace(result, curves=measured(record.reports(), result.protocol))
    )
    (home / "wide0" / "reports.jsonl").unlink()
    found = Sweep.from_directories("demo", planned(), home, baseline="wide", whole=False)
    pd.testing.assert_frame_equal(found.trials, whole.trials)
    assert set(found.curves["metric"]) == {"rung/fid", "eval/fid"}
    assert repr(found.evidence) == repr(whole.evidence)
    assert (found.samples, found.levels, len(found.clock)) == ({}, {}, 0)
    assert set(whole.samples) > set(found.samples)


@pytest.mark.parametrize("whole", [True, False])
def test_a_sweep_of_which_nothing_has_begun_has_evidence(tmp_path: Path, whole: bool) -> None:
    found = Sweep.from_directories("demo", planned(), tmp_path, baseline="wide", whole=whole)
    assert found.curves.dtypes.equals(curve_table(()).dtypes)
    assert [trial.curves for trial in found.evidence.trials] == [{}] * 4


def test_mixed_protocols_are_named() -> None:
    found = sweep()
    odd = found.curves["protocol"].where(found.curves["cell"] != "under", "p-new")
    mixed = dataclasses.replace(found, curves=found.curves.assign(protocol=odd))
    with pytest.raises(IncomparableError, match=r"p-rung in `uniform`, `under`; p-new in `under`"):
        mixed.protocol("rung/fid")
    assert mixed.protocol("rung/fid", cells=["uniform"]) == "p-rung"

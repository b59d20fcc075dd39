"""The outbox: each thing once, the first stored value wins, and kill -9 loses nothing that was stored."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.tracking.outbox import Outbox
from service.tracking.rows import Item, RunHeader, StoredRun, report_points
from tests.service.sweeps import ROOT
from trainer.files import FileLock, HeldError
from trainer.report import Report, Status

TRIAL = RunHeader(
    "trial:1", "trial", "a seed 0", parent="cell:1", params={"lr": "1"}, tags={"seed": "0"}
)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    box = Outbox(tmp_path / "experiments" / "x" / "outbox.db")
    box.open_run(TRIAL, 1000)
    return box


def deliver(outbox: Outbox) -> list[Item]:
    """What an uploader would send in one round, marked as delivered."""
    sent = []
    for run in outbox.runs(waiting=True):
        outbox.identified(run.header.key, f"id of {run.header.key}")
        outbox.header_delivered(run)
        for kind in ("metric", "image", "file"):
            items = outbox.waiting(run.header.key, kind, 100)  # type: ignore[arg-type]
            outbox.delivered(items)
            sent += items
        outbox.status_delivered(run.header.key, run.status)
    return sent


def the_run(outbox: Outbox) -> StoredRun:
    (run,) = outbox.runs()
    return run


def test_first_stored_value_and_time_win(outbox: Outbox) -> None:
    outbox.metrics("trial:1", [("eval/fid", 100, 5, 2.0)])
    outbox.metrics("trial:1", [("eval/fid", 100, 6, 3.0), ("eval/fid", 200, 6, 1.0)])
    assert outbox.points("trial:1") == [("eval/fid", 100, 5, 2.0), ("eval/fid", 200, 6, 1.0)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.floats()), max_size=30))
@settings(max_examples=25, deadline=None)
def test_pouring_in_again_in_any_order_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, points: list[tuple[str, int, float]]
) -> None:
    box = Outbox(tmp_path_factory.mktemp("box") / "outbox.db")
    box.open_run(TRIAL, 0)
    rows = [(name, step, 7, value) for name, step, value in points]
    box.metrics("trial:1", rows)
    before = [(k, s) for k, s, _, _ in box.points("trial:1")]
    assert len(before) == len({(name, step) for name, step, _ in points})
    box.metrics("trial:1", reversed(rows))
    assert [(k, s) for k, s, _, _ in box.points("trial:1")] == before
    assert len(deliver(box)) == len(before)
    assert deliver(box) == []
    assert box.pending() == 0


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_kept_as_nan(outbox: Outbox, value: float) -> None:
    outbox.metrics("trial:1", [("train/loss", 1, 5, value)])
    (point,) = outbox.points("trial:1")
    assert math.isnan(point[3])
    assert outbox.waiting("trial:1", "metric", 9)[0].number is None


def test_a_report_becomes_points_at_its_images_and_no_kimg() -> None:
    metrics = {"eval/fid": 3.0, "sys/eval_s": 2.0, "sys/img_per_s": 9.0}
    report = Report(2000, 1.5, metrics, [(1000, {"train/loss": 0.5})], None)
    assert sorted(report_points(report)) == [
        ("eval/fid", 2000, 1500, 3.0),
        ("system/evaluation_s", 2000, 1500, 2.0),
        ("system/img_per_s", 2000, 1500, 9.0),
        ("train/loss", 1000, 1500, 0.5),
    ]


def test_live_and_reread_reports_are_the_same(outbox: Outbox) -> None:
    report = Report(2000, 1.5, {"eval/fid": 3.0}, [(1000, {"train/loss": 0.5})], None)
    outbox.ingest("trial:1", report, b"png")
    known = outbox.points("trial:1")
    assert len(known) == 2
    outbox.ingest("trial:1", Report.from_json(report.to_json()), b"other")
    assert outbox.points("trial:1") == known
    first, image = outbox.waiting("trial:1", "image", 9)
    assert (image.key, image.step, image.time_ms, image.body) == ("samples", 2000, 1500, b"png")
    assert (first.key, first.step, first.body) == ("samples", 0, b"png"), "the slider begins there"
    outbox.ingest("trial:1", Report(4000, 2.5, {"eval/fid": 2.0}), b"later")
    steps = [(item.step, item.body) for item in outbox.waiting("trial:1", "image", 9)]
    assert steps == [(0, b"png"), (2000, b"png"), (4000, b"later")]


def test_a_table_of_losses_by_noise_level_is_an_artifact_of_its_report(outbox: Outbox) -> None:
    report = Report(2000, 1.5, {}, levels=[(-0.25, 3, 0.5, 1.0, None), (0.25, 1, 0.25, 0.125, 9.5)])
    outbox.ingest("trial:1", report)
    outbox.ingest("trial:1", Report.from_json(report.to_json()))
    (table,) = outbox.waiting("trial:1", "file", 9)
    assert table.key == "loss_by_noise_level/000000002000.csv"
    assert table.body == (
        b"log_snr,examples,epsilon_mse,loss,gradient_second_moment\n-0.25,3,0.5,1.0,\n0.25,1,0.25,0.125,9.5\n"
    )


def test_new_content_of_a_file_is_sent_again_and_equal_content_is_not(outbox: Outbox) -> None:
    outbox.file("trial:1", "report.html", b"one", 1)
    assert [item.body for item in deliver(outbox)] == [b"one"]
    outbox.file("trial:1", "report.html", b"one", 2)
    assert deliver(outbox) == []
    outbox.file("trial:1", "report.html", b"two", 3)
    assert [item.body for item in deliver(outbox)] == [b"two"]


def test_a_file_that_changes_while_it_is_sent_still_waits(outbox: Outbox) -> None:
    outbox.file("trial:1", "report.html", b"one", 1)
    sending = outbox.waiting("trial:1", "file", 1)
    outbox.file("trial:1", "report.html", b"two", 2)
    outbox.delivered(sending)
    assert [item.body for item in outbox.waiting("trial:1", "file", 1)] == [b"two"]


def test_a_param_and_the_start_stay_while_tags_and_place_may_change(outbox: Outbox) -> None:
    deliver(outbox)
    again = RunHeader(
        "trial:1",
        "trial",
        "b seed 0",
        parent="cell:2",
        params={"lr": "2", "kind": "b"},
        tags={"cell": "b"},
    )
    outbox.open_run(again, 9999)
    run = the_run(outbox)
    assert (run.header.params, run.started_ms) == ({"lr": "1", "kind": "b"}, 1000)
    assert run.header.tags == {"seed": "0", "cell": "b"}
    assert (run.header.name, run.header.parent, run.header_sent) == ("b seed 0", "cell:2", False)
    assert run.run_id == "id of trial:1"
    deliver(outbox)
    outbox.open_run(again, 9999)
    outbox.tag("trial:1", {"cell": "b"})
    assert outbox.pending() == 0


def test_a_tag_that_changes_while_it_is_sent_is_sent_again(outbox: Outbox) -> None:
    sending = the_run(outbox)
    outbox.tag("trial:1", {"reason": "new"})
    outbox.identified(sending.header.key, "id")
    outbox.header_delivered(sending)
    assert not the_run(outbox).header_sent
    assert the_run(outbox).run_id == "id"


def test_another_destination_gets_everything_and_the_same_one_nothing(outbox: Outbox) -> None:
    outbox.metrics("trial:1", [("eval/fid", 1, 5, 2.0)])
    outbox.addressed_to("here")
    deliver(outbox)
    outbox.addressed_to("here")
    assert outbox.pending() == 0
    outbox.addressed_to("there")
    assert the_run(outbox).run_id is None
    assert [item.time_ms for item in deliver(outbox)] == [5], "the stored time travels again"


def test_parents_come_before_their_children(outbox: Outbox) -> None:
    outbox.open_run(RunHeader("cell:1", "cell", "a", parent="sweep:x"), 1)
    outbox.open_run(RunHeader("sweep:x", "sweep", "x"), 1)
    assert [run.header.kind for run in outbox.runs()] == ["sweep", "cell", "trial"]


def test_threads_write_and_read_together(outbox: Outbox) -> None:
    sent: list[Item] = []

    def write(name: str) -> None:
        for step in range(50):
            outbox.metrics("trial:1", [(name, step, step, 1.0)])

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        sent += deliver(outbox)
    sent += deliver(outbox)
    assert len(sent) == len({(item.key, item.step) for item in sent}) == 200


def test_an_outbox_of_former_days_tells_the_same_under_todays_names(tmp_path: Path) -> None:
    """What was delivered stays so, and `kimg` is nothing that another server should hear of."""
    path, names = tmp_path / "outbox.db", ("kimg", "sys/eval_s", "sys/img_per_s", "sys/seconds")
    outbox = Outbox(path)
    for key in ("trial:1", "trial:2"):
        outbox.open_run(RunHeader(key, "trial", "a"), 7)
    outbox.metrics("trial:1", [(name, 1000, 5, 1.0) for name in (*names, "sys/eval_seconds")])
    deliver(outbox)
    outbox.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE run SET status='scheduled', status_sent='scheduled'")
        db.execute("UPDATE run SET run_id=NULL WHERE key='trial:2'")
        db.execute("PRAGMA user_version=0")

    for _ in range(2):
        outbox = Outbox(path)
        one, two = outbox.runs()
        assert (one.status, one.status_sent, one.started_ms) == ("waiting", "waiting", 7)
        assert two.started_ms < 0, "it waits, and MLflow has not heard of it"
        assert [name for name, *_ in outbox.points("trial:1")] == [
            "system/evaluation_s",
            "system/img_per_s",
            "system/total_evaluation_s",
            "system/total_training_s",
        ]
        report = Report(1000, 0.005, {"sys/eval_s": 1.0, "sys/img_per_s": 1.0})
        known = outbox.points("trial:1")
        outbox.ingest("trial:1", report)
        assert outbox.points("trial:1") == known
        assert outbox.pending() == 0
        outbox.close()


def test_a_run_is_told_of_once_it_has_begun(outbox: Outbox) -> None:
    deliver(outbox)
    outbox.open_run(RunHeader("trial:2", "trial", "b"))
    outbox.metrics("trial:2", [("a", 1, 1, 1.0)])
    outbox.status("trial:2", Status.STOPPED, 50)
    assert (outbox.pending(), deliver(outbox)) == (0, [])
    for time_ms in (900, 500, 700):
        outbox.begin("trial:2", time_ms)
    outbox.begin("trial:1", 1)
    outbox.status("trial:2", Status.RUNNING)
    one, two = outbox.runs()
    assert (two.started_ms, two.status) == (500, Status.RUNNING), "the earliest that is known"
    assert one.started_ms == 1000, "MLflow takes no other start for a run that it has"
    assert [item.key for item in deliver(outbox)] == ["a"]


def test_of_a_verdict_the_last_number_counts(outbox: Outbox) -> None:
    outbox.metrics("trial:1", [("verdict/p", 6, 5, 0.5)], newest=True)
    assert len(deliver(outbox)) == 1
    outbox.metrics("trial:1", [("verdict/p", 6, 9, 0.5)], newest=True)
    assert deliver(outbox) == []
    outbox.metrics("trial:1", [("verdict/p", 6, 9, 0.25)], newest=True)
    assert [(item.step, item.time_ms, item.number) for item in deliver(outbox)] == [(6, 9, 0.25)]


def test_what_was_stored_before_kill_9_is_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from service.tracking.outbox import Outbox
from service.tracking.rows import RunHeader
box = Outbox(Path({str(path)!r}))
box.open_run(RunHeader("trial:1", "trial", "a"), 0)
for step in range(10**6):
    box.metrics("trial:1", [("a", step, step, 1.0), ("b", step, step, 2.0)])
    print(step, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split("\n")[:-1]
    process.wait()
    points = Outbox(path).points("trial:1")
    steps = {name: {s for n, s, _, _ in points if n == name} for name in "ab"}
    assert steps["a"] == steps["b"], "a report is stored whole or not at all"
    assert steps["a"] >= {*told, *map(int, rest)}


def test_a_lock_is_exclusive_says_who_holds_it_and_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from trainer.files import FileLock
with FileLock(Path({str(path)!r})):
    print("held", flush=True); sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(HeldError, match=f"process {process.pid} on"), FileLock(path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with FileLock(path, wait_s=5.0), pytest.raises(HeldError), FileLock(path):
        pass


def test_a_thread_that_is_late_finds_nothing_and_takes_it_for_no_damage(outbox: Outbox) -> None:
    """MLflow may still be on its way in a thread when a run ends: its file stays what it is."""
    outbox.metrics("trial:1", [("eval/fid", 100, 5, 2.0)])
    outbox.close()
    assert outbox.runs() == []
    outbox.metrics("trial:1", [("eval/fid", 200, 6, 1.0)])
    assert not outbox.storage.is_lost
    again = Outbox(outbox.path)
    assert not list(outbox.path.parent.glob("*.damaged-*"))
    assert again.points("trial:1") == [("eval/fid", 100, 5, 2.0)]
    again.close()

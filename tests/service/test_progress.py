"""Events become plain lines in a log and a table on a terminal; both tell the same story."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from service.board import Board
from service.live_table import LiveTable, renderer
from service.plain_totals import PlainTotals
from service.progress import (
    Event,
    PlainLines,
    SweepEvidence,
    SweepNote,
    TrialFailed,
    TrialFinished,
    TrialReported,
    TrialStarted,
    describe,
)

METRICS = ("eval/fid", "rung/fid")
STORY: list[Event] = [
    TrialFinished("base", 0, "k0", {"eval/fid": 3.0}, 9.0, reused=True),
    TrialStarted("under", 1, "k1", total_kimg=57.6),
    TrialStarted("uniform", 1, "k2", total_kimg=57.6, start_kimg=28.8),
    TrialReported("under", 1, "k1", 9.6, 57.6, {"rung/fid": 21.123456, "train/loss": 0.3}),
    TrialReported("under", 1, "k1", 57.6, 57.6, {"rung/fid": 5.0, "eval/fid": 4.17}),
    TrialFinished("under", 1, "k1", {"rung/fid": 5.0, "eval/fid": 4.17}, 18.4),
    TrialFailed("uniform", 1, "k2", "diverged: the loss is nan at 38.4 kimg"),
    SweepEvidence({"under": "3 of 6 pairs", "uniform": "WORSE at 6 seeds"}),
    SweepNote("MLflow does not answer: training goes on"),
]
TRIALS = [("base", 0, "k0"), ("under", 1, "k1"), ("uniform", 1, "k2"), ("idle [b]", 2, "k3")]


def table(events: list[Event], height: int = 40, everything: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, height=height, force_terminal=False)
    live = LiveTable(Board(TRIALS, METRICS, clock=lambda: 0.0), console)
    for event in events:
        live(event)
    console.print(live.table(everything))
    return out.getvalue()


def test_plain_lines() -> None:
    out = io.StringIO()

    with PlainLines(METRICS, out, clock=lambda: 0.0) as show:
        for event in STORY:
            show(event)

    lines = [line[10:] for line in out.getvalue().splitlines()]
    assert lines == [
        "base seed 0: already finished  eval/fid 3",
        "under seed 1: starts (57.6 kimg)",
        "uniform seed 1: continues at 28.8 of 57.6 kimg",
        "under seed 1: 9.6 of 57.6 kimg  rung/fid 21.12",
        "under seed 1: 57.6 of 57.6 kimg  eval/fid 4.17",
        "under seed 1: finished in 18 s  eval/fid 4.17",
        "uniform seed 1: FAILED: diverged: the loss is nan at 38.4 kimg",
        "under: 3 of 6 pairs; uniform: WORSE at 6 seeds",
        "MLflow does not answer: training goes on",
    ]
    assert all(line[2] == line[5] == ":" for line in out.getvalue().splitlines())


def test_a_line_is_not_said_twice_in_a_row() -> None:
    out = io.StringIO()
    show = PlainLines(METRICS, out)

    show(SweepNote("no answer"))
    show(SweepNote("no answer"))

    assert out.getvalue().count("no answer") == 1


def test_the_table_shows_every_trial() -> None:
    rows = table(STORY).splitlines()

    assert rows[0].split() == ["cell", "seed", "state", "kimg", "last", "result"]
    assert rows[1].split()[:3] == ["base", "0", "finished"]
    assert "(already done)" in rows[1]
    assert rows[2].split()[:4] == ["under", "1", "finished", "57.6/57.6"]
    assert "eval/fid 4.17" in rows[2]
    assert rows[3].split()[:4] == ["uniform", "1", "FAILED".lower(), "28.8/57.6"]
    assert "diverged" in rows[3]
    assert rows[4].startswith("idle [b]")
    assert "waiting" in rows[4]
    assert rows[5].startswith(
        "2 of 4 trials finished, 0 running, 1 FAILED; about 14 s left; 0 s elapsed"
    )
    assert rows[6].strip() == "under: 3 of 6 pairs; uniform: WORSE at 6 seeds"
    assert rows[7].strip() == "MLflow does not answer: training goes on"


def test_a_low_terminal_shows_what_is_at_work_first() -> None:
    events = [TrialStarted("idle [b]", 2, "k3", total_kimg=10.0), *STORY[:1]]

    text = table(events, height=9)

    rows = text.splitlines()
    assert rows[1].startswith("idle [b]")
    assert "base" not in "".join(row.split(" ")[0] for row in rows[:4])
    assert "... and 1 more trials" in text
    assert "base" in table(events, height=9, everything=True)


def test_totals_with_the_time_left_are_told_now_and_then(tmp_path: Path) -> None:
    """Until the thread has told its first line; a sweep in which nothing runs is not told."""
    told = threading.Event()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            if " left" in text:
                told.set()
            return super().write(text)

    out, now = Out(), time.time()
    (tmp_path / "k1").mkdir()
    beat = {"images": 5760, "total": 57600, "img_per_s": 1000.0, "time_s": now}
    (tmp_path / "k1" / "pulse.json").write_text(json.dumps(beat))
    board = Board(TRIALS[:2], METRICS, tmp_path)
    with PlainTotals(board, PlainLines(METRICS, out), every_s=0.01) as show:
        show(STORY[0])
        show(STORY[1])
        assert told.wait(30)
    assert "1 of 2 trials finished, 1 running; about 52 s left" in out.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_a_running_trial_moves_and_fits(tmp_path: Path, width: int) -> None:
    (tmp_path / "k1").mkdir()
    beat = {"images": 19200, "total": 57600, "img_per_s": 1872.25, "loss": 0.12345, "time_s": 0.0}
    (tmp_path / "k1" / "pulse.json").write_text(json.dumps(beat))
    out = io.StringIO()
    console = Console(
        file=out, width=width, height=40, force_terminal=True, color_system="truecolor"
    )
    live = LiveTable(Board(TRIALS, METRICS, tmp_path, clock=lambda: 1.0), console)
    for event in STORY[:2]:
        live(event)
    console.print(live.table())
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(len(line) for line in plain.splitlines()) <= width
    (row,) = (line for line in plain.splitlines() if line.startswith("under"))
    assert "19.2/57.6" in row
    assert [word in row for word in ("1,872", "0.1235", "21 s")] == [True] * 3
    (painted,) = (line for line in out.getvalue().splitlines() if "under" in line)
    assert not re.search(
        r"\x1b\[(?:1;)?31m|249;38;114", painted
    )  # nothing red where nothing failed


def test_a_trial_the_table_was_not_told_of_is_added() -> None:
    assert "stranger" in table([TrialStarted("stranger", 0, "k9", total_kimg=1.0)])


def test_the_live_table_leaves_its_last_state_behind() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, height=40, force_terminal=True)

    with LiveTable(Board(TRIALS, METRICS), console) as show:
        for event in STORY:
            show(event)

    assert "2 of 4 trials finished" in out.getvalue().rsplit("\x1b[?25h", 1)[-1]


@pytest.mark.parametrize("event", STORY)
def test_every_event_has_a_description_of_one_line(event: Event) -> None:
    text = describe(event, METRICS)

    assert text
    assert "\n" not in text


def test_events_may_come_from_many_threads() -> None:
    out = io.StringIO()
    show = PlainLines(METRICS, out)

    def report(number: int) -> None:
        for kimg in range(50):
            show(TrialReported(f"cell{number}", number, f"k{number}", float(kimg), 50.0))

    threads = [threading.Thread(target=report, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = out.getvalue().splitlines()
    assert len(lines) == 200
    assert all(line.endswith("of 50 kimg") for line in lines)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_renderer_suits_the_stream() -> None:
    assert isinstance(renderer(Board(TRIALS, METRICS), io.StringIO()), PlainTotals)
    assert isinstance(renderer(Board(TRIALS, METRICS), _Terminal()), LiveTable)

"""What is new since the last run, what lies in a home, and what may go."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from service.cli import invoke
from service.errors import ServiceError
from service.experiment import Experiment
from service.experiment.delta import Delta, delta
from service.experiment.saved import save
from service.settings import Settings
from service.usage import bytes_below, check_quota, size, usage
from tests.service.sweeps import sweep
from trainer.files import FileLock
from trainer.record import LOCK, Record

# --- since the last run --------------------------------------------------------------


def since(before: Experiment, now: Experiment, folder: Path) -> Delta:
    save(before, folder)
    found = delta(now, folder)
    assert found is not None
    return found


def test_nothing_is_said_of_an_experiment_that_is_the_same(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    assert delta(sweep(toy), tmp_path) is None
    same = since(sweep(toy), sweep(toy), tmp_path)
    assert same.same == ("uniform", "under")
    assert same.sentences("toy") == []


def test_new_changed_and_gone_cells_are_told_apart(toy: dict[str, Any], tmp_path: Path) -> None:
    before = sweep(toy, arms={"a": {}, "b": {"optimizer.lr": 1e-3}, "c": {"optimizer.lr": 1e-2}})
    now = sweep(toy, arms={"a": {}, "b": {"optimizer.lr": 2e-3}, "d": {"optimizer.lr": 5e-3}})
    found = since(before, now, tmp_path)
    assert (found.same, found.new, found.gone) == (("a",), ("d",), ("c",))
    assert found.changed == {"b": ["optimizer.lr 0.002, was 0.001"]}
    assert (found.trials_new, found.trials_gone) == (4, 4)
    first, second = found.sentences("toy")
    assert first == (
        "since toy was run last: `d` is new, `b` has optimizer.lr 0.002, was 0.001, `c` is gone; 4 trials more; "
        "4 trials of before not used any more (`diffsweep rm --orphans` frees what no experiment names)"
    )
    assert "use another name to keep both" in second


def test_more_seeds_are_no_change_of_cells(toy: dict[str, Any], tmp_path: Path) -> None:
    found = since(sweep(toy, seeds=2), sweep(toy, seeds=3), tmp_path)
    assert (found.trials_new, found.trials_gone, found.changed) == (2, 0, {})
    assert found.sentences("toy") == []
    less = since(sweep(toy, seeds=3), sweep(toy, seeds=2), tmp_path)
    assert "2 trials of before not used any more" in less.sentences("toy")[0]


# --- what lies there -----------------------------------------------------------------


@pytest.fixture
def home(folder: Path, capsys: pytest.CaptureFixture[str]) -> Settings:
    """Two experiments that share two trials, and a trial of nobody."""
    settings = Settings(home=folder / "runs", tracking_uri=None)
    whole = Experiment.from_yaml("x.yaml", home=settings.home)
    save(whole, settings.experiment("toy"))
    part = Experiment.from_yaml("x.yaml", ["name=part", "seeds=1"], home=settings.home)
    save(part, settings.experiment("part"))
    shutil.copytree(settings.trial(whole.trials[0].key), settings.trials / ("0" * 16))
    capsys.readouterr()
    return settings


def test_each_experiment_has_its_share_and_what_nobody_names_is_an_orphan(home: Settings) -> None:
    found = usage(home)
    part, toy = found.shares
    assert (part.name, len(part.trials), len(part.alone)) == ("part", 2, 0)
    assert (toy.name, len(toy.trials), len(toy.alone)) == ("toy", 4, 2)
    assert list(found.orphans) == ["0" * 16]
    assert part.freed < part.bytes < toy.bytes
    sizes = sum(path.stat().st_size for path in home.home.rglob("*") if path.is_file())
    assert found.total == sizes


def test_candidates_of_a_search_are_needed(home: Settings) -> None:
    from service.search.candidates import FOLDER, Candidate, Candidates

    file = home.experiment("toy") / FOLDER / "s.jsonl"
    Candidates(file).write([Candidate(0, {}, {"a": ["0" * 16]}, [])])
    assert usage(home).orphans == {}


def test_where_one_experiment_is_damaged_nothing_counts_as_unused(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.experiment("part") / "experiment.json").write_text("[")
    found = usage(home)
    assert (found.orphans, found.unreadable) == ({}, ("part",))
    assert invoke(["rm", "--orphans", "--yes"]) == 3
    assert "run its YAML again" in capsys.readouterr().err


def test_rm_lists_asks_and_removes_what_nobody_else_uses(
    home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["rm"]) == 0
    listed = capsys.readouterr().out
    assert "part" in listed
    assert "1 trial that no experiment names" in listed

    assert invoke(["rm", "toy"]) == 3
    told = capsys.readouterr()
    assert told.out.startswith("toy: its folder and 2 trials, ")
    assert "2 trials stay, which other experiments use" in told.out
    assert "add --yes" in told.err
    assert len(usage(home).shares) == 2, "nothing is removed unasked"

    assert invoke(["rm", "toy", "--orphans", "--yes"]) == 0
    assert "less" in capsys.readouterr().out
    (part,) = usage(home).shares
    assert (part.name, len(part.trials), usage(home).orphans) == ("part", 2, {})
    assert invoke(["compare", "part"]) == 0
    assert invoke(["rm", "pert"]) == 3
    assert "did you mean `part`?" in capsys.readouterr().err
    assert json.loads(_out(capsys, ["rm", "--json"]))["experiments"]["part"]["trials"] == 2


def _out(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert invoke(words) == 0
    return capsys.readouterr().out


def test_what_is_at_work_is_not_removed(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    (toy,) = (share for share in usage(home).shares if share.name == "toy")
    with FileLock(home.trial(min(toy.alone)) / LOCK):
        assert invoke(["rm", "toy", "--yes"]) == 3
        assert "nothing has been removed" in capsys.readouterr().err
        assert all(Record(home.trial(key)).result() for key in toy.trials)
    with FileLock(home.experiment("toy") / "driver.lock"):
        assert invoke(["rm", "toy", "--yes"]) == 3


def test_a_quota_keeps_a_run_from_beginning_and_says_what_could_go(home: Settings) -> None:
    check_quota(home.model_copy(update={"quota_gb": 1.0}))
    with pytest.raises(ServiceError, match="more than its quota") as refusal:
        check_quota(home.model_copy(update={"quota_gb": 1e-6}))
    assert "`diffsweep rm --orphans` frees" in refusal.value.fix
    assert "DIFFSWEEP_QUOTA_GB" in refusal.value.fix


def test_bytes_are_told_in_powers_of_ten() -> None:
    assert [size(n) for n in (0, 999, 1500, 2.5e6, 3.21e9, 4e12)] == [
        "0 B", "999 B", "1.5 kB", "2.5 MB", "3.21 GB", "4 TB",
    ]  # fmt: skip


def test_a_folder_that_goes_away_while_it_is_measured_counts_nothing(tmp_path: Path) -> None:
    """As the checkpoint of a trial that is training: it is written under another name first."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"x" * 10)
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            folders = [tmp_path / f"checkpoint-{n}" / "deeper" for n in range(50)]
            for folder in folders:
                folder.mkdir(parents=True)
            for folder in folders:
                folder.rmdir()
                folder.parent.rmdir()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        assert {bytes_below(tmp_path) for _ in range(300)} == {10}
    finally:
        done.set()
        other.join(10)

"""The runs of cells in MLflow grow while trials report, at a cost that does not grow with what was told before."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from service.ledger import Ledger
from service.settings import Settings
from service.tracking import cells
from service.tracking.announce import cell_runs
from service.tracking.outbox import Outbox
from tests.service.sweeps import sweep
from trainer.report import Report, Result

RESULT = Result("finished", None, 2560, {"eval/fid": 1.0}, 500.0, 1.0, 1.0, {"eval/fid": "P"}, 10)


class Sweep:
    """A run whose trials say what the test says; `told` is what the cell `uniform` shows."""

    def __init__(self, toy: dict[str, Any], folder: Path, **changes: Any) -> None:
        self.experiment = sweep(toy, **changes)
        self.outbox = Outbox(folder / "outbox.db")
        self.settings = Settings(home=folder, tracking_uri=None)
        self.ledger = self.begin()

    def begin(self) -> Ledger:
        """A driver that starts."""
        ledger = Ledger(self.experiment, self.settings, self.outbox, lambda _event: None)
        ledger.open()
        return ledger

    def report(self, seed: int, images: int, value: float, time_s: float = 600.0) -> None:
        """A trial of `uniform` tells of an evaluation."""
        report = Report(images, time_s, {"rung/fid": value, "train/loss": 1.0})
        message = {"event": "reported", "report": report.to_json()}
        self.ledger.take(self.key(seed), message)

    def end(self, seed: int, value: float, time_s: float, status: Any = "finished") -> None:
        """And of its end."""
        self.report(seed, 2560, value, time_s)
        result = replace(RESULT, status=status, metrics={"eval/fid": value, "train/loss": 1.0})
        self.ledger.take(self.key(seed), {"event": "ended", "result": asdict(result)})

    def key(self, seed: int) -> str:
        """Of a trial of `uniform`."""
        mine = (t for t in self.experiment.trials if (t.cell, t.seed) == ("uniform", seed))
        return next(mine).key

    def told(self, name: str) -> dict[int, float]:
        """Step to value."""
        points = self.outbox.points(cell_runs(self.experiment)["uniform"])
        return {step: value for metric, step, _, value in points if metric == name}


def test_a_mean_is_there_as_soon_as_the_last_seed_reports(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    run = Sweep(toy, tmp_path)
    run.report(0, 640, 1.0)
    run.report(0, 1280, 2.0)
    assert run.told("rung/fid") == {}
    run.report(1, 640, 4.0)
    assert run.told("rung/fid") == {640: pytest.approx(2.5)}
    assert set(run.told("rung/fid.ci_low")) == {640}
    run.report(1, 1280, 4.0)
    assert run.told("rung/fid") == {640: pytest.approx(2.5), 1280: pytest.approx(3.0)}


def test_each_report_asks_for_the_intervals_of_its_own_step_alone(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []
    mean = cells._mean

    def counted(name: str, shown: str, step: int, *rest: Any) -> Any:
        made.append((shown, step))
        return mean(name, shown, step, *rest)

    monkeypatch.setattr(cells, "_mean", counted)
    run = Sweep(toy, tmp_path)
    for images in (640, 1280, 1920):
        for seed in (0, 1):
            run.report(seed, images, 1.0 + seed)
            run.report(seed, images, 1.0 + seed)  # and once more, as after a lost process
    assert made == [("rung/fid", 640), ("rung/fid", 1280), ("rung/fid", 1920)]
    run.begin()
    run.ledger.close()
    assert len(made) == 3, "a driver that starts again makes none again"


def test_a_driver_that_starts_again_makes_the_means_that_are_missing(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    run = Sweep(toy, tmp_path)
    for seed in (0, 1):
        run.report(seed, 640, 1.0)
    run.outbox.close()
    run.outbox.path.unlink()
    again = Sweep(toy, tmp_path)
    assert again.told("rung/fid") == {640: 1.0}


def test_the_mean_so_far_grows_with_each_seed_that_ends(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    run = Sweep(toy, tmp_path, seeds=4)
    assert run.told("so_far/eval/fid") == {}
    run.end(2, 1.0, 700.0)
    assert run.told("so_far/eval/fid") == {1: 1.0}
    assert run.told("so_far/eval/fid.ci_low") == {}
    run.end(0, 4.0, 800.0)
    assert run.told("so_far/eval/fid") == {1: 1.0, 2: pytest.approx(2.5)}
    assert set(run.told("so_far/eval/fid.ci_low")) == {2}
    before = run.outbox.points(cell_runs(run.experiment)["uniform"])
    run.ledger = run.begin()
    assert run.outbox.points(cell_runs(run.experiment)["uniform"]) == before
    run.end(1, math.nan, 900.0, "diverged")
    run.end(3, 1.0, 950.0)
    assert set(run.told("so_far/eval/fid")) == {1, 2}, "no mean over those that survived"
    assert not {name for name, *_ in before if "loss" in name}

"""Proves: a training's further protocols are rows wherever cells are: terminal, JSON, page, driver, MLflow."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.verdict.judging import judge
from dashboards.verdict.sentences import headline
from dashboards.verdict.values import Verdicts
from service.experiment import Experiment
from service.looks import evidence_of
from service.policy import Design
from service.records import stand
from service.results import collect, judged
from service.settings import Settings
from service.tracking.announce import cell_runs
from service.tracking.keys import NOTE
from service.tracking.verdict import told
from service.verdict_log import VerdictLog
from tests.service.test_one_method import STEPS, invoke, plain
from trainer.record import Record
from trainer.report import Report, Result

ALSO = "set={evaluation.also: [{name: few, steps: 3}, {name: large, images: 256}]}"
FACTORS = {"": 1.0, ".few": 1.5, ".large": 0.8}
PAIRS = [
    ("uniform@few", "uniform"),
    ("under@few", "uniform@few"),
    ("under@few", "under"),
    ("under@large", "uniform@large"),
]


@pytest.fixture
def made(folder: Path) -> tuple[Experiment, Settings]:
    """Eight seeds of two cells with made-up numbers and standard errors."""
    settings = Settings(home=folder / "made-up")
    experiment = Experiment.from_yaml("x.yaml", ["seeds=8", ALSO])
    for trial in experiment.trials:
        rng = np.random.default_rng([trial.seed, len(trial.cell)])
        level = 4 * (1.3 if trial.cell == "under" else 1.0) * math.exp(0.05 * rng.normal())
        noise = np.exp(0.01 * rng.normal(size=len(FACTORS)))
        finals = {
            f"eval/fid{end}": float(level * by * own)
            for (end, by), own in zip(FACTORS.items(), noise, strict=True)
        }
        errors = {f"se/fid{end}": 0.02 * level for end in FACTORS}
        ids = {name: name for name in finals} | {"rung/fid": "rung"}
        record = Record(settings.trial(trial.key))
        for step in STEPS:
            last = {**finals, **errors} if step == STEPS[-1] else {}
            metrics = {"rung/fid": 3 * level * 640 / step, **last}
            record.add_report(Report(step, 1e9 + step, metrics, done=bool(last), protocol=ids))
        ended: dict[str, Any] = {"metrics": {**finals, **errors}, "protocol": ids}
        record.write_result(
            Result("finished", None, STEPS[-1], started_s=0.0, seconds=1.0, eval_seconds=1.0, parameters=1, **ended)
        )  # fmt: skip
    return experiment, settings


def names(verdicts: Verdicts) -> list[tuple[str, str]]:
    return [(row.row.name, row.against.name) for row in verdicts.rows]


@pytest.mark.usefixtures("made")
def test_rows_are_where_cells_are(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["x.yaml", "-o", "seeds=8", "-o", ALSO, "--home", "made-up"]
    assert invoke(["compare", *words]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for row, against in PAIRS:
        assert re.search(rf"{row} 8 \S+ ± \S+ {against} [+-]\S+ % \S+ to \S+ % \(n = 8\)", out)
    assert "uniform@large 8" in out
    both = "`uniform@large` and `under@large` are not compared with `uniform` and `under`"
    assert f"{both}: 256 images, not" in out
    assert "`under`: at most " in out
    assert "sampling noise of finite images" in out

    assert invoke(["compare", *words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    rows = data["verdicts"]["rows"]
    assert [(row["row"]["name"], row["against"]["name"]) for row in rows] == PAIRS
    assert [row["word"] for row in rows] == ["WORSE"] * 4
    assert {spread["protocol"] for spread in data["spread"]} == {"", "few", "large"}
    assert all(spread["sampling"]["share"] > 0 for spread in data["spread"])

    assert invoke(["report", *words]) == 0
    page = plain(Path(capsys.readouterr().out.strip()).read_text())
    for row in rows:
        assert row["sentence"].replace("`", "") in page
    assert "Differences under further protocols" in page


def test_the_driver_and_mlflow_know_the_same_rows(made: tuple[Experiment, Settings]) -> None:
    experiment, settings = made
    sweep = collect(experiment, settings)
    result = judged(experiment, settings, sweep)
    verdicts = result.verdicts
    assert verdicts is not None
    assert names(verdicts) == PAIRS

    cells = {cell.name: cell.trial for cell in experiment.cells}
    seen = Design(cells, tuple(experiment.seeds), experiment.spec.compare, experiment.looks)
    every = {(t.cell, t.seed): stand(Record(settings.trial(t.key)), None) for t in experiment.trials}  # fmt: skip
    records = judge(evidence_of(seen, every, list(every)))
    assert headline(records) == headline(verdicts)
    assert [r.final.p_adjusted for r in records.rows if r.final] == [
        r.final.p_adjusted for r in verdicts.rows if r.final
    ]

    said, runs = (
        told(experiment, result.sweep, result.verdicts, result.refusal),
        cell_runs(experiment),
    )
    tags = said.tags
    assert set(tags[runs["under"]]) - {NOTE} == {
        f"verdict{name}{end}"
        for name in ("", ".few.against_baseline", ".few.against_same_training", ".large.against_baseline")
        for end in ("", ".effect")
    }  # fmt: skip
    assert set(tags[runs["uniform"]]) == {
        "verdict.few.against_same_training", "verdict.few.against_same_training.effect",
    }  # fmt: skip
    assert tags[runs["under"]]["verdict.few.against_same_training"] == "WORSE"
    numbers = {name: (pairs, value) for name, pairs, value in said.points[runs["under"]]}
    (few,) = (r.final for r in verdicts.rows if r.row.name == "under@few" and r.same_training)
    assert few is not None
    assert numbers["verdict/few.against_same_training/difference"] == (8, few.effect)
    log = VerdictLog.read(settings.experiment(experiment.name))
    assert log is not None
    assert log.given[-1].words["under@few against under"] == "WORSE"
    assert log.given[-1].pairs["under@few against under"] == 8

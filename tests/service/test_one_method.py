"""Proves: terminal, JSON, page, MLflow and the SDK print one interval for the same numbers, with its name and n."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from dashboards.charts.curves import convergence
from dashboards.verdict.statistics import interval, mean_interval
from dashboards.verdict.values import Measure
from dashboards.verdict.wording import effect, interval_text
from service import Client
from service.cli import invoke
from service.experiment import Experiment
from service.results import collect, deliver, judged
from service.settings import Settings
from trainer.record import Record
from trainer.report import Report, Result

STEPS = (640, 1280)
IDS = {"eval/fid": "full", "rung/fid": "rung"}


def measured(experiment: Experiment, settings: Settings) -> dict[str, list[float]]:
    """End every trial with made-up numbers, a curve of two evaluations among them; cell to final numbers."""
    finals: dict[str, list[float]] = {}
    for trial in experiment.trials:
        rng = np.random.default_rng([trial.seed, len(trial.cell)])
        level = 4 * (1.3 if trial.cell == "under" else 1.0) * math.exp(0.05 * rng.normal())
        record = Record(settings.trial(trial.key))
        for step in STEPS:
            last = step == STEPS[-1]
            metrics = {"rung/fid": 3 * level * 640 / step} | ({"eval/fid": level} if last else {})
            record.add_report(Report(step, 1e9 + step, metrics, done=last, protocol=IDS))
        record.write_result(
            Result(
                "finished", None, STEPS[-1], {"eval/fid": level}, 0.0, 1.0, 1.0, IDS, parameters=1
            )
        )
        finals.setdefault(trial.cell, []).append(level)
    return finals


def plain(text: str) -> str:
    """Without what is there for the eye only: markup, minus signs, fixed spaces."""
    text = re.sub(r"<[^>]*>", "", text)
    return " ".join(text.replace("−", "-").replace("\xa0", " ").replace("&nbsp;", " ").split())  # noqa: RUF001


@pytest.mark.parametrize(
    ("seeds", "name", "beside"), [(6, "95 % CI", "n = 6"), (3, "95 % t CI", "t, n = 3")]
)
def test_the_same_numbers_have_the_same_interval_everywhere(
    folder: Path, capsys: pytest.CaptureFixture[str], seeds: int, name: str, beside: str
) -> None:
    settings = Settings(home=folder / "made-up")
    experiment = Experiment.from_yaml("x.yaml", [f"seeds={seeds}"])
    finals = measured(experiment, settings)
    words = ["x.yaml", "-o", f"seeds={seeds}", "--home", "made-up"]
    by_hand = interval(np.log(finals["under"]) - np.log(finals["uniform"])).mapped(math.expm1)

    job = Client(settings=settings).submit(experiment)
    assert job.wait(timeout=120) == "SUCCEEDED"
    (comparison,) = job.verdict().comparisons
    final = comparison.final
    assert final is not None
    assert (final.interval.low, final.interval.high) == pytest.approx((by_hand.low, by_hand.high))
    assert (final.interval.n, final.interval.method) == (seeds, by_hand.method)
    said = interval_text(final)
    ends = said.removeprefix(f"{name} ")
    assert said.startswith(name)

    assert invoke(["compare", *words]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f" {ends} ({beside}) " in lines[2]
    assert f"({said}, p = " in lines[4]

    assert invoke(["compare", *words, "--json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    shown = data["verdicts"]["comparisons"][0]["final"]["interval"]
    assert (shown["low"], shown["high"]) == (final.interval.low, final.interval.high)
    assert (shown["n"], shown["method"]) == (seeds, final.interval.method)
    assert said in data["verdicts"]["comparisons"][0]["sentence"]

    assert invoke(["report", *words]) == 0
    page = plain(Path(capsys.readouterr().out.strip()).read_text())
    assert f"{ends} {beside}" in page
    assert f"({said}, p = " in page

    deliver(experiment, settings, judged(experiment, settings, collect(experiment, settings)))
    check_mlflow(experiment, settings, final, finals)


def check_mlflow(
    experiment: Experiment, settings: Settings, final: Measure, finals: dict[str, list[float]]
) -> None:
    """A cell's run has the verdict's words, and of its own mean the interval that the chart draws."""
    client = mlflow.MlflowClient(settings.store_uri)
    found = client.get_experiment_by_name(experiment.name)
    assert found is not None
    runs = {run.info.run_name: run for run in client.search_runs([found.experiment_id])}
    assert runs["under"].data.tags["verdict.effect"] == f"{effect(final)}, {len(final.seeds)} pairs"
    bands = {t.legendgroup: t for t in convergence(collect(experiment, settings)).data if t.fill}
    for cell, values in finals.items():
        metrics = runs[cell].data.metrics
        own = mean_interval(values, ratio=True)
        assert metrics["eval/fid.ci_low"] == pytest.approx(own.low)
        assert metrics["eval/fid.ci_high"] == pytest.approx(own.high)
        for place, step in enumerate(STEPS):
            stored = [
                {p.step: p.value for p in client.get_metric_history(runs[cell].info.run_id, key)}
                for key in ("rung/fid.ci_low", "rung/fid.ci_high")
            ]
            drawn = bands[cell].y[-1 - place], bands[cell].y[place]
            assert (stored[0][step], stored[1][step]) == pytest.approx(drawn)

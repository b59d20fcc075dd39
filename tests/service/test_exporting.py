"""Proves that an export says what the house knows, and that the winner's model lies on disk and in MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import results
from service.cli import invoke
from service.experiment import Experiment
from service.experiment.saved import save
from service.exporting import export_winner, winning_cell
from service.results import Judged
from service.sdk import Client, LocalJob
from service.settings import Settings
from service.tracking.announce import announce, cell_runs
from service.tracking.outbox import Outbox
from service.tracking.store import Store
from tests.dashboards import synthetic
from tests.trainer.exchange import models
from trainer.errors import UserError
from trainer.loop import train

EXPERIMENT = """\
name: digits
base: preset.json
arms:
  uniform: {}
  under: {diffusion.timesteps: {kind: p2, gamma: 0.5, k: 1.0}}
seeds: 2
export: winner
compare: {metric: eval/fid, baseline: uniform}
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    for name in ("DIFFSWEEP_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return Settings(home=tmp_path / "runs")


@pytest.fixture
def experiment(tmp_path: Path, settings: Settings) -> Experiment:
    """Of small networks of layout ddpm, all trained."""
    trial = models.spec(
        model={"layout": "ddpm", "embedding": 8},
        evaluation={"full": {"images": 16, "steps": 2}, "evaluations": 1, "draws": 1},
    ).model_dump(mode="json", exclude={"seed"})
    (tmp_path / "preset.json").write_text(json.dumps(trial))
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    made = Experiment.from_yaml(tmp_path / "x.yaml")
    for one in made.trials:
        list(train(one.spec, settings.trial(one.key), cache=settings.cache, device="cpu"))
    save(made, settings.experiment(made.name))
    return made


def test_the_winner_is_written_and_logged_once(experiment: Experiment, settings: Settings) -> None:
    judged = results.judged(experiment, settings, results.collect(experiment, settings))
    with contextlib.closing(Outbox(settings.experiment("digits") / "outbox.db")) as outbox:
        trials = [(trial, trial.key) for trial in experiment.trials]
        announce(outbox, experiment, trials, cell_runs(experiment))
        for known in outbox.runs():
            outbox.begin(known.header.key, 1)
    assert results.deliver(experiment, settings, judged)[1] == 0
    found = export_winner(experiment, settings, judged)
    assert found.cell == "uniform"
    assert "no cell is BETTER than the baseline" in found.reason
    finals = _finals(experiment, settings)
    assert found.seed == min(finals, key=lambda seed: finals[seed])
    folder = settings.experiment("digits") / "winner"
    card = (folder / "README.md").read_text()
    assert f"| eval/fid | {finals[found.seed]:.6g} |" in card
    assert "that number flatters" in card
    assert "`digits`" in card
    # in MLflow, and not again when the run is repeated
    assert found.model_id is not None
    assert export_winner(experiment, settings, judged).model_id == found.model_id
    client = Store(settings, "digits")._client
    logged = client.get_logged_model(found.model_id)
    assert logged.tags["diffsweep.trial"] == found.key
    files = {file.path for file in client.list_logged_model_artifacts(found.model_id)}
    assert {"README.md", "model_index.json", "unet", "scheduler", "MLmodel"} <= files
    shown = {metric.key: metric.value for metric in logged.metrics}
    assert shown["winner/eval/fid"] == finals[found.seed]
    code = "import mlflow, sys; print(*mlflow.models.get_model_info(sys.argv[1]).flavors)"
    asked = [sys.executable, "-c", code, f"models:/{found.model_id}"]
    where = {**os.environ, "MLFLOW_TRACKING_URI": settings.store_uri}
    told = subprocess.run(asked, env=where, capture_output=True, text=True, check=True, timeout=240)
    assert told.stdout.split() == ["diffusers"]


def test_a_run_from_python_ends_as_the_command_does(
    experiment: Experiment, settings: Settings
) -> None:
    job = Client(settings=settings).submit(experiment)
    assert isinstance(job, LocalJob)
    assert job.wait(120) == "SUCCEEDED"
    assert job.winner is not None
    assert job.winner.model_id is not None
    folder = settings.experiment("digits") / "winner"
    assert job.logs().splitlines()[-1] == f"model:   {folder} ({job.winner.reason})"
    assert (folder / "model_index.json").is_file()
    plain = Client(settings=settings).submit(
        Experiment.from_mapping({**experiment.whole, "export": None})
    )
    assert plain.wait(120) == "SUCCEEDED"
    assert "model:" not in plain.logs()


def _finals(experiment: Experiment, settings: Settings) -> dict[int, float]:
    from trainer.record import Record

    found = {}
    for trial in experiment.trials:
        result = Record(settings.trial(trial.key)).result()
        assert result is not None
        if trial.cell == "uniform":
            found[trial.seed] = result.metrics["eval/fid"]
    return found


def test_export_as_typed(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    key = experiment.trials[0].key
    assert invoke(["export", key[:8], "out"]) == 0
    told = "out: DDIMPipeline with UNet2DModel; out/README.md says how to load it\n"
    assert capsys.readouterr().out == told
    card = Path("out/README.md").read_text()
    assert "# uniform, seed 0" in card
    assert "`digits`, in which `uniform` is the baseline" in card
    assert invoke(["export", "digits", "out", "--cell", "under", "--seed", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["network"], data["own_code"]) == ("UNet2DModel", None)
    assert "`digits`: " in Path("out/README.md").read_text()
    Path("full").mkdir()
    Path("full/letter").write_text("dear")
    assert invoke(["export", key, "full"]) == 2
    assert "holds other files than an exported model" in capsys.readouterr().err


def test_the_better_cell_with_the_largest_difference_wins() -> None:
    def won(effects: dict[str, float]) -> tuple[str, str]:
        sweep = synthetic.sweep({"uniform": 0.0, **effects}, seeds=8)
        return winning_cell(Judged(sweep, synthetic.judge(sweep), None))

    assert won({"a": -0.2, "b": -0.4})[0] == "b"
    assert won({"a": -0.2, "b": 0.4})[0] == "a"
    assert won({"a": 0.2})[0] == "uniform"


def test_without_a_verdict_nothing_has_won() -> None:
    sweep = synthetic.sweep(seeds=3)
    with pytest.raises(UserError, match="nothing has won yet: too early"):
        winning_cell(Judged(sweep, None, "too early"))
    alone = synthetic.sweep({"uniform": 0.0}, seeds=1)
    assert winning_cell(Judged(alone, None, "one cell"))[0] == "uniform"

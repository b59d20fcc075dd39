"""What a person sees first in MLflow: its own pages, from a real server, in a real browser.

With DIFFSWEEP_SCREENSHOTS=1 the pictures in `screenshots/` are made again.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import PIL.Image
import pytest

from service.experiment import Experiment
from service.ledger import Ledger
from service.results import collect, deliver, judged
from service.settings import Settings
from service.tracking.delivery import sync
from service.tracking.outbox import Outbox
from tests.service.sweeps import MlflowServer, mlflow_server

pytestmark = pytest.mark.slow
PICTURES = Path(__file__).parent / "screenshots"
Page = Callable[[str, str], str]
"""Opens an address below the experiment's, keeps its picture under a name; returns what it says."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="module")
def runs(
    server: MlflowServer, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Two cells with two seeds each, delivered: name of each run to its id."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(trained / "runs", home, dirs_exist_ok=True)
    settings = Settings(home=home, tracking_uri=server.uri, tracking_patience_s=60)
    experiment = Experiment.from_yaml(trained / "x.yaml")
    book = Ledger(experiment, settings, Outbox(home / "experiments/toy/outbox.db"), lambda _: None)
    book.open(trains=False)
    book.close()
    deliver(experiment, settings, judged(experiment, settings, collect(experiment, settings)))
    assert sync(settings, "toy").left == 0
    client = mlflow.MlflowClient(server.uri)
    known = client.get_experiment_by_name("toy")
    found = client.search_runs([known.experiment_id])
    return {"": known.experiment_id} | {run.info.run_name: run.info.run_id for run in found}


@pytest.fixture
def page(server: MlflowServer, runs: dict[str, str], tmp_path: Path) -> Page:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")

    def browse(address: str, *options: str) -> str:
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-sync", "--window-size=1700,1100"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=30000"]
        command += [*options, f"{server.uri}/#/experiments/{runs['']}/{address}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        return done.stdout

    def visit(address: str, name: str) -> str:
        text = browse(address, "--dump-dom")
        if os.environ.get("DIFFSWEEP_SCREENSHOTS"):
            shot = tmp_path / "shot.png"
            browse(address, f"--screenshot={shot}")
            small = io.BytesIO()
            PIL.Image.open(shot).convert("RGB").quantize(48).save(small, "PNG", optimize=True)
            PICTURES.mkdir(exist_ok=True)
            (PICTURES / f"{name}.png").write_bytes(small.getvalue())
        return " ".join(re.sub(r"<[^>]*>", " ", text).split())

    return visit


def test_the_saved_view_shows_every_cell_and_no_empty_section(page: Page) -> None:
    text = page("runs?viewStateShareKey=diffsweep&compareRunsMode=CHART", "mlflow_cells")
    assert "Report · Cells in charts" in text, "the experiment's description"
    assert "2 matching runs" in text
    for section in ("Difference to the baseline (2)", "Mean and 95 % interval (1)"):
        assert section in text
    assert "Mean over the first seeds, by their number (1)" in text
    assert "No charts in this section" not in text
    assert "kimg" not in text


def test_the_sweep_says_its_verdict_in_a_table_and_in_numbers(
    page: Page, runs: dict[str, str]
) -> None:
    text = page(f"runs/{runs['toy']}", "mlflow_sweep")
    assert re.search(r"cell seeds FID \(pixels\) difference 95 % CI p verdict uniform 2 ", text)
    for number in ("difference", "low", "high"):
        assert f"verdict/under/{number}" in text


def test_a_trial_shows_its_pictures_at_once_and_only_what_tells_it_apart(
    page: Page, runs: dict[str, str]
) -> None:
    text = page(f"runs/{runs['seed 1: under']}", "mlflow_trial")
    assert re.search(r"Parameters \(\d\)", text), "fewer than ten"
    assert "diffusion.timesteps.gamma" in text
    assert "1,000 are 1 kimg" in text
    charts = page(f"runs/{runs['seed 1: under']}/model-metrics", "mlflow_trial_charts")
    for section in ("eval (1)", "rung (1)", "train (1)"):
        assert section in charts
    assert "kimg" not in charts
    assert "sys (" not in charts, "they are on the page of system metrics"

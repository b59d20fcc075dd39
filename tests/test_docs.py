"""Proves that what the documents say works: CONTRIBUTING's ten lines, README's YAML, links and commands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def blocks(language: str, document: str = "CONTRIBUTING.md") -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_new_schedule_works_in_a_sweep_at_once(toy: dict[str, Any], tmp_path: Path) -> None:
    """Follows the text literally, in a copy of the packages, touching one file."""
    for package in ("trainer", "service", "dashboards"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    file = tmp_path / "trainer" / "diffusion" / "schedule" / "level.py"
    code, marker = file.read_text(), "\nLevelSchedules = "
    written, rest = code.split(marker)
    members, docs = rest.split("\n", 1)
    file.write_text(f"{written}\n{blocks('python')[0]}\n{marker}{members} | Bent\n{docs}")

    arms = blocks("yaml")[0]
    experiment = tmp_path / "experiment.yaml"
    base = json.dumps({**toy, "diffusion": {"schedule": {"kind": "cosine"}}})
    experiment.write_text(f"name: bent\nbase: {base}\n{arms}seeds: 2\nlauncher: inproc\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "DIFFSWEEP_HOME": str(tmp_path / "runs"),
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    finished = subprocess.run(
        [sys.executable, "-m", "service", "run", str(experiment)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    results = list((tmp_path / "runs" / "trials").glob("*/result.json"))
    assert len(results) == 4
    specs = [json.loads((result.parent / "trial.json").read_text()) for result in results]
    kinds = sorted(spec["diffusion"]["schedule"]["kind"] for spec in specs)
    assert kinds == ["bent", "bent", "cosine", "cosine"]
    assert "bent" in finished.stdout
    assert "verdict" in finished.stdout


def test_the_schema_lists_every_member() -> None:
    """What a person may type comes from the same lists as the tests'."""
    from trainer.trial import TrialSpec

    text = json.dumps(TrialSpec.model_json_schema())
    for kind in ("cosine", "log_linear", "p2", "min_snr", "velocity", "dpmpp_2m", "classifier"):
        assert f'"{kind}"' in text


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "DESIGN.md"])
def test_documents_are_finished_and_their_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    assert not re.findall(r"@[A-Z_]+@|TODO|TBD", text)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (ROOT / target).exists(), target
    for path in re.findall(r"\b(?:experiments|docker)/[\w/.]+\.(?:yaml|png)\b", text):
        assert (ROOT / path).exists(), path


def test_the_readmes_experiment_is_valid(tmp_path: Path) -> None:
    from service.experiment import Experiment

    shutil.copytree(ROOT / "experiments" / "presets", tmp_path / "presets")
    (tmp_path / "my.yaml").write_text(blocks("yaml", "README.md")[0])
    found = Experiment.from_yaml(tmp_path / "my.yaml")
    assert len(found.seeds) == 6
    assert found.baseline in {cell.name for cell in found.cells}


def test_every_command_of_the_readme_exists() -> None:
    from service.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    fenced = (ROOT / "README.md").read_text().split("```")[1::2]
    verbs = re.findall(r"^diffsweep (\w+)", "\n".join(fenced), re.MULTILINE)
    assert {"validate", "run", "submit"} <= set(verbs) <= known

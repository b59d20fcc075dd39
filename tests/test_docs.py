"""Proves that what the documents say works: CONTRIBUTING's ten lines, README's YAML, links and commands."""

import copy
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).parents[1]


def blocks(language: str, document: str = "CONTRIBUTING.md") -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_new_schedule_works_in_a_sweep_at_once(toy: dict[str, Any], tmp_path: Path) -> None:
    """Follows the text literally, in a copy of the packages, touching one file."""
    packages(tmp_path)
    level = tmp_path / "trainer" / "diffusion" / "schedule" / "level.py"
    add(level, "LevelSchedules", "Bent", blocks("python")[0])
    base = json.dumps({**toy, "diffusion": {"schedule": {"kind": "cosine"}}})
    arms = blocks("yaml")[0]
    finished = run(tmp_path, f"name: bent\nbase: {base}\n{arms}seeds: 2\nlauncher: inproc\n")
    results = list((tmp_path / "runs" / "trials").glob("*/result.json"))
    assert len(results) == 4
    specs = [json.loads((result.parent / "trial.json").read_text()) for result in results]
    kinds = sorted(spec["diffusion"]["schedule"]["kind"] for spec in specs)
    assert kinds == ["bent", "bent", "cosine", "cosine"]
    assert "bent" in finished.stdout
    assert "verdict" in finished.stdout


TOYS = {
    "trainer/data/gaussians.py": (
        "ToyData",
        "Line",
        """
class Line(DataSpec):
    \"\"\"Points on a line.\"\"\"

    kind: Literal["line"] = "line"
    length: Scale = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def fingerprint(self, root: Path, cache: Path | None = None) -> str:
        return self.digest()

    def load(self, root: Path, cache: Path | None = None) -> Source:
        place = torch.linspace(-1.0, 1.0, 256)
        points = self.length * torch.stack([place, 0.5 * place], 1)
        return Resident.of(points, levels=None, fingerprint=self.digest())
""",
    ),
    "trainer/evaluation/metric/frechet.py": (
        "MomentMetrics",
        "MeanShift",
        """
class MeanShift(Metric):
    \"\"\"How far the means are apart.\"\"\"

    title: ClassVar[str] = "mean shift"
    lower_is_better: ClassVar[bool] = True
    needs: ClassVar[Need] = "moments"
    kind: Literal["mean_shift"] = "mean_shift"

    def prepare(self, real: Statistics) -> Prepared:
        return {"mean": real.moments.mean()}

    def measure(self, generated: Statistics, real: Real) -> float:
        return float((generated.moments.mean() - real.prepared["mean"]).norm())
""",
    ),
    "trainer/inputs/mirrored.py": (
        "VectorInputs",
        "Side",
        """
class Side(NetworkInput):
    \"\"\"On which side of the origin the example lies.\"\"\"

    kind: Literal["side"] = "side"

    def vector(self) -> int:
        return 1

    def trained(self, batch: Batch) -> Conditions:
        return {"vector": (batch.x0[:, :1] > 0).float()}

    def generated(self, codec: Codec, numbers: Tensor, noise_seed: int) -> Conditions:
        return {"vector": (numbers % 2).float()[:, None]}
""",
    ),
    "service/policy/fixed.py": (
        "WholePolicies",
        "FirstSeed",
        """
class FirstSeed(PlanPolicy):
    \"\"\"Every cell with one seed.\"\"\"

    kind: Literal["first_seed"] = "first_seed"

    def wanted(self, design: Design, standings: Mapping[tuple[str, int], Standing]) -> Sequence[Work]:
        trials = design.cells.items()
        return [Work(cell, design.seeds[0], trial.total_images()) for cell, trial in trials]
""",
    ),
}
"""File to (its list, the new member's name, the member)."""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_data_set_a_metric_an_input_and_a_policy_take_one_file_each(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """Each is a class and a name at the bottom of one file; then YAML, table and verdict know it."""
    packages(tmp_path)
    for name, (members, member, code) in TOYS.items():
        assert f"`{name.rpartition('/')[0]}/`" in (ROOT / "CONTRIBUTING.md").read_text(), name
        add(tmp_path / name, members, member, code)
    base = toy | {"data": {"kind": "line", "length": 0.5}, "inputs": [{"kind": "side"}]}
    base["evaluation"] = toy["evaluation"] | {"metrics": ["fid", "mean_shift"]}
    experiment: dict[str, Any] = {
        "name": "toys",
        "base": base,
        "arms": {"plain": {}, "small": {"model.width": 8}},
        "seeds": 3,
        "policy": {"kind": "first_seed"},
        "compare": {"metric": "eval/mean_shift"},
        "launcher": "inproc",
    }
    finished = run(tmp_path, experiment)
    results = list((tmp_path / "runs" / "trials").glob("*/result.json"))
    assert len(results) == 2, "one seed of two cells"
    for result in results:
        assert {"eval/fid", "eval/mean_shift"} <= set(json.loads(result.read_text())["metrics"])
        trial = json.loads((result.parent / "trial.json").read_text())
        assert (trial["data"]["kind"], trial["inputs"][0]["kind"]) == ("line", "side")
    assert "mean shift" in finished.stdout
    slips = copy.deepcopy(experiment)
    slips["base"]["data"]["kind"] = "lien"
    slips["base"]["inputs"][0]["kind"] = "sied"
    slips["base"]["evaluation"]["metrics"][1] = {"kind": "mean_shfit"}
    slips["policy"]["kind"] = "frist_seed"
    message = run(tmp_path, slips, "validate", code=2).stderr
    meant = {"lien": "line", "sied": "side", "mean_shfit": "mean_shift", "frist_seed": "first_seed"}
    for slip, kind in meant.items():
        assert f"unknown kind `{slip}`, did you mean `{kind}`?" in message


def packages(folder: Path) -> None:
    """A copy of what is installed."""
    for package in ("trainer", "service", "dashboards"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)


def add(file: Path, members: str, member: str, code: str) -> None:
    """Put a class above a file's list of members, and its name into the list."""
    written, rest = file.read_text().split(f"\n{members} = ")
    listed, docs = rest.split("\n", 1)
    file.write_text(f"{written}\n{code}\n\n{members} = {listed} | {member}\n{docs}")


def run(
    folder: Path, experiment: dict[str, Any] | str, verb: str = "run", code: int = 0
) -> subprocess.CompletedProcess[str]:
    """`run` an experiment, or do something else with it, with the packages in `folder`."""
    file = folder / "experiment.yaml"
    file.write_text(experiment if isinstance(experiment, str) else json.dumps(experiment))
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "DIFFSWEEP_HOME": str(folder / "runs"),
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    finished = subprocess.run(
        [sys.executable, "-m", "service", verb, str(file)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished


def test_the_schema_lists_every_member() -> None:
    """What a person may type comes from the same lists as the tests': every kind of every family, from the lists."""
    from service.experiment import ExperimentSpec
    from trainer.trial import TrialSpec
    from trainer.yaml.spec_paths import entry, kind_of, members

    def kinds(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
        found = {kind} if (kind := kind_of(model)) else set()
        for field in model.model_fields.values():
            inside = members(field.annotation) + members(entry(field.annotation))
            for member in set(inside) - seen:
                found |= kinds(member, seen | {member})
        return found

    for spec, least in ((TrialSpec, 70), (ExperimentSpec, 1)):
        text, every = json.dumps(spec.model_json_schema()), kinds(spec, {spec})
        assert len(every) >= least
        for kind in every:
            assert f'"{kind}"' in text


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "DESIGN.md"])
def test_documents_are_finished_and_their_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    assert not re.findall(r"@[A-Z_]+@|TODO|TBD", text)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (ROOT / target).exists(), target
    for path in re.findall(r"\b(?:experiments|docker)/[\w/.]+\.(?:yaml|png)\b", text):
        assert (ROOT / path).exists(), path


def test_the_reading_order_leads_through_code_that_is_there() -> None:
    """Every `file.py: name` of DESIGN exists under that name in that file."""
    text = (ROOT / "DESIGN.md").read_text()
    places = re.findall(r"`([\w/]+)\.py:\s+([\w.]+)`", text)
    assert len(places) > 20
    for module, name in places:
        found = importlib.import_module(module.replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part)


def test_the_readmes_experiment_is_valid(tmp_path: Path) -> None:
    from service.experiment import Experiment

    shutil.copytree(ROOT / "experiments" / "presets", tmp_path / "presets")
    (tmp_path / "my.yaml").write_text(blocks("yaml", "README.md")[0])
    found = Experiment.from_yaml(tmp_path / "my.yaml")
    assert (found.looks[0], len(found.seeds)) == (6, 24)
    assert found.baseline in {cell.name for cell in found.cells}


def test_every_command_of_the_readme_exists() -> None:
    from service.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    fenced = (ROOT / "README.md").read_text().split("```")[1::2]
    verbs = re.findall(r"^diffsweep (\w+)", "\n".join(fenced), re.MULTILINE)
    assert {"validate", "run", "submit"} <= set(verbs) <= known


def test_every_fault_that_a_promise_is_made_for_has_its_test() -> None:
    """DESIGN's table: the tests it names are there."""
    text = (ROOT / "DESIGN.md").read_text().partition("## What may break")[2].partition("\n## ")[0]
    named = re.findall(r"`(?:(tests/[\w/]+\.py): )?(test_\w+)` \|", text)
    assert len(named) >= 20
    faults = sorted((ROOT / "tests" / "service" / "faults").glob("test_*.py"))
    for file, test in named:
        places = [ROOT / file] if file else faults
        assert any(f"def {test}(" in place.read_text() for place in places), test

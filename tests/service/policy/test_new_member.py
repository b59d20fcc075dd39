"""A new policy is one file and one name: added to a copy of the packages, it runs from a YAML."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.sweeps import ROOT, UNDER

MEMBER = '''\
"""The first seeds of every cell, and no more."""

from collections.abc import Mapping, Sequence
from typing import Literal

from service.policy.base import Design, PlanPolicy, Standing, Work
from trainer.bounds import Count


class Thrifty(PlanPolicy):
    """The first `seeds` of every cell; the second cell only until its first evaluation."""

    kind: Literal["thrifty"] = "thrifty"
    seeds: Count = 1
    """How many."""

    def wanted(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Sequence[Work]:
        """One cell to the end, one for a moment."""
        first, second = design.cells
        whole = design.cells[first].total_images()
        seeds = design.seeds[: self.seeds]
        return [work for s in seeds for work in (Work(first, s, whole), Work(second, s, 1))]
'''
FORMER = "AnyPolicy = Family[WholePolicies |"
UNION = """\
from service.policy.thrifty import Thrifty

AnyPolicy = Family[Thrifty | WholePolicies |"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_policy_of_one_file_runs_from_a_yaml(toy: dict[str, Any], tmp_path: Path) -> None:
    for package in ("trainer", "service", "dashboards"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    family = tmp_path / "service" / "policy"
    (family / "thrifty.py").write_text(MEMBER)
    union = (family / "__init__.py").read_text()
    assert FORMER in union
    (family / "__init__.py").write_text(union.replace(FORMER, UNION))
    data = {"name": "thrifty", "base": toy, "arms": {"uniform": {}, "under": UNDER}, "seeds": 3}
    data |= {"launcher": "inproc", "policy": {"kind": "thrifty", "seeds": 2}}
    (tmp_path / "x.yaml").write_text(json.dumps(data))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "DIFFSWEEP_HOME": str(tmp_path / "r")}
    environment.pop("MLFLOW_TRACKING_URI", None)

    def service(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "service", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    planned = json.loads(service("plan", "x.yaml", "--json").stdout)
    assert [(t["cell"], t["seed"]) for t in planned["trials"]] == [
        ("uniform", 0),
        ("under", 0),
        ("uniform", 1),
        ("under", 1),
    ]
    ran = service("run", "x.yaml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    trials = tmp_path / "r" / "trials"
    assert len(list(trials.glob("*/result.json"))) == 2
    assert len(list(trials.glob("*/reports.jsonl"))) == 4
    assert "Traceback" not in ran.stdout + ran.stderr

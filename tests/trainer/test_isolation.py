"""Proves that the trainer needs neither ray nor mlflow nor torchvision: blocking them changes nothing in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BLOCKED = ("ray", "mlflow", "plotly", "pandas", "torchvision", "service", "dashboards")

PROGRAM = """
import sys
for name in {blocked}:
    sys.modules[name] = None  # an import of it now raises ModuleNotFoundError
import json
from pathlib import Path
from trainer.trial import TrialSpec
from trainer.loop import train
trial = TrialSpec.model_validate(json.loads(sys.argv[1]))
reports = list(train(trial, Path(sys.argv[2]), cache=Path(sys.argv[2]) / "cache", device="cpu"))
clean = [[r.images, {{k: v for k, v in r.metrics.items() if not k.startswith("sys/")}}, r.series] for r in reports]
print(json.dumps([clean, sorted(m for m in sys.modules if m.split(".")[0] in {blocked} and sys.modules[m])]))
"""


def run(trial: dict[str, Any], out: Path, blocked: tuple[str, ...]) -> tuple[list[Any], list[str]]:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(blocked=blocked), json.dumps(trial), str(out)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    curve, modules = json.loads(finished.stdout.splitlines()[-1])
    return curve, modules


@pytest.mark.slow
def test_blocking_the_service_changes_nothing(toy: dict[str, Any], tmp_path: Path) -> None:
    free, _ = run(toy, tmp_path / "free", ("nothing",))
    alone, loaded = run(toy, tmp_path / "alone", BLOCKED)
    assert loaded == []
    assert alone == free
    assert len(alone) == 4

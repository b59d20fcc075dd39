"""The checked-in names of trials and protocols. `python -m tests.experiments.keys` writes the table again.

A finished trial is found by its key, so a key that changes throws results away. That is right only when the
numbers change too, and then CORE_VERSION (or METRIC_VERSION, or PICTURE_VERSION) says so; otherwise writing is refused.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from service.experiment import Experiment
from trainer import CORE_VERSION
from trainer.data import PICTURE_VERSION
from trainer.evaluation import METRIC_VERSION
from trainer.trial import TrialSpec
from trainer.yaml.source import read

ROOT = Path(__file__).parents[2] / "experiments"
TABLE = Path(__file__).with_name("keys.json")


def table() -> dict[str, Any]:
    """Keys of every preset (of data called "data") and of the quickstart's trials; protocol ids of the presets."""
    presets = {
        f"{_edition(path)} {path.stem}": TrialSpec.model_validate(read(path).data)
        for path in sorted((ROOT / "presets").glob("*.yaml"))
    }
    file = ROOT / "quickstart.yaml"
    trials = Experiment.from_yaml(file).trials
    return {
        "core_version": CORE_VERSION,
        "metric_version": METRIC_VERSION,
        "picture_version": PICTURE_VERSION,
        "presets": {name: trial.key("data") for name, trial in presets.items()},
        "quickstart": {f"{_edition(file)} {t.cell} seed {t.seed}": t.key for t in trials},
        "protocols": {name: _protocols(trial) for name, trial in presets.items()},
    }


def _edition(file: Path) -> str:
    """Of what a YAML asks for: one that asks for something else gets other trials, under another name."""
    written = json.dumps(read(file).data, sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:8]


def _protocols(trial: TrialSpec) -> dict[str, str]:
    evaluation = trial.evaluation
    ids = {f"eval/{m.name}": evaluation.protocol_id(m, "full", "data") for m in evaluation.metrics}
    if evaluation.rung is not None:
        ids |= {
            f"rung/{m.name}": evaluation.protocol_id(m, "rung", "data") for m in evaluation.metrics
        }
    return ids


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names whose key or protocol is another than in the table: new ones are none."""
    found = [
        f"{part}: {name}"
        for part in ("presets", "quickstart", "protocols")
        for name, value in before[part].items()
        if name in now[part] and now[part][name] != value
    ]
    return sorted(found)


def versions(table: dict[str, Any]) -> tuple[str, ...]:
    """Of core, metrics and pictures; a table may be older than the last."""
    return tuple(table.get(f"{of}_version", "") for of in ("core", "metric", "picture"))


def main() -> int:
    """Write the table; refuse to rename trials under the same versions."""
    now = table()
    before = json.loads(TABLE.read_text()) if TABLE.exists() else now
    if versions(before) == versions(now) and (names := changed(before, now)):
        print(
            f"{len(names)} names changed, such as {names[0]}: finished trials would be trained again."
        )
        print(
            "If their numbers change, raise CORE_VERSION (or METRIC_VERSION, PICTURE_VERSION); if not, declare "
            "a Neutral value."
        )
        return 1
    TABLE.write_text(json.dumps(now, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

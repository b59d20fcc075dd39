"""How does a model that leaves become one of MLflow's logged models, once for one content?"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def log_model(
    client: Any,
    experiment_id: str,
    run_id: str | None,
    name: str,
    key: str,
    folder: Path,
    metrics: Mapping[str, float],
) -> str:
    """Log a model's folder as an output of a run; returns its id, known already if the content is.

    `metrics` are shown with it. `mlflow.models.get_model_info` reads it; diffusers loads it.
    """
    content = _digest(folder)
    same = f"tags.`diffsweep.model` = '{content}'"
    known = client.search_logged_models([experiment_id], same, max_results=10)
    ready = [one.model_id for one in known if one.status == "READY"]
    if ready:
        return str(ready[0])
    tags = {"diffsweep.model": content, "diffsweep.trial": key}
    made = client.create_logged_model(
        experiment_id, _model_name(name), run_id, tags, model_type="diffusers pipeline"
    )
    client.log_model_artifacts(made.model_id, str(folder))
    _describe(client, made.model_id, run_id)
    client.finalize_logged_model(made.model_id, "READY")
    if run_id is not None:
        from mlflow.entities import LoggedModelOutput

        client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])
        for metric, number in metrics.items():
            client.log_metric(run_id, f"winner/{metric}", number, model_id=made.model_id)
        client.set_tag(run_id, "winner.model", made.model_id)
    return str(made.model_id)


def _describe(client: Any, model_id: str, run_id: str | None) -> None:
    """MLflow's own file about a model: without it a folder is no model to `mlflow.models`."""
    from mlflow.models import Model

    flavors = {"diffusers": {"class": "DiffusionPipeline", "data": "."}}
    with tempfile.TemporaryDirectory(prefix="diffsweep-") as scratch:
        local = Path(scratch) / "MLmodel"
        Model(run_id=run_id, flavors=flavors, model_id=model_id).save(str(local))
        client.log_model_artifact(model_id, str(local))


def _digest(folder: Path) -> str:
    """Of names and contents below a folder."""
    sha = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha.update(f"{file.relative_to(folder).as_posix()}\n".encode())
        sha.update(hashlib.sha256(file.read_bytes()).digest())
    return sha.hexdigest()[:32]


def _model_name(name: str) -> str:
    """What MLflow takes: some signs of our names mean something in its addresses."""
    return name.replace(".", "_").replace("+", "_")

"""Cells that occupy different resources, on a real Ray: each trial gets its own, and all are trained."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from service import launch, progress, results
from service.settings import Settings
from tests.service.sweeps import UNDER, final_metrics, sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]


def groups() -> list[list[dict[str, float]]]:
    """Bundles of the placement groups that are there, the largest first."""
    import ray

    every = [one for one in ray.util.placement_group_table().values() if one["state"] == "CREATED"]
    return sorted(([*one["bundles"].values()] for one in every), key=len, reverse=True)


def test_a_cell_of_two_workers_beside_one_of_one(toy: dict[str, Any], tmp_path: Path) -> None:
    both = {"resources.workers": 2, "resources.cpus": 0.5}
    arms = {"narrow": {}, "wide": {**UNDER, **both}}
    experiment = sweep(toy, arms=arms, seeds=2, resources={"cpus": 1})
    settings = Settings(home=tmp_path / "mixed", tracking_uri=None)
    seen: dict[str, list[list[dict[str, float]]]] = {}

    def hear(event: progress.Event) -> None:
        if isinstance(event, progress.TrialReported):
            seen.setdefault(event.cell, []).extend(groups())

    outcome = launch.run(experiment, settings, hear)

    assert (outcome.exit_code, outcome.finished) == (0, 4)
    shapes = {"narrow": [{"CPU": 1.0}], "wide": [{"CPU": 0.5}, {"CPU": 0.5}]}
    for cell, shape in shapes.items():
        assert shape in seen[cell], "its own group is there when it reports"
    assert all(group in shapes.values() for own in seen.values() for group in own)

    alone = sweep(toy, arms={"narrow": {}, "wide": UNDER}, seeds=2, launcher="inproc")
    launch.run(alone, Settings(home=tmp_path / "plain", tracking_uri=None))
    mixed, plain = (final_metrics(tmp_path / name) for name in ("mixed", "plain"))
    assert mixed.keys() == plain.keys(), "the same trials"
    narrow = {trial.key for trial in alone.trials if trial.cell == "narrow"}
    assert {key: mixed[key] for key in narrow} == {key: plain[key] for key in narrow}
    for key, own in plain.items():
        assert mixed[key]["eval/fid"] == pytest.approx(own["eval/fid"], rel=0.2), "to rounding"

    swept = results.collect(experiment, settings)
    assert swept.devices == {"narrow": 1.0, "wide": 1.0}


def test_a_cell_with_a_gpu_beside_one_without(toy: dict[str, Any], tmp_path: Path) -> None:
    """Ray is told of a GPU that nobody asks for its name: what counts is who holds it when."""
    import ray

    arms = {"cpu": {}, "gpu": {**UNDER, "resources.gpus": 0.5}}
    experiment = sweep(toy, arms=arms, seeds=2, launcher="inproc")
    seen = []

    def hear(event: progress.Event) -> None:
        if isinstance(event, progress.TrialReported):
            seen.extend(groups())

    with tempfile.TemporaryDirectory(prefix="ds-", dir="/tmp") as scratch:
        ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False,
                 object_store_memory=100 * 2**20, _temp_dir=scratch)  # fmt: skip
        try:
            outcome = launch.run(experiment, Settings(home=tmp_path, tracking_uri=None), hear)
        finally:
            ray.shutdown()
    assert (outcome.exit_code, outcome.finished) == (0, 4)
    assert [{"CPU": 1.0}] in seen
    assert [{"CPU": 1.0, "GPU": 0.5}] in seen

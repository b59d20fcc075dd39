"""A cluster is timed where a trial's worker would be, and says what is free where that is nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.cluster import bench
from service.resources import Resources
from tests.service.sweeps import ROOT

BUSY = """
import sys, time
from pathlib import Path
import ray
from service.planning import measuring
from service.cluster import bench
from service.cluster.bench import ClusterBench, room
from service.errors import ServiceError
from service.resources import Resources
from trainer.trial import TrialSpec

ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
bench.PLACED_WITHIN_S = 1.0

@ray.remote(num_cpus=1)
class Holding:
    def held(self):
        return True

others = [Holding.remote() for _ in range(2)]
ray.get([one.held.remote() for one in others])
need = Resources()
there = ClusterBench(Path(), Path(sys.argv[2]), need, room([need], None))
trial = TrialSpec.model_validate_json(sys.argv[1])
try:
    there.speed(trial)
except ServiceError as error:
    print("refused:", error.message)
for one in others:
    ray.kill(one)
bench.PLACED_WITHIN_S = 60.0
print("at once:", there.company, "image/s:", 1 / there.speed(trial).train_s_per_image)
deadline = time.monotonic() + 30
while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
    time.sleep(0.1)
print("free afterwards:", ray.available_resources().get("CPU", 0))
"""


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_a_full_cluster_is_told_and_a_free_one_is_timed_and_left_free(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    from trainer.trial import TrialSpec

    trial = TrialSpec.model_validate(toy).model_dump_json()
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", BUSY, trial, str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    refused, timed, free = done.stdout.splitlines()[-3:]
    assert refused == (
        "refused: no worker got 1 CPU within 1 s: of 2 CPUs on this cluster, 0 CPUs are free"
    )
    assert timed.startswith("at once: 2 image/s: ")
    assert free == "free afterwards: 2.0"


@pytest.mark.parametrize(
    ("resources", "nodes", "slots"),
    [
        ({}, [{"CPU": 4.0}, {"CPU": 1.0}], 5),
        ({"cpus": 3}, [{"CPU": 4.0}, {"CPU": 4.0}], 2),
        ({"cpus": 2, "gpus": 1}, [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 8.0}], 8),
        ({"workers": 2, "gpus": 1}, [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 2.0}], 1),
        ({"cpus": 8}, [{"CPU": 4.0}], 1),
    ],
)
def test_a_worker_is_on_one_node(
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, Any],
    nodes: list[dict[str, float]],
    slots: int,
) -> None:
    import ray

    told = [{"Alive": True, "Resources": node} for node in nodes]
    lost = {"Alive": False, "Resources": {"CPU": 100.0, "GPU": 8.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [*told, lost])
    shape = Resources(**resources)
    assert bench.room([shape], None).slots(shape) == slots

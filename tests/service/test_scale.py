"""Many trials on several nodes leave nothing behind. `python -m tests.benchmarks scale` runs 300 of them."""

from __future__ import annotations

import pytest

from tests.benchmarks.scale import in_a_process


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(420)
def test_24_trials_on_two_nodes_leave_nothing_behind() -> None:
    measured = in_a_process(24, nodes=2, launcher="inproc", plain=0, timeout_s=400)
    assert {name: count for name, count in measured.left.items() if count > 0} == {}

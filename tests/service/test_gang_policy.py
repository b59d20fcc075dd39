"""Which ends of a worker count as a failure of Ray Train? Neither leaving nor smaller passes."""

from __future__ import annotations

import pytest
from ray.exceptions import OutOfMemoryError
from ray.train import FailureConfig
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2.api.exceptions import WorkerGroupError

from service.cluster.gang import _failure_policy
from trainer.leaving import Left
from trainer.passes import SmallerPasses

GONE = RuntimeError("connection closed by peer")


@pytest.mark.parametrize(
    ("errors", "decision"),
    [
        ([GONE, SmallerPasses(8)], FailureDecision.RETRY),
        ([Left(640), Left(640)], FailureDecision.RAISE),
        ([GONE], FailureDecision.RAISE),
    ],
    ids=["smaller passes", "left", "lost"],
)
def test_what_counts(errors: list[Exception], decision: FailureDecision) -> None:
    """Where no failure is allowed, twice."""
    policy = _failure_policy(FailureConfig(max_failures=0))
    for _ in range(2):
        failed = WorkerGroupError("its workers ended", dict(enumerate(errors)))
        assert policy.make_decision(failed) is decision


def test_a_worker_that_was_killed_for_memory_is_for_tune_to_replace() -> None:
    """Which takes seconds; a new worker at once would be killed within the same one, and so would the one after it."""
    policy = _failure_policy(FailureConfig(max_failures=2))
    killed = OutOfMemoryError("Task was killed due to the node running low on memory.")
    failed = WorkerGroupError(f"1 worker ended: {killed}", {0: killed})
    assert policy.make_decision(failed) is FailureDecision.RAISE


def test_one_loss_is_allowed_beside_any_number_of_smaller_passes() -> None:
    policy = _failure_policy(FailureConfig(max_failures=1))
    ends = [SmallerPasses(32), GONE, SmallerPasses(16), GONE]
    found = [policy.make_decision(WorkerGroupError("ended", {0: end})) for end in ends]
    assert found == [FailureDecision.RETRY] * 3 + [FailureDecision.RAISE]

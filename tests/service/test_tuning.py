"""How many jobs Tune gets at a time: all that a fixed plan has, no more than fit when records decide."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from service.cluster.connect import Cluster
from service.cluster.tuning import Asking, Seats
from service.dispatch import Dispatch
from service.ledger import Ledger
from service.policy import Fixed, PlanPolicy
from service.resources import Resources
from service.settings import Settings
from service.tracking.outbox import Outbox
from tests.service.policies import Growing, Halving, planned


class Machine(Cluster):
    """A Ray of two CPUs."""

    def size(self) -> tuple[float, float]:
        return 2.0, 0.0


def seats(
    toy: dict[str, Any], home: Path, policy: PlanPolicy, private: bool, most: int | None = None
) -> Seats:
    experiment = planned(toy, policy, seeds=3)
    settings = Settings(home=home, tracking_uri=None)
    ledger = Ledger(experiment, settings, Outbox(home / "outbox.db"), lambda _event: None)
    ledger.open()
    dispatch = Dispatch(experiment, settings, ledger, threading.Event())
    return Seats(dispatch, Resources(), Machine(private, None), most)


def suggestions(asking: Asking, count: int = 10) -> list[Any]:
    given = [asking.suggest(f"tune{number}") for number in range(count)]
    return ["job" if isinstance(each, dict) else each for each in given]


@pytest.mark.parametrize(
    ("policy", "private", "most", "jobs", "then"),
    [
        (Fixed(), True, None, 6, Searcher.FINISHED),
        (Fixed(), True, 1, 1, None),
        (Halving(), True, None, 2, None),
        (Halving(), False, None, 3, None),  # one waits, for an autoscaler to see
        (Halving(), False, 1, 1, None),
        (Growing(), False, None, 2, None),  # more seeds may come, or nothing
    ],
)
def test_jobs_that_tune_gets_at_once(
    toy: dict[str, Any],
    tmp_path: Path,
    policy: PlanPolicy,
    private: bool,
    most: int | None,
    jobs: int,
    then: str | None,
) -> None:
    asking = Asking(seats(toy, tmp_path, policy, private, most))

    assert suggestions(asking) == ["job"] * jobs + [then] * (10 - jobs)


def test_a_seat_that_is_left_goes_to_the_next_and_the_end_is_said_when_all_have_left(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    taken = seats(toy, tmp_path, Growing(), private=True)
    asking = Asking(taken)
    assert suggestions(asking, 3) == ["job", "job", None]
    for tune_id in list(taken.taken):
        key = taken.taken.pop(tune_id)
        taken.dispatch.released(key, "its process was lost")

    assert asking.suggest("last") == Searcher.FINISHED, "without first results nothing grows"

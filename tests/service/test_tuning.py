"""How many jobs Tune gets at a time: all that a fixed plan has, no more than fit when records decide."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from service import progress
from service.cluster import trainables
from service.cluster.connect import Cluster
from service.cluster.seats import Seats
from service.cluster.tuning import Asking
from service.dispatch import Dispatch
from service.ledger import Ledger
from service.policy import Fixed, PlanPolicy
from service.settings import Settings
from service.tracking.outbox import Outbox
from tests.service.policies import Growing, Halving, planned
from tests.service.sweeps import UNDER, sweep


class Machine(Cluster):
    """A Ray of two CPUs, or of as many as are said."""

    cpus = 2.0

    def size(self) -> tuple[float, float]:
        return self.cpus, 0.0


def seats(
    toy: dict[str, Any], home: Path, policy: PlanPolicy, private: bool, most: int | None = None
) -> Seats:
    experiment = planned(toy, policy, seeds=3)
    settings = Settings(home=home, tracking_uri=None)
    ledger = Ledger(experiment, settings, Outbox(home / "outbox.db"), lambda _event: None)
    ledger.open()
    dispatch = Dispatch(experiment, settings, ledger, threading.Event())
    return Seats(dispatch, experiment, Machine(private, None), most)


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


def mixed(toy: dict[str, Any], home: Path, cpus: float, private: bool = True) -> Seats:
    """Cells of one CPU and of three, three seeds of each."""
    arms = {"small": {}, "large": {**UNDER, "resources.cpus": 3}}
    experiment = sweep(toy, arms=arms, seeds=3)
    settings = Settings(home=home, tracking_uri=None)
    ledger = Ledger(experiment, settings, Outbox(home / "outbox.db"), lambda _event: None)
    ledger.open()
    dispatch = Dispatch(experiment, settings, ledger, threading.Event())
    machine = Machine(private, None)
    object.__setattr__(machine, "cpus", cpus)
    return Seats(dispatch, experiment, machine, None)


def begun(asking: Asking, seats: Seats, calls: int = 6) -> list[str]:
    """The cells and seeds that begin when Tune asks so often."""
    before = set(seats.taken.values())
    for number in range(calls):
        asking.suggest(f"{len(before)}-{number}")
    names = seats.dispatch._names
    return [names[key] for key in seats.taken.values() if key not in before]


def end(seats: Seats, name: str) -> None:
    """It comes back; nothing of it is wanted any more."""
    tune_id = next(i for i, key in seats.taken.items() if seats.dispatch._names[key] == name)
    for key in seats.release(tune_id):
        seats.dispatch.released(key, "its process was lost")


def test_a_larger_trial_waits_for_what_becomes_free_and_smaller_ones_fill_what_is(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    taken = mixed(toy, tmp_path, cpus=5)
    asking = Asking(taken)
    assert begun(asking, taken) == ["small seed 0", "large seed 0", "small seed 1"], "5 of 5 CPUs"
    end(taken, "small seed 0")
    assert begun(asking, taken) == ["small seed 2"], (
        "what was free when `large seed 1` began to wait"
    )
    end(taken, "small seed 1")
    assert begun(asking, taken) == [], "that is kept for it, though nothing small is left anyway"
    end(taken, "large seed 0")
    assert begun(asking, taken) == ["large seed 1"]


def test_a_larger_trial_is_not_overtaken_for_ever(toy: dict[str, Any], tmp_path: Path) -> None:
    taken = mixed(toy, tmp_path, cpus=3)
    asking = Asking(taken)
    assert begun(asking, taken) == ["small seed 0", "small seed 1", "small seed 2"]
    for seed in (0, 1):
        end(taken, f"small seed {seed}")
        assert begun(asking, taken) == [], "`large seed 0` needs all three"
    end(taken, "small seed 2")
    assert begun(asking, taken) == ["large seed 0"]


def test_what_becomes_free_is_kept_while_smaller_ones_are_left(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    taken = mixed(toy, tmp_path, cpus=3)
    object.__setattr__(taken.cluster, "cpus", 2.0)  # the machine grows to three CPUs below
    asking = Asking(taken)
    assert begun(asking, taken) == ["small seed 0", "small seed 1"]
    object.__setattr__(taken.cluster, "cpus", 3.0)
    end(taken, "small seed 0")
    assert begun(asking, taken) == [], "`small seed 2` would fit"
    end(taken, "small seed 1")
    assert begun(asking, taken) == ["large seed 0"]
    end(taken, "large seed 0")
    assert begun(asking, taken) == ["large seed 1"], "it is more urgent than `small seed 2`"


def test_where_a_cluster_may_grow_one_waits_for_an_autoscaler_to_see(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    taken = mixed(toy, tmp_path, cpus=3, private=False)
    asking = Asking(taken)
    assert begun(asking, taken) == [
        "small seed 0",
        "small seed 1",
        "small seed 2",
        "large seed 0",
    ], "the last is counted on nobody's CPUs"


def test_each_job_is_placed_by_its_own_resources(toy: dict[str, Any], tmp_path: Path) -> None:
    taken = mixed(toy, tmp_path, cpus=4)
    configs = [Asking(taken).suggest(str(number)) for number in range(2)]
    groups = [trainables.placed("gang", config) for config in configs if isinstance(config, dict)]
    assert [group.bundles for group in groups] == [[{"CPU": 1.0}], [{"CPU": 3.0}]]
    again = trainables.placed("gang", dict(configs[0]))  # type: ignore[arg-type]
    assert again == groups[0] != groups[1], "Tune keeps an actor for trials of equal groups"
    assert hash(again) == hash(groups[0])


def elastic(toy: dict[str, Any], home: Path, cpus: float, private: bool = True) -> Seats:
    """Two seeds of one cell, on one to four workers; three do not divide the batch."""
    experiment = sweep(
        toy, arms={"one": {}}, seeds=2, resources={"workers": {"least": 1, "most": 4}}
    )
    settings = Settings(home=home, tracking_uri=None)
    notes: list[progress.Event] = []
    ledger = Ledger(experiment, settings, Outbox(home / "outbox.db"), notes.append)
    ledger.open()
    dispatch = Dispatch(experiment, settings, ledger, threading.Event())
    machine = Machine(private, None)
    object.__setattr__(machine, "cpus", cpus)
    seats = Seats(dispatch, experiment, machine, None)
    seats.heard = notes  # type: ignore[attr-defined]
    return seats


def workers(seats: Seats) -> dict[str, int]:
    """Of each job that Tune has."""
    names, dispatch = seats.dispatch._names, seats.dispatch
    return {names[key]: dispatch.occupied(key).workers for key in seats.taken.values()}


@pytest.mark.parametrize(
    ("cpus", "given"),
    [
        (8, {"one seed 0": 4, "one seed 1": 4}),
        (7, {"one seed 0": 4, "one seed 1": 2}),
        (3, {"one seed 0": 2, "one seed 1": 1}),
        (1, {"one seed 0": 1}),
        (0, {"one seed 0": 1}),
    ],
)
def test_an_elastic_trial_gets_as_many_workers_as_fit(
    toy: dict[str, Any], tmp_path: Path, cpus: float, given: dict[str, int]
) -> None:
    taken = elastic(toy, tmp_path, cpus)
    begun(Asking(taken), taken)
    assert workers(taken) == given


def test_a_job_that_waits_for_more_than_is_left_is_taken_back_and_asked_for_with_fewer(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    taken = elastic(toy, tmp_path, cpus=6)
    asking = Asking(taken)
    begun(asking, taken)
    assert workers(taken) == {"one seed 0": 4, "one seed 1": 2}
    first, second = taken.taken
    taken.started(first)
    assert not taken.take_back(first, 100.0), "there is room for it"

    object.__setattr__(taken.cluster, "cpus", 5.0)  # a node is lost, and the second one with it
    assert taken.take_back(second, 0.0)
    assert taken.release(second) == []
    begun(asking, taken)
    assert workers(taken) == {"one seed 0": 4, "one seed 1": 1}
    object.__setattr__(taken.cluster, "cpus", 4.0)
    third = next(i for i in taken.taken if i != first)
    assert not taken.take_back(third, 100.0), "nothing fits beside the first one: it waits for it"


def test_one_line_says_with_how_many_it_goes_on(toy: dict[str, Any], tmp_path: Path) -> None:
    taken = elastic(toy, tmp_path, cpus=4)
    asking = Asking(taken)
    begun(asking, taken)
    assert workers(taken) == {"one seed 0": 4}
    (tune_id,) = taken.taken
    taken.started(tune_id)
    object.__setattr__(taken.cluster, "cpus", 3.0)
    assert taken.take_back(tune_id, 0.0)
    assert taken.release(tune_id) == [], "it has not ended"
    begun(asking, taken)
    assert workers(taken) == {"one seed 0": 2, "one seed 1": 1}
    said = [e.text for e in taken.heard if isinstance(e, progress.SweepNote)]  # type: ignore[attr-defined]
    assert said == ["one seed 0: goes on with 2 workers instead of 4: so many fit now"]


def test_where_others_hold_the_rest_it_waits_a_moment_before_it_takes_fewer(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    class Shared(Machine):
        def free(self) -> tuple[float, float]:
            return 1.0, 0.0

    taken = elastic(toy, tmp_path, cpus=4, private=False)
    taken.cluster = Shared(False, None)
    object.__setattr__(taken.cluster, "cpus", 4.0)
    asking = Asking(taken)
    asking.suggest("first")
    assert workers(taken) == {"one seed 0": 4}
    assert not taken.take_back("first", 5.0)
    assert taken.take_back("first", 15.0)
    assert taken.release("first") == []
    asking.suggest("again")
    assert workers(taken) == {"one seed 0": 1}, "and not four again"
    assert not taken.take_back("again", 0.0)


def test_a_job_that_is_placed_anew_gets_more_where_there_is_room_again(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    taken = elastic(toy, tmp_path, cpus=1)
    asking = Asking(taken)
    asking.suggest("first")
    taken.started("first")
    assert workers(taken) == {"one seed 0": 1}
    object.__setattr__(taken.cluster, "cpus", 4.0)
    assert taken.take_back("first", 0.0), "its worker was told to leave, and it waits again"
    assert taken.release("first") == []
    asking.suggest("again")
    assert workers(taken) == {"one seed 0": 4}

"""How much a trial occupies, and how much trials of several shapes occupy together."""

from __future__ import annotations

import pytest

from service.resources import Capacity, DeviceHours, Resources

NARROW, WIDE = Resources(), Resources(workers=2, cpus=2, gpus=0.5)


def test_how_many_trials_fit_side_by_side() -> None:
    assert Resources(workers=1, cpus=1, gpus=0).at_once(cpus=4, gpus=0) == 4
    assert Resources(workers=2, cpus=1, gpus=0.5).at_once(cpus=16, gpus=2) == 2
    assert Resources(workers=1, cpus=0.1, gpus=0).at_once(cpus=1, gpus=0) == 10


@pytest.mark.parametrize(
    ("room", "together", "holds"),
    [
        (Capacity(6, 1), [WIDE, NARROW, NARROW], True),
        (Capacity(6, 1), [WIDE, NARROW, NARROW, NARROW], False),
        (Capacity(16, 1), [WIDE, WIDE], False),
        (Capacity(16, 2), [WIDE, WIDE], True),
        (Capacity(16, 2, most=2), [WIDE, WIDE, NARROW], False),
        (Capacity(most=2), [WIDE, WIDE], True),
        (Capacity(0.3), [Resources(cpus=0.1)] * 3, True),
    ],
)
def test_shapes_are_counted_together(
    room: Capacity, together: list[Resources], holds: bool
) -> None:
    assert room.holds(together) == holds


def test_slots_are_those_of_the_smallest_shape() -> None:
    assert Capacity(8, 1).slots(WIDE) == 1
    assert Capacity(8, 1).slots(WIDE, NARROW) == 8
    assert Capacity(8, 1, most=3).slots(WIDE, NARROW) == 3
    assert Capacity(1).slots(WIDE) == 1, "one at least"
    assert Capacity(most=5).slots(WIDE) == 5


def test_hours_are_those_of_each_trials_own_devices() -> None:
    hours = DeviceHours.of([(3600, WIDE), (1800, NARROW)])
    assert (hours.cpu, hours.gpu, hours.bare_cpu) == (4.5, 1.0, 0.5)
    assert hours.kinds == {"GPU", "CPU"}
    assert DeviceHours.of([]).kinds == set()


def test_the_shape_is_what_decides_where_it_fits() -> None:
    assert Resources(on_oom="fail").slot == NARROW.slot
    assert Resources(cpus=2).slot != NARROW.slot
    assert (NARROW.text(), WIDE.text()) == ("1 CPU", "2 x (2 CPU and 0.5 GPU)")

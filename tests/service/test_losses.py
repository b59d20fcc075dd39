"""Whatever Ray says of an actor that is gone, Tune hears that it is gone, and of its last failure the last is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from service.causes import NO_MEMORY, lost
from service.cluster import losses
from service.cluster.losses import losses_are_survived
from service.cluster.ray_log import last_failure


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (OutOfMemoryError("1 worker(s) were killed due to the node running low on memory"), True),
        (NodeDiedError("the node is gone"), True),
        (RayActorError(error_msg="it died"), False),
        (RayTaskError("train", "Traceback", ValueError("no")), False),
        (KeyError("Tune's own"), False),
    ],
)
def test_what_tune_does_not_know_it_hears_as_a_lost_actor(
    said: Exception, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Exception] = []
    monkeypatch.setattr(losses, "_tunes", lambda *given: told.append(given[-1]))
    losses._failed(None, None, said)
    (error,) = told
    assert isinstance(error, RayActorError) == (heard or isinstance(said, RayActorError))
    assert str(error) == str(said)
    assert heard or error is said


def test_tune_is_as_it_was_when_the_last_run_has_ended() -> None:
    def now() -> Any:
        return RayActorManager._actor_task_failed

    before = now()
    with losses_are_survived():
        with losses_are_survived():
            assert now() is losses._failed
        assert now() is losses._failed, "another run is still at work"
    assert now() is before is losses._tunes


def test_the_last_of_several_failures_is_told(tmp_path: Path) -> None:
    log = tmp_path / "error.txt"
    log.write_text(
        "Failure # 1 (occurred at 2026-11-27_16-00-00)\nthe node running low on memory\n"
        "Failure # 2 (occurred at 2026-11-27_16-10-00)\nThe actor died\nbecause it was killed\n"
    )
    assert lost(last_failure(str(log))) == "because it was killed"
    log.write_text(log.read_text().split("Failure # 2")[0])
    assert lost(last_failure(str(log))).startswith(NO_MEMORY)
    assert last_failure(str(tmp_path / "absent")) == last_failure(None) == ""
    assert issubclass(OutOfMemoryError, RayError)

"""Who else is at work while a trial is timed? As many as will train beside it: cores share more than they say."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from trainer.trial import TrialSpec

T = TypeVar("T")
_NICENESS = 15
"""That Ray gives its workers: beside other work of the machine they are slower than a person's own programs."""
_AT_WORK = "at work"


def as_a_worker(work: Callable[[], T]) -> T:
    """Do it in a thread that steps back as Ray's workers do."""
    with ThreadPoolExecutor(1, initializer=_step_back) as pool:
        return pool.submit(work).result()


def _step_back() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not on Linux: nobody steps back
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


@contextlib.contextmanager
def company(
    others: int,
    trial: TrialSpec,
    data_root: Path,
    cache: Path,
    device: str,
    threads: int,
    together: int = 1,
) -> Iterator[None]:
    """While the block runs, others train the same trial: they are at work when it begins, and gone when it ends."""
    with contextlib.ExitStack() as held:
        root = str(data_root.absolute())
        given = [trial.model_dump_json(), root, str(cache), device, threads, together]
        started = [held.enter_context(_companion(given, threads)) for _ in range(others)]
        for one in started:
            assert one.stdout is not None
            one.stdout.readline()  # its first step, or its end
        yield


@contextlib.contextmanager
def _companion(given: list[Any], threads: int) -> Iterator[subprocess.Popen[str]]:
    one = subprocess.Popen(
        [sys.executable, "-m", "service.planning.company"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert one.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            one.stdin.write(json.dumps(given) + "\n")
            one.stdin.flush()
        yield one
    finally:
        one.kill()
        one.communicate()


def main() -> None:
    """A companion: trains until its parent ends it, or is gone."""
    trial, data_root, cache, device, threads, together = json.loads(sys.stdin.readline())
    _step_back()
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import torch

    from service.planning.measuring import stepping
    from trainer.trial import TrialSpec

    torch.set_num_threads(threads)
    spec = TrialSpec.model_validate_json(trial)
    source = spec.data.load(Path(data_root), Path(cache)).to(torch.device(device))
    step = stepping(spec, source, together)
    print(_AT_WORK, flush=True)
    while True:
        step()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

"""What happens in a process that trains several trials? One program, and of each its own messages and its own end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from service.worker import Job, Message, Shared, prepare, trial_steps

if TYPE_CHECKING:
    from trainer.leaving import Told
    from trainer.training import Training

_EVERY_S = 60.0
"""Of training between two checkpoints that several trials write one after the other, at most."""


def run_together(
    jobs: Sequence[Job],
    send: Callable[[str, Message], None],
    leave: Told,
    is_unwanted: Callable[[str], bool],
) -> None:
    """Train several trials in this process, those that are alike as one program; `send` is told whose message it is.

    One that `is_unwanted` after its message ends there. Raises as `run_trial`, once all have left.
    """
    from trainer.distributed import best_device
    from trainer.keeper import Due
    from trainer.leaving import Left
    from trainer.together import Together

    if not jobs:  # its process was lost after the last of them had ended
        return
    prepare(jobs[0])
    due = Due(min(10.0 * len(jobs), _EVERY_S), is_shared=True)
    at = {until: _even(jobs, until) for until in {job.until_images for job in jobs}}

    def member(job: Job, told: Told) -> Generator[Training, None, bool]:
        shared = Shared(partial(is_unwanted, job.key), due, at[job.until_images])
        return trial_steps(job, partial(send, job.key), leave=told, shared=shared)

    members = {job.key: partial(member, job) for job in jobs}
    left: Left | None = None
    with Together(members, best_device("auto"), leave, joint=True, between=due.tick) as words:
        for _, word in words:
            if isinstance(word, Left):
                left = word
            elif isinstance(word, Exception):
                raise word
    if left is not None:
        raise left


def _even(jobs: Sequence[Job], until: int) -> int | None:
    """Where those that go equally far can begin again together; of a home in a store nothing is here yet."""
    from trainer.checkpoint import even

    records = [job.record for job in jobs if job.until_images == until and not job.remote]
    return even(one.directory for one in records if one.result() is None)

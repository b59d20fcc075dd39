"""Why did a trial break, in one line?"""

from __future__ import annotations

import errno

from trainer.files import HeldError

_LESS_MEMORY = "lower train.microbatch (training) or evaluation.batch_size (generation)"
_RAY_KILLED = ("running low on memory", "memory usage threshold", "due to memory pressure")
NO_MEMORY = "its machine ran out of memory"
"""How a reason begins that is not the trial's own."""
_LESS_ON_A_MACHINE = (
    "run fewer trials at once (DIFFSWEEP_CONCURRENCY, or more resources.cpus for each), lower train.microbatch or "
    "evaluation.batch_size, or use machines with more memory"
)
_LOST_PEER = ("closed by peer", "connection reset", "gloo", "nccl", "broken pipe", "socket")


def is_lost_peer(error: BaseException) -> bool:
    """Whether it looks like the loss of another worker, which Ray replaces."""
    import torch.distributed

    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _LOST_PEER)


def cause(error: BaseException) -> str:
    """What went wrong, with the way out where there is one."""
    from trainer.errors import EnvironmentProblem, UserError
    from trainer.memory import ran_out
    from trainer.record import LOCK

    if isinstance(error, UserError | EnvironmentProblem):
        return str(error)
    if isinstance(error, HeldError):
        is_writer = error.path.name == LOCK
        what = "another run is training it" if is_writer else f"{error.path} is locked"
        return f"{what} ({error.holder}): run again when that is done"
    text = f"{type(error).__name__}: {last_line(str(error))}"
    if is_out_of_room(error):
        return f"{text}: make room, then the same command continues"
    return f"{text}: {_LESS_MEMORY}" if ran_out(error) else text


def is_out_of_room(error: BaseException) -> bool:
    """Whether a disk is full, or a quota used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def lost(text: str, killed: int = 0) -> str:
    """Why a process was lost: from what Ray says of it, and how many the kernel killed for lack of memory meanwhile.

    Ray names the kernel's OOM killer as a possible cause of every loss, so that says nothing.
    """
    is_rays = killed_by_ray(text)
    if not (is_rays or killed):
        return last_line(text)
    who = "Ray's memory monitor" if is_rays else "the kernel"
    return f"{NO_MEMORY}, and {who} killed its process: {_LESS_ON_A_MACHINE}"


def killed_by_ray(text: str) -> bool:
    """Whether Ray says that its memory monitor ended a process."""
    return any(word in text.lower() for word in _RAY_KILLED)


def last_line(text: str) -> str:
    """The last line of a text that says anything: of a traceback, the error."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"

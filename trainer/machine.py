"""Where does this process run, and on how much? Its machine; the CPUs and memory that its container is granted."""

from __future__ import annotations

import math
import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux keeps control groups; which ones this process is in."""


def this_machine() -> str:
    """Its name, and what no other has, until it starts again."""
    return f"{socket.gethostname()} {_read(Path('/proc/sys/kernel/random/boot_id')).strip()}"


def processes() -> str:
    """Among which processes a number means one: those of this machine, or of this container on it."""
    try:
        return f"{this_machine()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return this_machine()


def is_alive(pid: int) -> bool:
    """Whether a process of `processes()` has this number."""
    told = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    if told:
        return told[0] not in ("Z", "X")  # whom nobody asked for its end
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def own_cpus() -> int:
    """Whole CPUs, one at least: `docker run --cpus 1.5` gives one."""
    affinity = getattr(os, "sched_getaffinity", None)
    bound: float = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, math.floor(min([bound, *_quotas()]) + 1e-9))


def own_memory() -> int:
    """Bytes: of the machine, or of the smallest group that this process is in."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    bounds = (_bound(group) for group in _groups("memory", ("memory",)))
    return min([whole, *(bound for bound in bounds if bound is not None)])


def oom_kills() -> int:
    """Processes that the kernel has killed for lack of memory so far, on this machine and in this process's groups."""
    files = [Path("/proc/vmstat"), *(group / "memory.events" for group in _groups("memory", ()))]
    lines = (line.split() for file in files for line in _read(file).splitlines())
    return sum(int(words[1]) for words in lines if words[:1] == ["oom_kill"])


def processor() -> str:
    """Its model and what it can do, as the kernel says it: code that was made for this machine runs on equal ones."""
    told = _read(Path("/proc/cpuinfo")).splitlines()
    lines = {line.partition(":")[0].strip(): line for line in reversed(told)}
    named = [lines[name] for name in ("model name", "flags", "Features") if name in lines]
    return " ".join([platform.machine(), *(named or [platform.processor()])])


def _quotas() -> Iterator[float]:
    """CPUs by the quota of every group that this process is in."""
    found = (_quota(group) for group in _groups("cpu", ("cpu", "cpu,cpuacct")))
    return (quota for quota in found if quota is not None)


def _groups(controller: str, mounts: tuple[str, ...]) -> Iterator[Path]:
    """Every group that may bound it, from the root down; both versions of groups."""
    for controllers, path in _memberships(controller):
        for mount in mounts if controllers else ("",):
            group = GROUPS / mount
            for part in ("", *Path(path.strip("/")).parts):
                group = group / part
                yield group


def _memberships(controller: str) -> Iterator[tuple[str, str]]:
    """(controllers, path) of this process's groups; version 2 names no controllers."""
    yield from (
        ("", "/"),
        (controller, "/"),
    )  # a container's own group is often mounted as the root
    for line in _read(OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            yield controllers, path


def _bound(group: Path) -> int | None:
    """Bytes that one group may hold; None without a bound."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _read(group / name).strip()
        if text.isdigit():
            return int(text)
    return None


def _quota(group: Path) -> float | None:
    """CPUs that one group may use; None without a bound."""
    words = _read(group / "cpu.max").split()
    if not words:
        words = [_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = (float(word) for word in words)
    except ValueError:  # `max`, or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""

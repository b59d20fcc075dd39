"""What `BENCHMARKS.md` says: a section for each benchmark, with when, where and how it was run."""

from __future__ import annotations

import datetime
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

FILE = Path(__file__).parents[2] / "BENCHMARKS.md"
HEAD = """# Measured

Written by `make bench`; `python -m tests.benchmarks --write NAME` writes one section again. Ratios are a peer's CPU
seconds over ours, the median of rounds in which both take turns in one process on one thread, with the least and the
most: the machine is shared, so read ratios, not seconds. What a gate says held before anything was timed.
"""


def hardware() -> str:
    """Processor, cores that this process may use, accelerator, and what does the arithmetic."""
    import torch

    named = re.search(r"model name\s*:\s*(.*)", _text("/proc/cpuinfo"))
    cores = len(psutil.Process().cpu_affinity())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{cores} cores of {named[1] if named else platform.processor()}"
        f" ({torch.backends.cpu.get_cpu_capability()}), {psutil.virtual_memory().total / 2**30:.0f} GiB, {device};"
        f" Python {platform.python_version()}, torch {version('torch')}"
    )


def load() -> str:
    """Of the last one and five minutes."""
    return " and ".join(f"{one:.1f}" for one in psutil.getloadavg()[:2])


def section(name: str, title: str, before: str, command: str, lines: Sequence[str]) -> str:
    """All that is known of one run; `before` is the load when it began."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    body = "\n".join(lines)
    return (
        f"## {name}\n\n{title}\n\n{today}, {hardware()}; load before {before}, after {load()}; `{command}`\n\n"
        f"```\n{body}\n```\n"
    )


def put(text: str, name: str, written: str, order: Sequence[str]) -> str:
    """The page with this section, in place of an older one, sections in `order`."""
    found = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    parts = {part.partition("\n")[0].strip(): f"## {part}" for part in found}
    parts[name] = written
    kept = sorted((one for one in parts if one in order), key=order.index)
    return "\n".join([HEAD, *(parts[one].rstrip() + "\n" for one in kept)])


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

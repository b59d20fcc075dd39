"""What went wrong in a job, by what it printed? The line that a person looks for in hundreds."""

from __future__ import annotations

import re

_FAILED = re.compile(r"^FAILED: (.+)$")
"""A trial, in the closing lines of a run."""
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b.*$")
"""The last line of a traceback."""


def what_failed(log: str) -> str | None:
    """The first trial that failed and how many more, else the last error, else the last line; None without a line."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    failed = [found[1] for line in lines if (found := _FAILED.match(line))]
    if failed:
        others = len(failed) - 1
        return failed[0] + (f", and {others} more" if others else "")
    if any(line.startswith("Traceback ") for line in lines):
        raised = [line for line in lines if _RAISED.match(line)]
        if raised:
            return raised[-1]
    return lines[-1] if lines else None

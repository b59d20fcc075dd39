"""What time is it, whatever is done to the machine's clock? Unix time that goes forward, second by second."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine sleeps, where there is such a clock."""
_AHEAD = time.time() - time.clock_gettime(_CLOCK)


def unix() -> float:
    """Seconds since 1970, by the machine's clock as it was when this process began."""
    return _AHEAD + time.clock_gettime(_CLOCK)

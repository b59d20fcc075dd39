"""Where else is a sweep to be looked at? Addresses of its runs in a tracking server's pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Links:
    """Addresses; what has none has no link."""

    experiment: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """By cell and seed."""

"""What was asked so far? The candidates of one study, in a file of the experiment's directory.

A candidate is written before it is trained, once, and the file is always whole. Its result is in the records
of its trials: this file and those records are all that a search knows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.files import write_whole

FOLDER = "search"
"""In the experiment's directory: one file for each study."""


@dataclass(frozen=True)
class Candidate:
    """One setting that is tried, in one cell or in all of them."""

    number: int
    """From 0, in the order in which they were asked."""
    params: dict[str, Any]
    """Dotted path to value."""
    keys: dict[str, list[str]]
    """Cell to the keys of its trials, in the order of the search's seeds; empty where there is no such trial."""
    knew: list[int]
    """The earlier candidates whose results were known when it was asked."""
    fault: str = ""
    """Why its setting makes no trial: then it counts as the worst, and is not trained."""

    def trial_keys(self) -> list[str]:
        """Of all its trials."""
        return [key for keys in self.keys.values() for key in keys]


class Candidates:
    """The file of one study. One driver writes, anybody reads."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> list[Candidate]:
        """All that were asked, in order; none where nothing readable is there."""
        try:
            rows = self._file.read_text(encoding="utf-8").splitlines()
            return [Candidate(**json.loads(row)) for row in rows]
        except (OSError, ValueError, TypeError):
            return []

    def write(self, candidates: Sequence[Candidate]) -> None:
        """All that were asked, the new one too."""
        rows = [json.dumps(asdict(candidate)) + "\n" for candidate in candidates]
        write_whole(self._file, "".join(rows))

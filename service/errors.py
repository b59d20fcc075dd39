"""How does a person learn what went wrong? One or two lines that say where, what, and the way out.

`InputError` (exit code 2) lists problems in what the user wrote. `ServiceError` (exit code 3) is about the
machine or the cluster and always carries the command that mends it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SOME_TRIALS_FAILED, BAD_INPUT, BAD_ENVIRONMENT = 1, 2, 3
_LISTED = 12


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one place; prints as `file:line: path: message`."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.path, self.message) if part)


class InputError(ValueError):
    """What the user wrote cannot be used; every problem found is listed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems
        self.problems = sorted(
            dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line or 0)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ServiceError(RuntimeError):
    """The environment is not fit; `fix` is the command, or the change, that mends it."""

    def __init__(self, message: str, fix: str) -> None:
        self.message, self.fix = message, fix
        super().__init__(f"{message}\n  to fix it: {fix}")


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    names = list(dict.fromkeys(known))
    folded = {_fold(name): name for name in reversed(names)}
    if _fold(word) in folded:
        return folded[_fold(word)]
    near = difflib.get_close_matches(_fold(word), list(folded), n=1, cutoff=0.6)
    if near:
        return folded[near[0]]
    begun = [name for name in names if len(word) > 1 and _fold(name).startswith(_fold(word))]
    return begun[0] if len(begun) == 1 else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """`, did you mean ...?`, or the known words when none is close, or nothing when none is known."""
    names = list(dict.fromkeys(known))
    near = closest(word, names)
    if near is not None:
        return f", did you mean `{near}`?"
    return f"; known: {listing(names)}" if names else ""


def listing(names: Iterable[str]) -> str:
    """The names in backquotes, cut after a dozen."""
    every = list(names)
    shown = ", ".join(f"`{name}`" for name in every[:_LISTED])
    return shown + (f" and {len(every) - _LISTED} more" if len(every) > _LISTED else "")


def _fold(word: str) -> str:
    return word.lower().replace("-", "_").replace(" ", "_")

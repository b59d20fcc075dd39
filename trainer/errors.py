"""Which failures are the user's to mend? Each carries one or two lines that name the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LISTED = 12
_MOST_TOLD = 50
"""Problems of one input that are printed: who has mended those knows the others."""
_LONGEST_PATH, _LONGEST_MESSAGE = 300, 2000


class UserError(ValueError):
    """Something the user wrote is wrong (exit code 2)."""


class DataError(UserError):
    """A data set cannot be read or is unfit for the trial (exit code 2)."""


class EnvironmentProblem(RuntimeError):  # noqa: N818
    """The machine lacks something the trial needs (exit code 3)."""


class CheckpointError(EnvironmentProblem):
    """A checkpoint exists but cannot be used (exit code 3)."""


class TooLittleMemory(EnvironmentProblem):
    """A device has less memory than the trial needs (exit code 3)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one place; prints as `file:line: path: message`."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        path, message = _cut(self.path, _LONGEST_PATH), _cut(self.message, _LONGEST_MESSAGE)
        return plain_text(": ".join(part for part in (where, path, message) if part))


class InputError(UserError):
    """What the user wrote cannot be used; `problems` are all that were found, its text has the first of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems
        self.problems = sorted(
            dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line or 0)
        )
        lines = [str(problem) for problem in self.problems[:_MOST_TOLD]]
        if (more := len(self.problems) - _MOST_TOLD) > 0:
            lines.append(f"and {more:,} more: mend these first")
        super().__init__("\n".join(lines))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def plain_text(text: str) -> str:
    """Text that moves no cursor and changes no colour: what does not print is shown as its escape; lines stay."""
    return "".join(
        c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text.expandtabs(4)
    )


def closest(word: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """The known word that `word` was probably meant to be, or None; `alike` is the least share of equal letters."""
    names = list(dict.fromkeys(known))
    folded = {_fold(name): name for name in reversed(names)}
    if _fold(word) in folded:
        return folded[_fold(word)]
    near = difflib.get_close_matches(_fold(word), list(folded), n=1, cutoff=alike)
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

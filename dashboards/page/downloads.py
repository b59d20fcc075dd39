"""What can be taken from the page? Its tables as files, packed into it, since it has no network to fetch them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dashboards import exports
from dashboards.html import packed
from dashboards.sweep import Sweep
from dashboards.text import counted
from dashboards.verdict.values import Verdicts

MOST_BYTES = 1_200_000
"""Of one packed file, as the base64 of the page."""
_DENSEST = 4
"""Bytes of a packed line of curves, at least: more lines than that allows are not even tried."""


@dataclass(frozen=True)
class File:
    """A file to be taken."""

    name: str
    said: str
    """What is in it."""
    packed: str = ""
    """Its text, by gzip and base64; empty: it is not in the page."""
    command: str = ""
    """What writes it where it is not in the page, or without JavaScript."""


def context(
    sweep: Sweep, verdicts: Verdicts | None, most_bytes: int = MOST_BYTES
) -> dict[str, Any]:
    """What the template says: tables to copy, and files to take."""
    name = re.sub(r"[^\w.-]+", "_", sweep.name)
    copies = [
        {
            "name": f"{name}-verdict.{ending}",
            "title": title,
            "text": exports.export(sweep, verdicts, form),
        }
        for title, ending, form in (("Markdown", "md", "markdown"), ("LaTeX", "tex", "latex"))
    ]
    of_trials = f"one line per trial, {counted(len(sweep.trials), 'line')}"
    files = [_packed(sweep, "trials", f"{name}-trials.csv", sweep.trials, of_trials, most_bytes)]
    if len(sweep.curves):
        files.append(_curves(sweep, name, most_bytes))
    return {"copies": copies, "files": files, "verdict_file": f"{name}-verdict.json"}


def _curves(sweep: Sweep, name: str, most_bytes: int) -> File:
    """All points; where they are too many, those that were measured, without the training loss."""
    every = sweep.curves
    whole = f"one line per number over training, {counted(len(every), 'line')}"
    found = _packed(sweep, "curves", f"{name}-curves.csv", every, whole, most_bytes)
    if found.packed:
        return found
    measured = every[~every["metric"].str.startswith("train/")]
    said = f"measured numbers over training, {counted(len(measured), 'line')}"
    said += f"; with the training loss, {counted(len(every), 'line')}, the page would be too large for it"
    less = _packed(sweep, "curves", f"{name}-curves.csv", measured, said, most_bytes)
    return less if less.packed and len(measured) else found


def _packed(
    sweep: Sweep, of: str, name: str, frame: pd.DataFrame, said: str, most_bytes: int
) -> File:
    command = f"diffsweep compare {shlex.quote(sweep.name)} --format csv --table {of} > {name}"
    if len(frame) * _DENSEST * 4 / 3 > most_bytes:
        return File(name, said, command=command)
    text = packed(exports.csv_of(frame))
    return File(name, said, text if len(text) <= most_bytes else "", command)

"""What do the cells train on? Each data set is read once: its fingerprint, what was found, what it cannot give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from service.experiment.cell import Cell
from trainer.data import AnyData, Outline, Source, held_out_outline
from trainer.data.held_out import in_terms_of
from trainer.errors import InputError, Problem, UserError

Complain = Callable[[str, str], Problem]
"""(cell, message of the trainer) -> what is told to the user."""


def outlines(
    cells: Sequence[Cell], root: Path, cache: Path, complain: Complain
) -> dict[str, Outline]:
    """By the digest of the data's spec. InputError lists everything that would stop each trial of some cell."""
    known: dict[str, Outline] = {}
    problems: list[Problem] = []
    for cell in cells:
        data = cell.trial.data
        try:
            if data.digest() not in known:
                known[data.digest()] = Outline("")  # told once where it cannot be read
                known[data.digest()] = data.outline(root, cache)
            _check_inputs(cell, known[data.digest()], root, cache)
            if cell.trial.evaluation.looks_at_test and known[data.digest()].test is None:
                test = held_out_outline(data, root, cache)
                known[data.digest()] = replace(known[data.digest()], test=test)
                _check_alike(known[data.digest()].source, test.source)
        except UserError as error:
            problems.append(complain(cell.name, str(error)))
    if problems:
        raise InputError(problems)
    return known


def data_lines(cells: Sequence[Cell], known: dict[str, Outline]) -> list[str]:
    """What was found in the users' own sets, with what a person should know of each below it."""
    of: dict[str, tuple[Outline, list[str]]] = {}
    for cell in cells:
        outline = known[cell.trial.data.digest()]
        of.setdefault(outline.fingerprint, (outline, []))[1].append(cell.name)
    lines = []
    for outline, names in of.values():
        if outline.line is not None:
            where = f" of {', '.join(names)}" if len(of) > 1 else ""
            lines += [f"data{where}: {outline.line}", *(f"  {each}" for each in outline.remarks)]
        if outline.test is not None and outline.test.line is not None:
            lines += [f"test split: {outline.test.line}"]
            lines += [f"  {each}" for each in outline.test.remarks]
    return lines


def input_notes(cells: Sequence[Cell], known: dict[str, Outline]) -> list[str]:
    """What a person should know about the networks' inputs and the data, as far as that is outlined."""
    lines = []
    for cell in cells:
        source = known[cell.trial.data.digest()].source
        if source is not None:
            lines += [line for one in cell.trial.network_inputs() for line in one.remarks(source)]
    return list(dict.fromkeys(lines))


def _check_alike(train: Source | None, test: Source | None) -> None:
    if train is not None and test is not None:
        in_terms_of(train.codec, test)


def _check_inputs(cell: Cell, outline: Outline, root: Path, cache: Path) -> None:
    """Raises UserError if the data cannot give what the network is told."""
    inputs = cell.trial.network_inputs()
    if not inputs or not outline.fingerprint:
        return
    data: AnyData = cell.trial.data
    source = data.load(root, cache) if outline.source is None else outline.source
    for one in inputs:
        one.check(source)

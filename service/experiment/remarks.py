"""What should a person know of the cells before spending compute?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from dashboards.text import counted
from service.experiment.answers import Answers
from service.experiment.cell import Cell
from trainer.diffusion.process import Diffusion
from trainer.doubts import doubts
from trainer.errors import listing
from trainer.spec import Spec
from trainer.trial import TrialSpec

MOST_DESCRIBED = 100
"""Objectives of which notes are made: each takes a hundredth of a second, and nobody reads so many."""


def described(cells: Mapping[str, Diffusion]) -> tuple[dict[str, Diffusion], str]:
    """The cells whose objectives are told of, and what is to be said of the others; empty where there are none.

    Where there are too many, one cell of each objective: cells may differ in a learning rate alone.
    """
    if len(cells) <= MOST_DESCRIBED:
        return dict(cells), ""
    distinct: dict[str, str] = {}
    for name, cell in cells.items():
        distinct.setdefault(cell.digest(), name)
    shown = {name: cells[name] for name in list(distinct.values())[:MOST_DESCRIBED]}
    have = f"{len(cells):,} cells have {counted(len(distinct), 'different objective')}"
    which = "one cell of each" if len(shown) == len(distinct) else f"the first {len(shown)}"
    return shown, f"{have}: what is said of them is said of {which}"


def findings(cells: Sequence[Cell], answers: Answers) -> list[str]:
    """What the objective passports, the grids and the numbers of images say of the cells."""
    from trainer.evaluation.enough import few_images

    distinct: dict[str, Cell] = {}
    for cell in cells:  # cells that differ in a learning rate share a passport
        distinct.setdefault(cell.trial.diffusion.digest(), cell)
    described = list(distinct.values())[:MOST_DESCRIBED]
    trials = {cell.name: cell.trial for cell in described}
    of: list[Spec | str] = []
    for name, trial in trials.items():
        of += [name, trial.diffusion, trial.evaluation]
    few = [
        line for cell in cells for line in few_images(cell.trial.evaluation, cell.trial.data.shape)
    ]
    lines = [*answers.ask("findings", of, lambda: _computed(trials)), *dict.fromkeys(few)]
    lines += _guided(cells, answers)
    if len(distinct) > len(described):
        lines.append(
            f"there are {len(distinct):,} different objectives: what is said of them is said of the first "
            f"{MOST_DESCRIBED}"
        )
    return lines


def _computed(trials: Mapping[str, TrialSpec]) -> list[str]:
    from trainer.diffusion.passport import findings as of_passports
    from trainer.evaluation.coverage import coverage_findings

    measured = {name: (trial.diffusion, trial.evaluation) for name, trial in trials.items()}
    cards = {name: trial.diffusion for name, trial in trials.items()}
    return [*of_passports(cards), *coverage_findings(measured)]


def _guided(cells: Sequence[Cell], answers: Answers) -> list[str]:
    """What is to be said of guidance between two levels, once of cells that are generated alike."""
    from trainer.evaluation.coverage import guidance_findings

    lines = []
    distinct: dict[str, Cell] = {}
    for cell in cells:
        distinct.setdefault(cell.trial.diffusion.digest() + cell.trial.evaluation.digest(), cell)
    for cell in list(distinct.values())[:MOST_DESCRIBED]:
        diffusion, evaluation = cell.trial.diffusion, cell.trial.evaluation
        if any(generation.guidance is not None for _, generation in evaluation.generations()):
            given = (cell.name, diffusion, evaluation)
            lines += answers.ask("guided", given, partial(guidance_findings, *given))
    return lines


def remarks(cells: Sequence[Cell]) -> list[str]:
    """Differences between cells that a comparison has to live with."""
    notes = []
    if len({cell.trial.total_images() for cell in cells}) > 1:
        notes.append(
            "cells have different budgets (train.kimg, batch_size): compare them on equal images"
        )
    protocols = {
        cell.trial.evaluation.model_copy(update={"batch_size": 1}).digest() for cell in cells
    }
    if len(protocols) > 1:
        notes.append(
            "cells are evaluated differently: numbers of different protocols are not compared"
        )
    if len({cell.trial.data.digest() for cell in cells}) > 1:
        notes.append("cells are trained on different data: their FIDs have different references")
    return notes


def doubtful(cells: Sequence[Cell]) -> list[str]:
    """What trials of the cells hardly mean, each sentence once, with the cells that it is true of."""
    of: dict[str, list[str]] = {}
    for cell in cells:
        for line in doubts(cell.trial):
            of.setdefault(line, []).append(cell.name)
    return [
        line if len(who) == len(cells) else f"{listing(who)}: {line}" for line, who in of.items()
    ]

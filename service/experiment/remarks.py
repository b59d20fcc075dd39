"""What should a person know of the cells before spending compute?"""

from __future__ import annotations

from collections.abc import Sequence

from service.experiment.comparison import Cell


def findings(cells: Sequence[Cell]) -> list[str]:
    """What the objective passports, the grids and the numbers of images say of the cells."""
    from trainer.diffusion.passport import findings as of_passports
    from trainer.evaluation.coverage import coverage_findings
    from trainer.evaluation.enough import few_images

    distinct: dict[str, Cell] = {}
    for cell in cells:  # cells that differ in a learning rate share a passport
        distinct.setdefault(cell.trial.diffusion.digest(), cell)
    trials = {cell.name: cell.trial for cell in distinct.values()}
    cards = {name: trial.diffusion for name, trial in trials.items()}
    measured = {name: (trial.diffusion, trial.evaluation) for name, trial in trials.items()}
    few = [
        line for cell in cells for line in few_images(cell.trial.evaluation, cell.trial.data.shape)
    ]
    return [*of_passports(cards), *coverage_findings(measured), *dict.fromkeys(few)]


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

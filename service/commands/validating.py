"""`validate`: what an experiment consists of, without training anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.commands.common import (
    AsJson,
    Overrides,
    YamlFile,
    print_findings,
    print_json,
    print_table,
    prose,
    say,
    settings_of,
)
from service.commands.sweeps import opening

if TYPE_CHECKING:
    from service.experiment import Cell, Experiment


def validate(file: YamlFile, override: Overrides = None, as_json: AsJson = False) -> None:
    """Check an experiment and print what it consists of. Nothing is trained; seconds at most."""
    from service import readiness
    from service.command_line import diffsweep
    from service.experiment import Experiment
    from service.experiment.data_sets import data_lines
    from service.experiment.design_notes import design_notes
    from service.experiment.occupying import shapes_lines

    experiment = Experiment.from_yaml(file, override or ())
    readiness.check(experiment, settings_of(None))
    findings = [*experiment.findings(), *design_notes(experiment)]
    if as_json:
        keys = [{"cell": t.cell, "seed": t.seed, "key": t.key} for t in experiment.trials]
        found = {cell.name: _found(experiment, cell) for cell in experiment.cells}
        print_json({**experiment.resolved(), "trials": keys, "data": found, "findings": findings})
        return
    prose(opening(experiment))
    for line in data_lines(experiment.cells, experiment.outlines):
        say(line)
    for line in shapes_lines(experiment.cells):
        prose(line)
    say()
    seeds = ", ".join(map(str, experiment.seeds))
    if len(experiment.looks) > 1:
        seeds = f"looks at {', '.join(map(str, experiment.looks))}"
    rows = [
        [cell.name, seeds, _budget(cell), _evaluations(cell), _changes(cell)]
        for cell in experiment.cells
    ]
    print_table(("cell", "seeds", "budget", "evaluations", "changes"), rows)
    say()
    levels = [[cell.name, *_levels(experiment, cell)] for cell in experiment.cells]
    print_table(("cell", "log-SNR trained", "log-SNR of the grid"), levels)
    say()
    print_findings(findings)
    costs = diffsweep("plan", experiment.file)
    say(f"{experiment.file} is valid. What it costs here: {costs}")


def _found(experiment: Experiment, cell: Cell) -> dict[str, Any]:
    """What is in the cell's data, as JSON data."""
    outline = experiment.outlines[cell.trial.data.digest()]
    remarks = list(outline.remarks)
    return {"fingerprint": outline.fingerprint, "found": outline.line, "remarks": remarks}


def _budget(cell: Cell) -> str:
    trial = cell.trial
    return f"{trial.total_images() / 1000:g} kimg = {trial.steps()} x {trial.train.batch_size}"


def _evaluations(cell: Cell) -> str:
    evaluation, count = cell.trial.evaluation, len(cell.trial.evaluation_points())
    full, rung, draws = evaluation.full, evaluation.rung, evaluation.draws
    drawn = f", {draws} draws" if draws > 1 else ""
    if rung is None:
        return f"{count} of {full.images} images x {full.steps} steps{drawn}"
    return f"{count} of {rung.images} x {rung.steps}, last also {full.images} x {full.steps}{drawn}"


def _levels(experiment: Experiment, cell: Cell) -> list[str]:
    """The noise levels that are trained, and the grid of the full protocol."""
    from service.experiment.answers import Answers
    from trainer.evaluation.coverage import coverage, span

    diffusion, evaluation = cell.trial.diffusion, cell.trial.evaluation

    def spans() -> list[str]:
        full = coverage(diffusion, evaluation)[0]
        return [span(full.trained), span(full.grid)]

    return Answers(experiment.home).ask("levels", [diffusion, evaluation], spans)


def _changes(cell: Cell) -> str:
    """The overrides as they were written; those of a control by their labels, for they are written out."""
    changes = [f"{path}: {_written(cell, path, value)}" for path, value in cell.overrides.items()]
    return "; ".join(changes) or "(the base)"


def _written(cell: Cell, path: str, value: Any) -> str:
    from service.experiment.spec import TWIN
    from trainer.spec import Spec
    from trainer.yaml.writer import yaml_text

    member: Any = cell.trial
    for part in path.split("."):
        member = getattr(member, part, None)
    is_label = cell.name.endswith(TWIN) and isinstance(member, Spec)
    return member.label() if is_label else yaml_text(value)

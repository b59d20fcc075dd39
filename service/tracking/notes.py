"""What does MLflow say in words of an experiment, its cells and its trials, before there is a verdict? Markdown.

`:experiment:` and `:run:` stand for MLflow's ids, which are known when it is delivered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.experiment import Cell, Experiment

REPORT = "report.html"
"""The page among the artifacts of the sweep's run."""
REPORT_LINK = f"#/experiments/:experiment:/runs/:run:/artifacts/{REPORT}"
VIEW = "diffsweep"
"""Id of the saved view that this experiment brings along (see `view`)."""
VIEW_LINK = f"#/experiments/:experiment:/runs?viewStateShareKey={VIEW}&compareRunsMode=CHART"
OURS = f"viewStateShareKey={VIEW}"
"""What tells a description of ours from one that a person wrote."""
LINKS = f"[Report]({REPORT_LINK}) · [Cells in charts]({VIEW_LINK})"
STEPS = "Steps are training images: 1,000 are 1 kimg."
OF_TRIAL = (
    f"{STEPS} The slider of the pictures begins with the first one, which stands at step 0 too. What was set, with"
    " nothing left out: [spec/trial.json](#/experiments/:experiment:/runs/:run:/artifacts/spec/trial.json)."
)


def of_sweep(experiment: Experiment) -> str:
    """What is asked, until there is an answer."""
    from service.experiment.design_notes import seeds_phrase

    cells = len(experiment.cells)
    asked = f"{cells} cell{'s' * (cells != 1)} x {seeds_phrase(experiment)}, {experiment.metric}"
    if experiment.baseline is not None:
        asked += f" against `{experiment.baseline}`"
    return f"{asked}. Verdict and report come when the trials have ended.\n\n[Cells in charts]({VIEW_LINK})"


def of_cell(experiment: Experiment, cell: Cell) -> str:
    """What the cell is, and what its curves are."""
    from trainer.yaml.writer import yaml_text

    changes = [f"- `{path}: {yaml_text(value)}`" for path, value in cell.overrides.items()]
    what = "\n".join(changes) or "- the base itself"
    if cell.name == experiment.baseline:
        what += ", the baseline" if not changes else "\n- the baseline"
    return (
        f"{what}\n\nIts curves are means over seeds with their 95 % intervals (`ci_low`, `ci_high`), as far as every"
        f" seed has a number; `so_far/...` are over the seeds that have ended, by their number. {STEPS}"
    )


def placed(text: str, experiment_id: str, run_id: str) -> str:
    """The text with MLflow's ids, of the experiment and of the run that it is about."""
    return text.replace(":experiment:", experiment_id).replace(":run:", run_id)

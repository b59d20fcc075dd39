"""`run`, `validate`: from a YAML to trained trials, or only as far as wanted."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from dashboards.text import names
from service.commands.common import (
    AsJson,
    AtOnce,
    Home,
    Overrides,
    YamlFile,
    print_findings,
    print_json,
    print_table,
    prose,
    say,
    settings_of,
)
from service.commands.compare import print_comparison

if TYPE_CHECKING:
    from service.experiment import Cell, Experiment
    from service.outcome import Outcome
    from service.results import Judged
    from service.settings import Settings


def run(
    file: YamlFile,
    override: Overrides = None,
    home: Home = None,
    at_once: AtOnce = None,
    as_json: AsJson = False,
) -> None:
    """Train what is left of an experiment, then compare, judge and report.

    Finished trials are skipped and broken ones continue from their checkpoint: the same command
    submits, resumes and extends. Exit code 1 says that some trials failed; the rest is judged.
    """
    from service import launch, readiness, signals
    from service.ahead import read_ahead
    from service.board import Board
    from service.experiment import Experiment
    from service.live_table import renderer
    from service.remote.home import look_around
    from service.sole_driver import refuse_second
    from service.usage import check_quota

    stop = threading.Event()
    with signals.interruptible(stop):
        settings = settings_of(home, concurrency=at_once)
        experiment = Experiment.from_yaml(file, override or (), home=settings.home)
        settings.prepare()
        look_around(settings)
        check_quota(settings)
        refuse_second(settings, experiment.name)
        readiness.make_ready(experiment, settings)
        if not as_json:
            prose(opening(experiment))
            print_findings([*experiment.findings(), *_news(experiment, settings)])
        stream = sys.stderr if as_json else sys.stdout
        with _with_the_way_on(experiment, settings, as_json):
            with renderer(Board.of(experiment, settings), stream) as show:
                outcome = launch.run(experiment, settings, read_ahead(show), stop)
            from service import results  # imported by now

            judged = results.judged(experiment, settings, results.collect(experiment, settings))
        _notify(experiment, settings, judged)
        if as_json:
            _print(experiment, settings, outcome, judged)
        else:
            _say(experiment, settings, outcome, judged)
    raise typer.Exit(outcome.exit_code)


@contextlib.contextmanager
def _with_the_way_on(experiment: Experiment, settings: Settings, as_json: bool) -> Iterator[None]:
    """Where a full disk keeps even the end from being written, a person is told how to go on."""
    from service.causes import is_out_of_room
    from service.command_line import continuation

    try:
        yield
    except OSError as error:
        if is_out_of_room(error) and not as_json:
            say(f"continue: {continuation(experiment.file, experiment.options, settings)}")
        raise


def _news(experiment: Experiment, settings: Settings) -> list[str]:
    """What is new since the last run."""
    from service.experiment.delta import delta

    since = delta(experiment, settings.experiment(experiment.name))
    return [] if since is None else since.sentences(experiment.name)


def _notify(experiment: Experiment, settings: Settings, judged: Judged) -> None:
    from dashboards.verdict.sentences import headline
    from service.notify import Notifier

    with contextlib.closing(Notifier.of(experiment, settings)) as notifier:
        if judged.verdicts is not None:
            told = judged.to_dict()
            more = {name: told[name] for name in ("metric", "baseline", "verdicts")}
            notifier.tell("verdict", headline(judged.verdicts), more)


def _print(experiment: Experiment, settings: Settings, outcome: Outcome, judged: Judged) -> None:
    """After a run, as JSON."""
    from service import results
    from service.exporting import export_as_asked
    from service.remote.home import publish

    report, _ = results.deliver(experiment, settings, judged)
    asked = export_as_asked(experiment, settings, judged)
    note = publish(settings, experiment.name)
    place = settings.shown(report) if note is None else str(report)
    data = {"outcome": outcome.summary(), "report": place, **judged.to_dict()}
    data |= {} if asked is None else asked.summary()
    print_json(data | ({} if note is None else {"undelivered": note}))


def _say(experiment: Experiment, settings: Settings, outcome: Outcome, judged: Judged) -> None:
    """After a run, for a person; the way on also where the disk is full."""
    from service.command_line import continuation

    _tell(outcome)
    try:
        _conclude(experiment, settings, judged)
    finally:
        if outcome.interrupted or outcome.failed:
            say(f"continue: {continuation(experiment.file, experiment.options, settings)}")


def _conclude(experiment: Experiment, settings: Settings, judged: Judged) -> None:
    """After a run: table, verdict, report and where to look further."""
    from dashboards.verdict.sentences import headline
    from service.exporting import export_as_asked
    from service.remote.home import publish
    from service.results import deliver
    from service.tracking.server import ui_command
    from service.tracking.uploader import waiting_note

    say()
    print_comparison(judged)
    say()
    if judged.verdicts is not None:
        prose(f"verdict: {headline(judged.verdicts)}")
    else:
        prose(f"no verdict: {judged.refusal}")
    say()
    report, left = deliver(experiment, settings, judged)
    asked = export_as_asked(experiment, settings, judged)
    undelivered = publish(settings, experiment.name)
    say(f"report:  {settings.shown(report) if undelivered is None else report}")
    say(f"MLflow:  {ui_command(settings)}")
    if left:
        prose(f"note: {waiting_note(settings, experiment.name, left)}")
    if undelivered is not None:
        prose(f"note: {undelivered}")
    for line in [] if asked is None else asked.lines():
        say(line)


def _tell(outcome: Outcome) -> None:
    """What happened to the trials, the bad news by name."""
    say(outcome.text())
    if outcome.costs is not None:
        prose(outcome.costs.text())
    for cell, reason in outcome.stopped.items():
        prose(f"{cell}: {reason}")
    if outcome.budget is not None:
        prose(f"note: {outcome.budget}")
    for failure in [*outcome.diverged, *outcome.failed]:
        log = f" (log: {failure.log})" if failure.log else ""
        say(f"FAILED: {failure.cell} seed {failure.seed}: {failure.reason}{log}")
    if outcome.untuned:
        say(
            f"nothing is compared: the search found no setting that works for {names(outcome.untuned)}"
        )


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


def opening(experiment: Experiment) -> str:
    """The experiment in one line."""
    from service.experiment.design_notes import seeds_phrase
    from service.search.standing import before

    cells, looks = len(experiment.cells), experiment.looks
    counts = [f"{cells * n}" for n in dict.fromkeys((looks[0], looks[-1]))]
    text = f"{experiment.name}: {cells} cell{_s(cells)} x {seeds_phrase(experiment)}"
    text += f" = {' to '.join(counts)} trial{_s(cells * looks[-1])}"
    if experiment.baseline is not None:
        text += f", {experiment.metric} against `{experiment.baseline}`"
    return text + before(experiment)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


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

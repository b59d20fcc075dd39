"""`run`: from a YAML to trained trials, a verdict and a report."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

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
    prose,
    say,
    settings_of,
)
from service.commands.compare import print_comparison
from trainer import terminal

if TYPE_CHECKING:
    from service.experiment import Experiment
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
    from service import signals
    from service.ahead import is_new, read_ahead
    from service.cluster import forkserver

    stop = threading.Event()
    with contextlib.ExitStack() as held:
        held.enter_context(signals.interruptible(stop))
        held.enter_context(terminal.outlived())
        settings = settings_of(home, concurrency=at_once)
        held.enter_context(forkserver.begun(is_new(file, settings)))  # before all other imports
        from service import launch, readiness
        from service.board import Board
        from service.experiment import Experiment
        from service.live_table import renderer
        from service.remote.home import look_around
        from service.sole_driver import refuse_second
        from service.usage import check_quota

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

"""`compare`, `report`: look at the results of an experiment, finished or not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.common import (
    AsJson,
    Home,
    Overrides,
    Target,
    find,
    print_json,
    print_table,
    prose,
    say,
    settings_of,
)

if TYPE_CHECKING:
    from dashboards.verdict.evidence import Row
    from dashboards.verdict.values import Measure, Verdicts
    from service.results import Judged
    from service.settings import Settings

_PLAIN = ("sign-flip", "constant", "none")
"""Intervals that need no name beside them."""


def compare(
    target: Target,
    override: Overrides = None,
    home: Home = None,
    metric: Annotated[str | None, typer.Option(help="Judge by this metric instead.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Compare with this cell instead.")] = None,
    margin: Annotated[float | None, typer.Option(min=0.0, help="Relative margin of SAME.")] = None,
    as_json: AsJson = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", help="markdown, latex, csv or json: only a table."
        ),
    ] = None,
    table: Annotated[
        str,
        typer.Option("--table", metavar="TABLE", help="With --format: verdict, trials or curves."),
    ] = "verdict",
) -> None:
    """Print the comparison of an experiment's finished trials, and the verdict."""
    from service import results
    from service.remote.home import remember

    if form is not None or table != "verdict":
        _check_format(form, table)
    settings = settings_of(home)
    experiment = find(target, override, settings)
    sweep = results.collect(
        experiment,
        settings,
        metric=metric,
        baseline=baseline,
        margin=margin,
        whole=table == "curves",
    )
    asked = metric is not None or baseline is not None
    judged = results.judged(
        experiment, settings, sweep, strict=asked
    )  # what was typed and cannot be is an error
    remember(settings, experiment.name)
    if as_json or (form, table) == ("json", "verdict"):
        print_json(judged.to_dict())
        return
    if form is not None:
        from dashboards.exports import export

        print(export(judged.sweep, judged.verdicts, form, table), end="")
        return
    print_comparison(judged)
    _say_verdict(judged)


def _say_verdict(judged: Judged) -> None:
    """A sentence for each cell, what the words rest on, and the verdict; or why there is none."""
    from dashboards.verdict.outlook import looks
    from dashboards.verdict.sentences import comparison_sentence, headline
    from dashboards.verdict.spread_sentences import condition, sampling_sentences

    say()
    if judged.verdicts is None:
        prose(f"no verdict: {judged.refusal}")
        _say_budget(judged)
        return
    for comparison in judged.verdicts.comparisons:
        prose(comparison_sentence(comparison))
    prose(looks(judged.verdicts.guarantee))
    _say_budget(judged)
    if judged.hint:
        prose(judged.hint)
    if depends := condition(judged.spreads):
        say()
        prose(depends)
    if sampled := sampling_sentences(judged.spreads):
        say()
        for line in sampled:
            prose(line)
    say()
    prose(f"verdict: {headline(judged.verdicts)}")


def _check_format(form: str | None, table: str) -> None:
    """Refuse what is misspelled before anything is read."""
    from dashboards.exports import FORMATS, TABLES
    from trainer.errors import UserError, suggestion

    if form is None:
        raise UserError(f"--table {table} needs a --format: {', '.join(FORMATS)}")
    for option, word, known in (("--format", form, FORMATS), ("--table", table, TABLES)):
        if word not in known:
            raise UserError(f"{option} {word} is unknown{suggestion(word, known)}")


def _say_budget(judged: Judged) -> None:
    if judged.budget is not None:
        prose(f"note: {judged.budget}")


def report(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[EXPERIMENT]", help="YAML file, or name of one that was run."),
    ] = None,
    override: Overrides = None,
    home: Home = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="FILE",
            help="Write nothing: do the runs still say what this page says?",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report again, from the trials as they are now: one HTML file that needs no network.

    With --check, exits 1 and lists the differences when the runs no longer support a claim of a page.
    """
    from service import results
    from service.remote.home import remember
    from trainer.errors import UserError

    settings = settings_of(home)
    if check is not None:
        _check_page(check, target, override, settings, as_json)
        return
    if target is None:
        raise UserError("whose report? Name an experiment, or a page with --check FILE")
    experiment = find(target, override, settings)
    judged = results.judged(experiment, settings, results.collect(experiment, settings))
    path = results.write_report(experiment, settings, judged, out)
    undelivered = remember(settings, experiment.name)
    place = settings.shown(path) if undelivered is None else str(path)
    if as_json:
        more = {} if undelivered is None else {"undelivered": undelivered}
        print_json({"report": place, **more})
    else:
        say(place)


def _check_page(
    file: Path,
    target: str | None,
    override: list[str] | None,
    settings: Settings,
    as_json: bool,
) -> None:
    from service.checking import check, read_claims

    said = read_claims(file)
    found = check(said, find(target or said["experiment"], override, settings), settings)
    if as_json:
        print_json({"holds": found.holds, **asdict(found)})
    else:
        for line in [*found.differences, found.summary]:
            say(line)
    if not found.holds:
        raise typer.Exit(1)


def print_comparison(judged: Judged) -> None:
    """One row per cell: its mean, the paired difference and the verdict; then cells not compared.

    Under further protocols a cell has one more row for each, and a line for each comparison of it.
    """
    from dashboards.metrics import heading
    from dashboards.verdict.row_wording import unlike_sentences
    from service.search.standing import sentence as said

    metric, verdicts = heading(judged.sweep.metric, judged.sweep.space), judged.verdicts
    headings = ["cell", "seeds", metric, "against", "difference", "95 % CI", "p", "verdict"]
    rows = [_row(judged, cell) for cell in judged.sweep.cells]
    if verdicts is None or not verdicts.rows:
        headings.remove("against")
        rows = [[*row[:3], *row[4:]] for row in rows]
    else:
        rows += _further(judged, verdicts)
    print_table(headings, rows, right=f"seeds|{metric}|difference")
    for refusal in verdicts.refused if verdicts is not None else ():
        prose(f"`{refusal.cell}` is not compared: {refusal.reason}")
    for sentence in unlike_sentences(verdicts) if verdicts is not None else ():
        prose(sentence)
    for found in judged.sweep.tuning:
        prose(said(found))


def _further(judged: Judged, verdicts: Verdicts) -> list[list[str]]:
    from dashboards.verdict.row_wording import table_lines

    return [
        [*_numbers(judged, row), *_effect("baseline", "", None)]
        if compared is None
        else [
            *_numbers(judged, row),
            *_effect(compared.word, compared.against.name, compared.final),
        ]
        for row, compared in table_lines(verdicts)
    ]


def _numbers(judged: Judged, row: Row) -> list[str]:
    from dashboards import text
    from dashboards.verdict.comparable import finals
    from dashboards.verdict.wording import mean_and_spread

    evidence = judged.sweep.evidence
    values = list(finals(evidence, row.metric)[row.cell].values())
    mean = " ± ".join(filter(None, mean_and_spread(values)))
    return [row.name, text.share(len(values), len(evidence.seeds)), mean]


def _row(judged: Judged, cell: str) -> list[str]:
    from dashboards.verdict.evidence import Row

    evidence, verdicts = judged.sweep.evidence, judged.verdicts
    row = _numbers(judged, Row(cell, evidence.metric))
    if verdicts is None:
        return [*row, *_effect("", "", None)]
    comparison = next((c for c in verdicts.comparisons if c.cell == cell), None)
    if comparison is not None:
        return [*row, *_effect(comparison.word, comparison.baseline, comparison.final)]
    other = "stopped" if cell in evidence.stopped else "not compared"
    return [*row, *_effect("baseline" if cell == verdicts.baseline else other, "", None)]


def _effect(word: str, against: str, measure: Measure | None) -> list[str]:
    from dashboards import text
    from dashboards.verdict.wording import ends_text, size

    if measure is None:
        return [against, "", "", "", word]
    method = "" if measure.interval.method in _PLAIN else f"{measure.interval.method}, "
    ends = f"{ends_text(measure)} ({method}n = {measure.interval.n})"
    p = "" if measure.p_adjusted is None else text.bare_p(measure.p_adjusted)
    return [against, size(measure), ends, p, word]

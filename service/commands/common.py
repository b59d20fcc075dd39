"""What do all commands share? Options, tables, JSON, and finding the experiment that is meant."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.commands.completing import experiments, yaml_files

if TYPE_CHECKING:
    from rich.console import Console

    from service.experiment import Experiment
    from service.settings import Settings

_PIPE_WIDTH = 140

YamlFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="YAML of an experiment.", autocompletion=yaml_files)
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help="YAML file, or name of one that was run.",
        autocompletion=experiments,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="PATH=VALUE",
        help="Replace a value of the YAML, such as -o train.kimg=20 or -o seeds=6. Repeatable.",
    ),
]
Home = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Where results live, also s3://bucket/prefix [DIFFSWEEP_HOME, else ./runs].",
    ),
]
AtOnce = Annotated[
    int | None,
    typer.Option("--at-once", min=1, metavar="N", help="At most N trials side by side."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def console(stderr: bool = False) -> Console:
    """A rich console that does not break lines of piped output at 80 characters."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else width(), highlight=False)


def width() -> int:
    """Columns that a table may have."""
    columns = shutil.get_terminal_size().columns
    return columns if sys.stdout.isatty() else max(_PIPE_WIDTH, columns)


def say(text: str = "") -> None:
    """A plain line, never wrapped or coloured: paths and commands stay copyable."""
    print(text, flush=True)


def prose(text: str, indent: str = "") -> None:
    """A sentence: on a terminal it is broken at words, never before a unit; in a pipe it is one line.

    Further lines begin with `indent`.
    """
    if not sys.stdout.isatty():
        say(text)
        return
    width = max(40, shutil.get_terminal_size().columns)
    kept = re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<] )|(?<=\bp [=<]) (?=\d)", "\xa0", text)
    filled = textwrap.fill(
        kept, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    say(filled.replace("\xa0", " "))


def print_json(data: Any) -> None:
    """Data as JSON; what is not finite becomes null."""
    print(json.dumps(finite(data), indent=2))


def finite(data: Any) -> Any:
    """The same data without NaN and infinity, which JSON lacks."""
    if isinstance(data, dict):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    """A borderless table; `right` names the headings of right-aligned columns, split by `|`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        justify: Literal["right", "left"] = "right" if heading in right.split("|") else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def print_findings(lines: Sequence[str]) -> None:
    """What a person should read before spending compute."""
    for line in lines:
        prose(f"note: {line}", indent="      ")


def settings_of(home: Path | str | None = None, **more: Any) -> Settings:
    """The environment's settings with the command line's on top; from here on files are as private as they say."""
    from service.settings import load

    settings = load(home=home, **more)
    settings.keep_private()
    return settings


def find(target: str, overrides: Sequence[str] | None, settings: Settings) -> Experiment:
    """The experiment of a YAML file, or the one of that name that was run last."""
    from service.experiment import Experiment
    from service.experiment.saved import SAVED, read_saved
    from service.remote.home import look_around, look_at
    from trainer.errors import InputError, Problem, suggestion

    look_around(settings)
    if Path(target).suffix in (".yaml", ".yml") or os.path.isfile(target):
        experiment = Experiment.from_yaml(target, overrides or (), home=settings.home)
        look_at(experiment, settings)
        return experiment
    saved = settings.experiment(target) / SAVED
    if os.path.isfile(saved):
        if overrides:
            message = "-o changes a YAML file, not an experiment that was run: name the file"
            raise InputError([Problem(target, None, "", message)])
        experiment = read_saved(saved.parent)
        look_at(experiment, settings)
        return experiment
    known = [path.parent.name for path in settings.home.glob(f"experiments/*/{SAVED}")]
    message = f"is neither a YAML file nor an experiment in {settings.place}"
    raise InputError([Problem(target, None, "", message + suggestion(target, known))])

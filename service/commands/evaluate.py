"""`evaluate`: a model under any protocol, or samples that lie in files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.commands.common import AsJson, Home, print_json, print_table, say, settings_of
from service.commands.sample import Cell, Device, Measured, Seed, bar

if TYPE_CHECKING:
    from service.models import Found
    from service.settings import Settings
    from trainer.evaluation.evaluator import Measurement
    from trainer.trained import Trained

What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="A model (key or its beginning, directory, experiment with --cell and --seed); or samples: a folder of "
        "images, or an npz with arr_0.",
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="MODEL",
        help="The model whose data and protocol samples are measured by (the one that made them, where it is known).",
    ),
]
Protocol = Annotated[
    Literal["full", "rung"],
    typer.Option("--protocol", help="Of a model: the reported one, or the cheap one of its curve."),
]


Averages = Annotated[
    list[str] | None,
    typer.Option(
        "--average",
        metavar="NAME",
        help="Measure this average of the weights instead, as a row `eval/fid-ema-NAME`: one of the trial's `ema`, or "
        "one that `python -m trainer.averages DIRECTORY --sigma-rel 0.08 --name NAME` made afterwards. Repeatable.",
    ),
]


def evaluate(
    what: What,
    cell: Cell = None,
    seed: Seed = None,
    average: Averages = None,
    against: Against = None,
    protocol: Protocol = "full",
    override: Measured = None,
    device: Device = "auto",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Measure a trained model, or saved samples, with the code of training's own evaluation.

    With nothing changed a model gets the numbers of its training; -o evaluation.full.steps=50 measures it otherwise,
    under another protocol id. Numbers of different ids are not comparable.
    """
    settings = settings_of(home)
    saved = Path(what) if _holds_samples(what) else None
    if saved is not None and average:
        raise _mistake("--average", "is of a model; these are samples, which nothing changes")
    if saved is None and against is not None:
        raise _mistake("--against", "is for samples; a model is measured by its own data")
    found = _found(what if saved is None else against or _maker(saved), settings, cell, seed)
    rows: list[Measurement] = []
    names: Sequence[str | None] = average or [None]
    for name in names:
        trained = _trained(found, name, override or [], device)
        if saved is not None:
            rows.append(_of_samples(trained, saved, settings))
        else:
            rows.append(_of_model(trained, protocol, settings, name))
    if as_json:
        print_json(_as_data(rows, found, trained, saved))
    else:
        _show(rows)


def _holds_samples(what: str) -> bool:
    from trainer.record import TRIAL

    if os.path.isdir(what):
        return not os.path.isfile(os.path.join(what, TRIAL))
    return what.endswith(".npz")


def _maker(saved: Path) -> str:
    """The key of the trial that drew these samples."""
    from trainer.exchange.folder import story_of

    story = story_of(saved) if saved.exists() else None
    if story is None:
        message = "nobody wrote down which model made these samples: name one with --against"
        raise _mistake(str(saved), message if saved.exists() else "is not there")
    return str(story["trial"])


def _mistake(where: str, message: str) -> Exception:
    from trainer.errors import InputError, Problem

    return InputError([Problem(where, None, "", message)])


def _found(target: str, settings: Settings, cell: str | None, seed: int | None) -> Found:
    from service.models import find_model

    return find_model(target, settings, cell, seed)


def _trained(found: Found, average: str | None, overrides: Sequence[str], device: str) -> Trained:
    from dataclasses import replace

    from trainer.exchange.changes import remeasured
    from trainer.trained import Trained

    trained = Trained.load(found.record, device, average)
    return replace(trained, trial=remeasured(trained.trial, overrides))


def _of_model(
    trained: Trained, protocol: Literal["full", "rung"], settings: Settings, average: str | None
) -> Measurement:
    from trainer.evaluation.averages import of_average
    from trainer.exchange.measuring import measure_model

    data = settings.data or Path()
    with bar("images") as watch:
        measured = measure_model(trained, settings.cache, data, protocol, watch)
    usual = trained.trial.averages()[0].called()
    return measured if average in (None, usual) else of_average(measured, average)


def _of_samples(trained: Trained, saved: Path, settings: Settings) -> Measurement:
    from trainer.exchange.measuring import measure_images, saved_images

    images = saved_images(saved, trained.codec)
    return measure_images(trained, images, settings.cache, settings.data or Path())


def _show(found: Sequence[Measurement]) -> None:
    rows = []
    for measured, name, value in [(m, n, v) for m in found for n, v in m.metrics.items()]:
        draws = measured.draws[name]
        each = ", ".join(f"{one:.5g}" for one in draws) if len(draws) > 1 else ""
        rows.append([name, f"{value:.5g}", measured.protocol[name], each])
    headings = ("metric", "value", "protocol", "by noise")
    wide = 4 if any(row[3] for row in rows) else 3
    print_table(headings[:wide], [row[:wide] for row in rows], right="value")
    if not all(measured.finite for measured in found):
        say("note: some samples are not finite, so there are no numbers")


def _as_data(
    rows: Sequence[Measurement], found: Found, trained: Trained, saved: Path | None
) -> dict[str, object]:
    return {
        "trial": found.record.directory.resolve().name,
        "images_seen": trained.images,
        "samples": None if saved is None else str(saved),
        "metrics": {name: value for one in rows for name, value in one.metrics.items()},
        "draws": {name: values for one in rows for name, values in one.draws.items()},
        "protocol": {name: identifier for one in rows for name, identifier in one.protocol.items()},
        "seconds": sum(one.seconds for one in rows),
    }

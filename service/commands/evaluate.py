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


def evaluate(
    what: What,
    cell: Cell = None,
    seed: Seed = None,
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
    target = what if saved is None else against or _maker(saved)
    trained, found = _model(target, settings, cell, seed, override or [], device)
    if saved is not None:
        measured = _of_samples(trained, saved, settings)
    else:
        if against is not None:
            raise _mistake("--against", "is for samples; a model is measured by its own data")
        measured = _of_model(trained, protocol, settings)
    if as_json:
        print_json(_as_data(measured, found, trained, saved))
    else:
        _show(measured)


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


def _model(
    target: str,
    settings: Settings,
    cell: str | None,
    seed: int | None,
    overrides: Sequence[str],
    device: str,
) -> tuple[Trained, Found]:
    from dataclasses import replace

    from service.models import find_model
    from trainer.exchange.changes import remeasured
    from trainer.trained import Trained

    found = find_model(target, settings, cell, seed)
    trained = Trained.load(found.record, device)
    return replace(trained, trial=remeasured(trained.trial, overrides)), found


def _of_model(
    trained: Trained, protocol: Literal["full", "rung"], settings: Settings
) -> Measurement:
    from trainer.exchange.measuring import measure_model

    with bar("images") as watch:
        return measure_model(trained, settings.cache, settings.data or Path(), protocol, watch)


def _of_samples(trained: Trained, saved: Path, settings: Settings) -> Measurement:
    from trainer.exchange.measuring import measure_images, saved_images

    images = saved_images(saved, trained.codec)
    return measure_images(trained, images, settings.cache, settings.data or Path())


def _show(measured: Measurement) -> None:
    rows = []
    for name, value in measured.metrics.items():
        draws = measured.draws[name]
        each = ", ".join(f"{one:.5g}" for one in draws) if len(draws) > 1 else ""
        rows.append([name, f"{value:.5g}", measured.protocol[name], each])
    headings = ("metric", "value", "protocol", "by noise")
    wide = 4 if any(row[3] for row in rows) else 3
    print_table(headings[:wide], [row[:wide] for row in rows], right="value")
    if not measured.finite:
        say("note: some samples are not finite, so there are no numbers")


def _as_data(
    measured: Measurement, found: Found, trained: Trained, saved: Path | None
) -> dict[str, object]:
    return {
        "trial": found.record.directory.resolve().name,
        "images_seen": trained.images,
        "samples": None if saved is None else str(saved),
        "metrics": measured.metrics,
        "draws": measured.draws,
        "protocol": measured.protocol,
        "seconds": measured.seconds,
    }

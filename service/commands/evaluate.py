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
    from trainer.evaluation.measurement import Measurement
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


Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="Measure this instead of the protocol's own: fid, kid, bpd, nll ..., several with commas, or a mapping "
        "such as '{kind: bpd, images: 1000}'. Repeatable.",
    ),
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
    metric: Metrics = None,
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
    from trainer.exchange.measuring import measure_images, saved_images

    settings = settings_of(home)
    saved = Path(what) if _holds_samples(what) else None
    if saved is not None and average:
        raise _mistake("--average", "is of a model; these are samples, which nothing changes")
    if saved is None and against is not None:
        raise _mistake("--against", "is for samples; a model is measured by its own data")
    found = _found(what if saved is None else against or _maker(saved), settings, cell, seed)
    overrides = [*_of_metrics(metric or []), *(override or [])]
    rows: list[Measurement] = []
    count: int | None = None
    names: Sequence[str | None] = average or [None]
    for name in names:
        trained = _with_errors(_trained(found, name, overrides, device))
        if saved is not None:
            images = saved_images(saved, trained.codec)
            rows.append(measure_images(trained, images, settings.cache, settings.data or Path()))
            count = len(images)
        else:
            rows += _of_model(trained, protocol, settings, name)
    notes = _notes(trained, protocol, rows, count)
    if as_json:
        print_json({**_as_data(rows, found, trained, saved), "notes": notes})
        return
    _show(rows, _titles(rows, trained))
    for note in notes:
        say(f"note: {note}")


def _of_metrics(names: Sequence[str]) -> list[str]:
    """As an override: what is between commas is an entry, also of a mapping."""
    from trainer.errors import suggestion
    from trainer.evaluation.metric import KINDS

    known = [name for each in names if "{" not in each for name in each.split(",")]
    for name in known:
        if name.strip() not in KINDS:
            raise _mistake(
                f"--metric {name.strip()}", f"there is no such metric{suggestion(name, KINDS)}"
            )
    return [f"evaluation.metrics=[{', '.join(names)}]"] if names else []


def _with_errors(trained: Trained) -> Trained:
    """Standard errors where they cost nothing: of means over real images. Others are asked for by `error_groups`."""
    from dataclasses import replace

    evaluation = trained.trial.evaluation
    if evaluation.comparisons or evaluation.error_groups or evaluation.full.images < 4:
        return trained
    changed = {"evaluation": evaluation.model_copy(update={"error_groups": 2})}
    return replace(trained, trial=trained.trial.model_copy(update=changed))


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
) -> list[Measurement]:
    from trainer.evaluation.averages import of_average
    from trainer.exchange.measuring import measure_further, measure_model

    data = settings.data or Path()
    with bar("images") as watch:
        found = [measure_model(trained, settings.cache, data, protocol, watch)]
    if protocol == "full":
        with bar("images under further protocols") as watch:
            found += measure_further(trained, settings.cache, data, watch)
    if average is None or average == trained.trial.averages()[0].called():
        return found
    return [of_average(one, average) for one in found]


def _titles(found: Sequence[Measurement], trained: Trained) -> dict[str, str]:
    """What each row is, with the space that a distance is taken in: `FID (classifier)`."""
    from dashboards.metrics import space_of, title

    evaluation = trained.trial.evaluation
    space = space_of(evaluation.features.kind, evaluation.reference)
    return {name: title(name, space) for one in found for name in one.metrics}


def _notes(
    trained: Trained,
    protocol: Literal["full", "rung"],
    found: Sequence[Measurement],
    saved: int | None,
) -> list[str]:
    """What a reader of the numbers should know; `saved` is how many samples they are of that lay in files."""
    from trainer.evaluation.enough import few_images

    evaluation, notes = trained.trial.evaluation, []
    if saved is not None:
        full = evaluation.full.model_copy(update={"images": saved})
        evaluation = evaluation.model_copy(update={"full": full, "also": ()})
        asked = [one.name for one in evaluation.questions]
        if asked:
            notes.append(f"{', '.join(asked)} asks a network, not samples: left out")
    few = few_images(evaluation, trained.codec.shape)
    notes += [line for line in few if line.startswith(f"evaluation.{protocol}:")]
    if not all(measured.finite for measured in found):
        notes.append("some samples are not finite, so there are no numbers")
    return notes


def _show(found: Sequence[Measurement], titles: dict[str, str]) -> None:
    rows = []
    for measured, name, value in [(m, n, v) for m in found for n, v in m.metrics.items()]:
        draws, error = measured.draws[name], measured.errors.get(f"se/{name.partition('/')[2]}")
        each = ", ".join(f"{one:.5g}" for one in draws) if len(draws) > 1 else ""
        told = "" if error is None else f"{error:.2g}"
        rows.append([name, titles[name], f"{value:.5g}", told, measured.protocol[name], each])
    headings = ("row", "metric", "value", "standard error", "protocol", "by noise")
    kept = [i for i in range(6) if i not in (3, 5) or any(row[i] for row in rows)]
    print_table(
        [headings[i] for i in kept],
        [[row[i] for i in kept] for row in rows],
        right="value|standard error",
    )
    for row, terms in _terms(found).items():
        say(f"{row} = {' + '.join(f'{part} {value:.5g}' for part, value in terms.items())}")


def _terms(found: Sequence[Measurement]) -> dict[str, dict[str, float]]:
    """What each bound consists of."""
    return {row: terms for measured in found for row, terms in measured.terms.items()}


def _as_data(
    rows: Sequence[Measurement], found: Found, trained: Trained, saved: Path | None
) -> dict[str, object]:
    return {
        "trial": found.record.directory.resolve().name,
        "images_seen": trained.images,
        "samples": None if saved is None else str(saved),
        "titles": _titles(rows, trained),
        "metrics": {name: value for one in rows for name, value in one.metrics.items()},
        "draws": {name: values for one in rows for name, values in one.draws.items()},
        "errors": {name: value for one in rows for name, value in one.errors.items()},
        "terms": _terms(rows),
        "protocol": {name: identifier for one in rows for name, identifier in one.protocol.items()},
        "seconds": sum(one.seconds for one in rows),
    }

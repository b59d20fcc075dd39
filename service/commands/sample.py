"""`sample`: pictures of a trained model, on a machine that need not have its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.common import AsJson, Home, console, print_json, say, settings_of
from service.commands.completing import cells, experiments

if TYPE_CHECKING:
    from trainer.trial import TrialSpec

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Key of a trial, or its beginning; a trial's directory; or an experiment, with --cell and --seed.",
        autocompletion=experiments,
    ),
]
Cell = Annotated[
    str | None,
    typer.Option("--cell", metavar="NAME", help="Cell of the experiment.", autocompletion=cells),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of the cell's training (the first if left out).")
]
Average = Annotated[
    str | None,
    typer.Option(
        "--average",
        metavar="NAME",
        help="Another average of the weights: of the trial's `ema`, or made by `python -m trainer.averages`.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")]
Together = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Samples made together (8, on a GPU 64); another number may change last bits.",
    ),
]
Measured = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="PATH=VALUE",
        help="Change how the model is evaluated, such as -o evaluation.full.clip=false. Repeatable.",
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        "-n",
        min=1,
        max=1_000_000,
        help="How many samples (16 if left out; of --enlarge one of each image). --interpolate makes a row of K for "
        "every two of them, and at least one row.",
    ),
]
NoiseSeed = Annotated[
    int | None,
    typer.Option("--noise-seed", help="Of the starting noise (the evaluation's if left out)."),
]
Label = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="CLASS",
        help="Name or number of a class; several are taken in turn. Repeatable.",
    ),
]
Tag = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Name or number of an attribute that every sample has, of a model told tags; it has no others. "
        "Left out: those of the data's first examples in turn. Repeatable.",
    ),
]
PerClass = Annotated[
    int | None, typer.Option("--per-class", min=1, help="So many of every class, instead of -n.")
]
Scales = Annotated[
    list[float] | None,
    typer.Option(
        "--guidance",
        min=0.0,
        metavar="SCALE",
        help="w of x0 = (1 + w) x0(told) - w x0(not told), of label or tags; diffusers' guidance_scale is 1 + w. "
        "Each of several gets a row of the grid and a folder. Repeatable.",
    ),
]
Solver = Annotated[
    str | None,
    typer.Option(
        "--solver", metavar="YAML", help='A kind, or a mapping: ddim, "{kind: ddim, eta: 1}".'
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(
        "--grid",
        metavar="YAML",
        help="Noise levels: a kind of schedule, or a mapping; `own` is the model's own schedule.",
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Solver steps.")]
Eta = Annotated[
    float | None,
    typer.Option("--eta", help="Noise on the way, for solvers that have it: 0 is none."),
]
Strip = Annotated[
    bool,
    typer.Option("--strip", help="Also draw the way from noise: strip.png, two rows a sample."),
]
Between = Annotated[
    int | None,
    typer.Option(
        "--interpolate",
        min=2,
        max=1000,
        metavar="K",
        help="Instead: rows of K samples, each between the noises of two of the -n.",
    ),
]
Invert = Annotated[
    Path | None,
    typer.Option(
        "--invert",
        metavar="IMAGE",
        help="Instead: walk an image to noise and back (by ddim if no --solver is given).",
    ),
]
Denoise = Annotated[
    Path | None,
    typer.Option(
        "--denoise", metavar="IMAGE", help="Instead: noise an image and denoise it -n times."
    ),
]
Enlarge = Annotated[
    list[Path] | None,
    typer.Option(
        "--enlarge",
        metavar="IMAGE",
        help="Instead: enlarge small images with a model of `inputs: super_resolution`: image files, folders of them, "
        "or samples.npz. grid.png shows each image, it enlarged bilinearly, and the sample. Repeatable.",
    ),
]
Begin = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="T",
        help="Where --denoise begins: time 0 to 1 of the model's schedule, or log_snr=-2, or edm_sigma=1.5.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where they go (samples/NAME if left out)."),
]


def sample(
    model: Model,
    cell: Cell = None,
    seed: Seed = None,
    average: Average = None,
    n: Count = None,
    noise_seed: NoiseSeed = None,
    label: Label = None,
    tag: Tag = None,
    per_class: PerClass = None,
    guidance: Scales = None,
    solver: Solver = None,
    steps: Steps = None,
    grid: Grid = None,
    eta: Eta = None,
    override: Measured = None,
    strip: Strip = False,
    interpolate: Between = None,
    invert: Invert = None,
    denoise: Denoise = None,
    begin: Begin = None,
    enlarge: Enlarge = None,
    together: Together = None,
    out: Out = None,
    device: Device = "auto",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Draw samples of a trained model: PNG files, one grid, and an npz (arr_0 images, arr_1 labels).

    The same command writes the same bytes. What is left out is as in the model's full evaluation protocol.
    The data set is not needed.
    """
    from service.models import find_model
    from trainer.exchange.changes import remeasured
    from trainer.exchange.folder import story_of
    from trainer.exchange.sampling import Wanted, draw

    settings = settings_of(home)
    found = find_model(model, settings, cell, seed)
    if invert is not None and solver is None:
        solver = "ddim"
    options = options_of(solver, steps, grid, eta) + list(override or [])
    wanted = Wanted(
        n=n,
        noise_seed=noise_seed,
        labels=tuple(label or ()),
        tags=tuple(tag or ()),
        per_class=per_class,
        guidance=tuple(guidance or ()),
        strip=strip,
        interpolate=interpolate,
        invert=invert,
        denoise=denoise,
        begin=begin,
        enlarge=tuple(enlarge or ()),
        together=together,
        average=average,
    )

    def change(trial: TrialSpec) -> TrialSpec:
        return remeasured(trial, options)

    folder, told = out or Path("samples") / found.name, list[str]()
    with bar("samples") as progress:
        for line in draw(found.record, wanted, change, folder, device, progress):
            told.append(line)
            if not as_json:
                say(line)
    if as_json:
        print_json({"folder": str(folder), "told": told, **(story_of(folder) or {})})


def options_of(
    solver: str | None, steps: int | None, grid: str | None, eta: float | None
) -> list[str]:
    """The short options as overrides of the full protocol."""
    full = "evaluation.full"
    texts = []
    if solver is not None:
        texts.append(f"{full}.solver={_member(solver)}")
    if eta is not None:
        texts.append(f"{full}.solver.eta={eta!r}")
    if grid is not None:
        texts.append(f"{full}.grid={'null' if grid == 'own' else _member(grid)}")
    if steps is not None:
        texts.append(f"{full}.steps={steps}")
    return texts


def _member(text: str) -> str:
    """A kind alone is a mapping with nothing else in it."""
    plain = text.strip()
    return f"{{kind: {plain}}}" if plain.isidentifier() and plain != "null" else plain


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; hears (done, of all). Nothing is drawn into a pipe."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(
        *columns, console=screen, transient=True, disable=not screen.is_terminal
    ) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)

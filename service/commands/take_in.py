"""`import`: published weights as a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands.common import AsJson, Home, Overrides, print_json, say, settings_of
from service.commands.completing import preset_files

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Weights of improved- or guided-diffusion (.pt), or a diffusers folder.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the model.")]
As = Annotated[
    Path | None,
    typer.Option(
        "--as",
        metavar="YAML",
        autocompletion=preset_files,
        help="The trial that the weights are of: a preset, such as presets/improved_diffusion_cifar10.yaml.",
    ),
]
Order = Annotated[
    Literal["heads_first", "qkv_first"],
    typer.Option(
        "--attention-order",
        help="Rows of attention in the file: qkv_first if it was trained with use_new_attention_order.",
    ),
]


def import_(
    file: File,
    folder: Folder,
    trial: As = None,
    order: Order = "heads_first",
    override: Overrides = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a model of published weights: `sample`, `evaluate` and `export` then take its folder.

    The file is read as plain tensors, so it cannot run code. The YAML says what the flags of its training said, and -o
    changes it: weights of another network are refused with the names that differ. A folder that `export` wrote needs
    no YAML, nor does a UNet2DModel with its scheduler: the model is then `kind: diffusers_unet`.
    """
    from service.command_line import diffsweep
    from service.models import trial_of
    from trainer.errors import InputError, Problem
    from trainer.exchange.foreign import is_folder_of_diffusers
    from trainer.exchange.incoming import take_in
    from trainer.exchange.inferring import inferred
    from trainer.exchange.returning import origin_of

    settings = settings_of(home)
    if trial is None and override:
        message = "changes the YAML of --as: name one, or leave it out"
        raise InputError([Problem("-o", None, "", message)])
    spec = origin_of(file) if trial is None else trial_of(_preset(trial), override or [])
    if spec is None and is_folder_of_diffusers(file):
        spec = inferred(file)
    if spec is None:
        message = "nobody wrote down of which trial these weights are: name its YAML with --as"
        raise InputError([Problem(str(file), None, "", message)])
    root, cache = settings.data or Path(), settings.cache
    notes = take_in(file, spec, folder, order=order, data_root=root, cache=cache)
    if as_json:
        print_json({"model": str(folder), "notes": list(notes)})
        return
    for note in notes:
        say(f"note: {note}")
    say(f"{folder}: try {diffsweep('sample', str(folder))}")


def _preset(trial: Path) -> str:
    """A YAML, or the name of a preset."""
    from trainer.presets import shipped

    return str(trial if trial.exists() else shipped(str(trial)) or trial)

"""`export`: a trained model as a folder that diffusers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.commands.common import AsJson, Home, print_json, say, settings_of
from service.commands.sample import Cell, Model, Seed

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="New folder; one that an earlier export wrote is replaced."),
]
Name = Annotated[
    str | None, typer.Option("--name", help="Title of the model card (cell and seed if left out).")
]


def export(
    model: Model,
    folder: Folder,
    cell: Cell = None,
    seed: Seed = None,
    name: Name = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write a trained model as a diffusers pipeline: safetensors, scheduler, and a card of what is known of it.

    DiffusionPipeline.from_pretrained(DIR) loads it. A network that diffusers has no class for brings its source, and
    loads with trust_remote_code=True. What no pipeline could run is refused with the reason.
    """
    from service.exporting import export_model
    from service.models import find_model

    settings = settings_of(home)
    found = find_model(model, settings, cell, seed)
    done = export_model(found.record, folder, settings, name)
    if as_json:
        names = ("network", "pipeline", "own_code", "levels", "steps")
        print_json({"folder": str(folder), **{each: getattr(done, each) for each in names}})
        return
    say(
        f"{folder}: {done.pipeline} with {done.network}; {folder / 'README.md'} says how to load it"
    )
    if done.own_code is not None:
        say(
            f"note: UNet2DModel has no such network ({done.own_code}), so its source goes along: "
            "load it with trust_remote_code=True"
        )

"""`sync`: what waited while a server or a store was out of reach."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.common import AsJson, Home, print_json, say, settings_of
from service.commands.completing import experiments

if TYPE_CHECKING:
    from service.settings import Settings
    from service.tracking.delivery import Delivery


def sync(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="[EXPERIMENT]",
            help="Name; all of them if left out.",
            autocompletion=experiments,
        ),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Deliver what waited while MLflow, or the store of the home, was out of reach. Repeating it changes nothing."""
    from service.remote.home import look_around, look_at_saved, waiting_note
    from service.tracking.delivery import sync as deliver

    settings = settings_of(home)
    look_around(settings)
    waits = None if settings.remote is None else waiting_note(settings)
    if settings.remote is not None and not as_json:
        say(waits or f"{settings.remote}: all delivered")
    names = [experiment] if experiment else _known(settings)
    if not names and not as_json:
        say(f"{settings.place} holds no experiments")
    deliveries = []
    for name in names:
        look_at_saved(settings, name)
        deliveries.append(deliver(settings, name))
        if not as_json:
            _say(deliveries[-1])
    if as_json:
        print_json({"experiments": [asdict(one) for one in deliveries], "store": waits})
    if any(one.left for one in deliveries):
        raise typer.Exit(1)


def _say(delivery: Delivery) -> None:
    left = "all delivered" if not delivery.left else f"{delivery.left} records still wait"
    say(f"{delivery.experiment}: {left}")
    for problem in delivery.problems:
        say(f"  the server refused: {problem}")
    for run in delivery.deleted:
        say(f"  left alone: {run} was deleted in MLflow; restore it there and sync again")


def _known(settings: Settings) -> list[str]:
    """Every experiment: one whose outbox is gone has all of it to deliver."""
    from service.experiment.saved import SAVED

    return sorted(path.parent.name for path in settings.home.glob(f"experiments/*/{SAVED}"))

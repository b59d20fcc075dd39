"""`rm`: what lies in a home, and remove what is no longer needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.common import AsJson, Home, print_json, prose, say, settings_of
from service.commands.completing import experiments

if TYPE_CHECKING:
    from service.usage import Share, Usage

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[EXPERIMENT]...",
        help="Names of experiments that were run; none: list what is there.",
        autocompletion=experiments,
    ),
]
Orphans = Annotated[
    bool,
    typer.Option("--orphans", help="Trials that no experiment names any more, and damaged ones."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def rm(
    names: Names = None,
    orphans: Orphans = False,
    yes: Yes = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Say what a home holds, or remove experiments with the trials that they alone use. It asks first.

    MLflow keeps what it was told: delete an experiment there in its own pages.
    """
    from service.remote.home import look_around
    from service.usage import remove_experiment, remove_trials, usage

    settings = settings_of(home)
    look_around(settings)
    found = usage(settings)
    if not names and not orphans:
        print_json(_data(found)) if as_json else _list(found, str(settings.home))
        return
    shares = [_share(found, name, str(settings.home)) for name in names or ()]
    if orphans and found.unreadable:
        raise _unreadable(found)
    for share in shares:
        _announce(share)
    if orphans:
        _announce_orphans(found)
    if not shares and not found.orphans:
        return
    _ask(yes)
    for share in shares:
        remove_experiment(settings, share)
    if orphans:
        remove_trials(settings, [k for k in found.orphans if settings.trial(k).is_dir()])
    left = usage(settings).total
    say(f"{settings.home} holds {_size(left)} now, {_size(found.total - left)} less")


def _share(found: Usage, name: str, home: str) -> Share:
    from service.errors import ServiceError
    from trainer.errors import suggestion

    for share in found.shares:
        if share.name == name:
            return share
    if name in found.unreadable:
        raise _unreadable(found)
    known = [share.name for share in found.shares]
    raise ServiceError(
        f"{home} holds no experiment {name}{suggestion(name, known)}", "`diffsweep rm` lists them"
    )


def _unreadable(found: Usage) -> Exception:
    from service.errors import ServiceError

    return ServiceError(
        f"nobody can say which trials belong to {', '.join(found.unreadable)}: experiment.json is damaged",
        "run its YAML again, which writes it anew",
    )


def _announce(share: Share) -> None:
    from dashboards.text import counted

    kept = len(share.trials) - len(share.alone)
    shared = f"; {counted(kept, 'trial')} stay, which other experiments use" if kept else ""
    prose(
        f"{share.name}: its folder and {counted(len(share.alone), 'trial')}, {_size(share.freed)}{shared}"
    )


def _announce_orphans(found: Usage) -> None:
    from dashboards.text import counted

    if not found.orphans:
        say("no trial is without an experiment")
        return
    damaged = sum(".damaged-" in name for name in found.orphans)
    also = f", {damaged} of them damaged ones that were set aside" if damaged else ""
    prose(
        f"{counted(len(found.orphans), 'trial')} that no experiment names, "
        f"{_size(sum(found.orphans.values()))}{also}"
    )


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        from service.errors import ServiceError

        raise ServiceError("nothing has been removed: nobody can be asked here", "add --yes")
    typer.confirm("Remove this for good?", abort=True)


def _list(found: Usage, home: str) -> None:
    from dashboards.text import counted

    if not found.shares and not found.orphans:
        say(f"{home} holds no experiments")
        return
    wide = max([len(share.name) for share in found.shares], default=0)
    for share in found.shares:
        trials = counted(len(share.trials), "trial")
        say(
            f"{share.name:{wide}}  {trials:>12}  {_size(share.bytes):>8}, {_size(share.freed)} its own"
        )
    if found.unreadable:
        say(f"damaged, so that no trial counts as unused: {', '.join(found.unreadable)}")
    if found.orphans:
        unused = _size(sum(found.orphans.values()))
        say(
            f"{counted(len(found.orphans), 'trial')} that no experiment names: {unused} (`diffsweep rm --orphans`)"
        )
    say(f"{home} holds {_size(found.total)} in all")


def _data(found: Usage) -> dict[str, Any]:
    return {
        "experiments": {
            share.name: {"trials": len(share.trials), "bytes": share.bytes, "freed": share.freed}
            for share in found.shares
        },
        "orphans": found.orphans,
        "unreadable": list(found.unreadable),
        "bytes": found.total,
    }


def _size(count: float) -> str:
    from service.usage import size

    return size(count)

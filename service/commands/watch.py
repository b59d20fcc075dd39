"""`watch`: the report of an experiment in the browser, kept fresh while it runs."""

from __future__ import annotations

import os
import secrets
from typing import Annotated

import typer

from service.commands.common import Home, Overrides, Target, find, say, settings_of


def watch(
    target: Target,
    override: Overrides = None,
    home: Home = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any free one.")
    ] = 0,
) -> None:
    """Show the report in a browser while the experiment runs, wherever it runs: it reads the home.

    The address that is printed carries a token, which the stop button takes. Ctrl-C ends the watching, not the run.
    """
    from service.watch_server import LOOPBACK, listening, serve
    from service.watching import Watched

    settings = settings_of(home)
    watched = Watched(find(target, override, settings), settings)
    token = secrets.token_urlsafe(16)
    with listening(port) as listener:
        number = listener.getsockname()[1]
        say(f"watching {watched.name} in {settings.place}")
        say(f"open:  http://{LOOPBACK}:{number}/#token={token}")
        if os.environ.get("SSH_CONNECTION"):
            say(f"from your own machine first:  ssh -L {number}:{LOOPBACK}:{number} <this machine>")
        say("Ctrl-C ends the watching; the run itself goes on")
        serve(watched, token, listener)

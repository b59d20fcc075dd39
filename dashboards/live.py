"""How does the page of a running sweep look? A strip of what is at work now, above the report."""

from __future__ import annotations

from markupsafe import Markup

from dashboards.html import environment_of, policy

_ASKS = "connect-src 'self'; frame-src 'self'"
"""How far it is, and the report, from the server that the page came from."""


def live_page(name: str) -> str:
    """The page as HTML; what it shows it asks from the server that it came from."""
    environment = environment_of({})
    assert environment.loader is not None
    script, _, _ = environment.loader.get_source(environment, "live/page.js")
    page = environment.get_template("live/page.html")
    return page.render(name=name, js=Markup(script), policy=policy(script, asks=_ASKS))

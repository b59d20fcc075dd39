"""How does the page of a running sweep look? A strip of what is at work now, above the report."""

from __future__ import annotations

from dashboards.html import environment_of


def live_page(name: str) -> str:
    """The page as HTML; what it shows it asks from the server that it came from."""
    return environment_of({}).get_template("live/page.html").render(name=name)

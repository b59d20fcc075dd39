"""How does text become safe HTML? The templates' environment: chips, prose, charts, escaped JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dashboards.charts.style import plotly_javascript


def environment_of(shade: Mapping[str, str]) -> Environment:
    """Jinja with the page's filters and files; `shade` is the colour of every cell."""
    environment = Environment(
        loader=PackageLoader("dashboards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def chip(cell: str) -> Markup:
        colour = shade.get(cell, "currentColor")
        return Markup('<span class="chip" style="--cell:{}">{}</span>').format(colour, cell)

    def prose(text: str) -> Markup:
        """Backticks become cell chips or code; verdict words stand out."""
        parts = []
        for place, part in enumerate(text.split("`")):
            if place % 2:
                parts.append(
                    chip(part) if part in shade else Markup("<code>{}</code>").format(part)
                )
            else:
                parts.append(typeset(part))
        return Markup("").join(parts)

    environment.filters |= {"chip": chip, "prose": prose}
    environment.globals |= {
        "chart": lambda name: Markup('<div class="chart" data-figure="{}"></div>').format(name),
        "plotly": Markup(plotly_javascript()),
        "css": Markup(_joined(environment, "styles/", first="base.css", last="print.css")),
        "js": Markup(_joined(environment, "scripts/", first="theme.js")),
    }
    return environment


def typeset(text: str) -> Markup:
    """Minus signs, no line break before a unit, verdict words set apart."""
    safe = re.sub(r"(?<![\w-])-(?=\d)", "\u2212", str(escape(text)))
    safe = re.sub(
        r"(?<=\d) (?=%|kimg\b)|(?<=%) (?=CI\b)|(?<=p) (?=[=&<])|(?<==|;) (?=\d)", "\u00a0", safe
    )
    safe = re.sub(r"(?<=\d)x\b", "\u00d7", safe)
    for word in ("BETTER", "WORSE", "SAME", "INCONCLUSIVE"):
        safe = safe.replace(word, f'<span class="word {word.lower()}">{word}</span>')
    return Markup(safe)


def _joined(environment: Environment, folder: str, *, first: str, last: str = "") -> str:
    """The files of a folder beside the templates as one text, in the order of their names but for two."""
    loader = environment.loader
    assert loader is not None
    names = [n.removeprefix(folder) for n in environment.list_templates() if n.startswith(folder)]
    order = sorted(names, key=lambda name: (name != first, name == last, name))
    return "\n".join(loader.get_source(environment, folder + name)[0] for name in order)


def script_json(text: str | None) -> Markup:
    """JSON that cannot end its script element."""
    return Markup((text or "null").replace("<", "\\u003c"))

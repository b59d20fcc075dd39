"""How does text become safe HTML? The templates' environment: chips, prose, charts, escaped JSON."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from dashboards.charts.style import plotly_javascript


class Anchored(NamedTuple):
    """The sections of a page."""

    body: Markup
    contents: tuple[tuple[str, Markup], ...]
    """Anchor and heading of each."""


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
        return Markup('<span class="chip" style="--cell:{}">{}</span>').format(
            colour, breakable(cell)
        )

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

    @pass_context
    def chart(context: Context, name: str) -> Markup:
        """A figure's place, with its legend and its switches."""
        drawn = context["charts"][name]
        return Markup(environment.get_template("figure.html").render(name=name, drawn=drawn))

    def strip(forest: object, one: object) -> Markup:
        """One line of a forest plot."""
        return Markup(environment.get_template("strip.html").render(forest=forest, strip=one))

    scripts = '(() => {\n"use strict";\n' + _joined(environment, "scripts/", "theme.js") + "})();"
    environment.filters |= {
        "chip": chip,
        "prose": prose,
        "typeset": typeset,
        "breakable": breakable,
        "anchored": anchored,
    }
    environment.globals |= {
        "chart": chart,
        "separator": Markup("&nbsp;\N{MIDDLE DOT} "),
        "shade": shade,
        "strip": strip,
        "plotly": packed_plotly(),
        "css": Markup(_joined(environment, "styles/", "base.css", "print.css")),
        "js": Markup(scripts),
        "policy": policy(scripts, plotly_javascript()),
    }
    return environment


def policy(*scripts: str, asks: str = "") -> Markup:
    """Nothing is loaded, and no script runs but these, whatever a name may smuggle in. (A data: picture is no load.)

    `asks` are directives of what the page may have from its own server.
    """
    known = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    allowed = " ".join(f"'sha256-{digest}'" for digest in known)
    rules = ["default-src 'none'", "img-src data: blob:", "style-src 'unsafe-inline'"]
    return Markup("; ".join([*rules, f"script-src {allowed}", *filter(None, [asks])]))


@cache
def packed_plotly() -> Markup:
    """plotly.js as a page carries it: a quarter of a second, once for a process."""
    return packed(plotly_javascript())


def packed(text: str) -> Markup:
    """Text as gzip and base64: what a browser inflates by itself; the same text, the same characters.

    Level 6: plotly.js would be 0.2 % smaller at 9, which takes half as long again.
    """
    return Markup(base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode())


_HEADING = re.compile(r'<section id="([\w-]+)">\s*<h2>(.*?)</h2>', re.DOTALL)


def anchored(body: str) -> Anchored:
    """A page's sections with an anchor at each heading, and their list of contents."""
    plain = str(body)
    contents = tuple((name, Markup(title)) for name, title in _HEADING.findall(plain))
    link = r'<section id="\1"><h2>\2<a class="anchor" href="#\1" aria-label="link to this section">#</a></h2>'
    return Anchored(Markup(_HEADING.sub(link, plain)), contents)


def breakable(name: str) -> Markup:
    """A name that may be broken behind the marks in it, so that it fits on a telephone."""
    return Markup(re.sub(r"(?<=[,=_/@])(?=\w)", "<wbr>", str(escape(name))))


def typeset(text: str) -> Markup:
    """Minus signs, no line break before a unit, verdict words set apart."""
    safe = re.sub(r"(?<![\w-])-(?=\d)", "\u2212", str(escape(text)))
    safe = re.sub(
        r"(?<=\d) (?=%|kimg\b)|(?<=%) (?=CI\b)|(?<=p) (?=[=&<])|(?<==|;) (?=\d)", "\u00a0", safe
    )
    safe = re.sub(r"(?<=\d)x\b|(?<=seed )x(?= draw)", "\u00d7", safe)
    for word in ("BETTER", "WORSE", "SAME", "INCONCLUSIVE"):
        safe = safe.replace(word, f'<span class="word {word.lower()}">{word}</span>')
    return Markup(safe)


def _joined(environment: Environment, folder: str, first: str, last: str = "") -> str:
    """The files of a folder beside the templates as one text, in the order of their names but for two."""
    loader = environment.loader
    assert loader is not None
    names = [n.removeprefix(folder) for n in environment.list_templates() if n.startswith(folder)]
    order = sorted(names, key=lambda name: (name != first, name == last, name))
    return "\n".join(loader.get_source(environment, folder + name)[0] for name in order)


def script_json(text: str | None) -> Markup:
    """JSON that cannot end its script element."""
    return Markup((text or "null").replace("<", "\\u003c"))

"""How do a verdict and a job look in a notebook, and a job while it is waited for? As HTML, elsewhere as lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TextIO

from markupsafe import Markup

from dashboards import text
from dashboards.text import duration
from dashboards.verdict.outlook import looks
from dashboards.verdict.sentences import headline
from dashboards.verdict.values import Verdicts
from dashboards.verdict.wording import ends_text, mean_and_spread, size, survivors

if TYPE_CHECKING:
    from dashboards.verdict.values import Measure
    from service.job_progress import JobProgress

_WORDS = {"BETTER": "#1a7f37", "WORSE": "#cf222e", "SAME": "#0969da", "INCONCLUSIVE": "#9a6700"}
"""Verdict words on light and dark ground alike."""
_HEADINGS = ("cell", "{}", "against", "difference", "95 % CI", "p", "pairs", "verdict")


class Verdict(Verdicts):
    """Every cell against the baseline, as `dashboards.verdict` judged it; a notebook shows it as a table."""

    @classmethod
    def of(cls, verdicts: Verdicts) -> Verdict:
        """The same values."""
        return cls(**{field.name: getattr(verdicts, field.name) for field in fields(verdicts)})

    def __str__(self) -> str:
        return headline(self)

    def _repr_html_(self) -> str:
        rows = [_row(c.cell, c.baseline, c.word, c.final) for c in self.comparisons]
        rows += [_row(r.row.name, r.against.name, r.word, r.final) for r in self.rows]
        title = f"{self.quantity.heading}, mean ± sd"
        notes = [f"`{one.cell}` is not compared: {one.reason}" for one in self.refused]
        shown = Markup("<div>{}{}{}</div>").format(
            _prose(headline(self)),
            _table([heading.format(title) for heading in _HEADINGS], rows),
            Markup("").join(_prose(line) for line in [*notes, looks(self.guarantee)]),
        )
        return str(shown)


def _row(cell: str, against: str, word: str, measure: Measure | None) -> list[Markup | str]:
    said = Markup('<b style="color:{}">{}</b>').format(_WORDS[word], word)
    if measure is None or not measure.seeds:
        return [cell, "n/a", against, "", "", "", "0", said]
    spread = " ± ".join(filter(None, mean_and_spread(measure.cell_values)))
    p = "" if measure.p_adjusted is None else text.bare_p(measure.p_adjusted)
    pairs = f"{len(measure.seeds)}{survivors(measure)}"
    return [
        cell,
        spread,
        against,
        size(measure),
        ends_text(measure),
        p,
        pairs,
        said,
    ]


def _table(headings: Iterable[str], rows: Iterable[Iterable[Markup | str]]) -> Markup:
    head = Markup("").join(Markup("<th>{}</th>").format(heading) for heading in headings)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(c) for c in row))
        for row in rows
    )
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body)


def _prose(line: str) -> Markup:
    """A sentence; what stands in backticks becomes code."""
    parts = [
        Markup("<code>{}</code>").format(part) if place % 2 else Markup("{}").format(part)
        for place, part in enumerate(line.split("`"))
    ]
    return Markup("<p>{}</p>").format(Markup("").join(parts))


def job_html(name: str, status: str, known: JobProgress | None) -> str:
    """A job in a line, with a bar of its trials."""
    if known is None:
        return str(Markup("<p><b>{}</b> {}</p>").format(name, status))
    left = "" if known.left_s is None or status != "RUNNING" else _left(known)
    bar = Markup('<progress max="{}" value="{}" style="vertical-align: middle"></progress>').format(
        max(1, known.total), known.done + known.failed
    )
    return str(Markup("<p><b>{}</b> {} {} {}</p>").format(name, status, bar, known.counts() + left))


def _left(known: JobProgress) -> str:
    return f", about {duration(known.left_s)} left"


class JobList(list[Any]):
    """Jobs, which a notebook shows one below the other."""

    def _repr_html_(self) -> str:
        return "".join(job._repr_html_() for job in self) or "<p>no jobs</p>"


class Waiting:
    """Tells how far a job is: a display that is redrawn in a notebook, lines of what is new elsewhere."""

    def __init__(self, name: str, out: TextIO | None = None) -> None:
        self._name, self._out, self._last = name, out, ("", "")
        self._display: Any = None
        self._in_notebook = _in_notebook()

    def __call__(self, status: str, known: JobProgress | None) -> None:
        """Show it if it is new."""
        told = "" if known is None else known.counts()
        if self._in_notebook:
            self._redraw(job_html(self._name, status, known))
        elif (status, told) != self._last:
            left = "" if known is None or known.left_s is None else _left(known)
            line = f"{self._name} {status}" + (f": {told}{left}" if told else "")
            print(line, file=self._out or sys.stderr, flush=True)
        self._last = (status, told)

    def _redraw(self, html: str) -> None:
        from IPython import display

        shown: Any = display
        if self._display is None:
            self._display = shown.display(shown.HTML(html), display_id=True)
        else:
            self._display.update(shown.HTML(html))


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook; nothing is imported to find out."""
    ipython = sys.modules.get("IPython")
    with contextlib.suppress(AttributeError):
        shell = ipython.get_ipython() if ipython is not None else None
        return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
    return False

"""How does a sweep leave for a paper or another program? Its tables as CSV, Markdown, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dashboards import text
from dashboards.metrics import heading
from dashboards.sweep import Sweep
from dashboards.verdict.comparable import finals
from dashboards.verdict.evidence import Row
from dashboards.verdict.row_wording import table_lines
from dashboards.verdict.statistics import spread
from dashboards.verdict.values import Measure, Verdicts
from dashboards.verdict.wording import ends_text, mean_and_spread, size

FORMATS = ("markdown", "latex", "csv", "json")
TABLES = ("verdict", "trials", "curves")
_MEANT_FOR_PEOPLE = ("markdown", "latex")


@dataclass(frozen=True)
class Table:
    """Headings and rows, as text or as numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    right: frozenset[str] = frozenset()
    """Headings of columns that are aligned to the right."""
    note: str = ""
    """A sentence on what it shows."""


def export(sweep: Sweep, verdicts: Verdicts | None, form: str, of: str = "verdict") -> str:
    """One of `TABLES` in one of `FORMATS`. Numbers have all digits, except in a verdict for people."""
    if of == "verdict":
        made = verdict_text if form in _MEANT_FOR_PEOPLE else verdict_numbers
        return WRITERS[form](made(sweep, verdicts))
    frame = sweep.trials if of == "trials" else sweep.curves
    return csv_of(frame) if form == "csv" else WRITERS[form](_of_frame(frame))


def csv_of(frame: pd.DataFrame) -> str:
    """A tidy table as CSV: every digit of a number, nothing where there is none."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def verdict_text(sweep: Sweep, verdicts: Verdicts | None) -> Table:
    """A row for each cell, then one for each comparison under a further protocol; numbers as in the report."""
    metric = heading(sweep.metric, sweep.space)
    has_rows = verdicts is not None and bool(verdicts.rows)
    rows = []
    for row, against, word, measure in _lines(sweep, verdicts):
        values = list(finals(sweep.evidence, row.metric)[row.cell].values())
        said = [row.name, text.share(len(values), len(sweep.seeds))]
        said.append(" ± ".join(filter(None, mean_and_spread(values))))
        said += [against] if has_rows else []
        found = measure is not None
        said += [size(measure), ends_text(measure), _p(measure)] if measure else ["", "", ""]
        rows.append([*said, word if found or word else ""])
    headings = ["cell", "seeds", metric, "against", "difference", "95 % CI", "p", "verdict"]
    if not has_rows:
        headings.remove("against")
    note = f"{sweep.name}: {metric}, mean ± sd over seeds; differences to {sweep.baseline} are paired by seed"
    right = frozenset({"seeds", metric, "difference", "95 % CI", "p"})
    return Table(headings, rows, right, note)


def verdict_numbers(sweep: Sweep, verdicts: Verdicts | None) -> Table:
    """The same rows with every digit. Differences of a ratio are shares: -0.05 is 5 % less than the baseline."""
    headings = ["cell", "metric", "seeds", "mean", "sd", "against", "pairs", "difference", "low"]
    headings += ["high", "interval", "p", "ratio", "lower_is_better", "verdict"]
    rows = []
    for row, against, word, measure in _lines(sweep, verdicts):
        values = list(finals(sweep.evidence, row.metric)[row.cell].values())
        both = spread(values) if values else None
        said = [row.name, row.metric, len(values), both and both.mean, both and both.sd, against]
        if measure is None:
            rows.append([*said, *[None] * 8, word])
            continue
        ends = measure.interval
        found: list[Any] = [
            len(measure.seeds),
            measure.effect if measure.seeds else None,
            ends.low,
            ends.high,
        ]
        found += [ends.method, measure.p_adjusted, measure.ratio, measure.lower_is_better]
        rows.append([*said, *found, word])
    return Table(headings, rows)


def _lines(sweep: Sweep, verdicts: Verdicts | None) -> list[tuple[Row, str, str, Measure | None]]:
    """Row, what it is compared with, the word or what stands instead, and the numbers."""
    if verdicts is None:
        return [(Row(cell, sweep.metric), "", "", None) for cell in sweep.cells]
    known = {c.cell: c for c in verdicts.comparisons}
    lines: list[tuple[Row, str, str, Measure | None]] = []
    for cell in sweep.cells:
        if (found := known.get(cell)) is not None:
            lines.append((Row(cell, sweep.metric), found.baseline, found.word, found.final))
            continue
        other = "stopped" if cell in sweep.stopped else "not compared"
        instead = "baseline" if cell == verdicts.baseline else other
        lines.append((Row(cell, sweep.metric), "", instead, None))
    for row, compared in table_lines(verdicts):
        if compared is None:
            lines.append((row, "", "baseline", None))
        else:
            lines.append((row, compared.against.name, compared.word, compared.final))
    return lines


def _p(measure: Measure) -> str:
    if measure.p_adjusted is None:
        return ""
    return text.bare_p(measure.p_adjusted)


def _of_frame(frame: pd.DataFrame) -> Table:
    numbers = frozenset(c for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c]))
    return Table([*frame.columns], frame.astype(object).to_numpy().tolist(), numbers)


def as_csv(table: Table) -> str:
    """Numbers with every digit, nothing where there is none."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(table.headings)
    writer.writerows([[_whole(value) for value in row] for row in table.rows])
    return written.getvalue()


def as_json(table: Table) -> str:
    """A list of one mapping per row; null where there is nothing."""
    rows = [
        {name: _known(value) for name, value in zip(table.headings, row, strict=True)}
        for row in table.rows
    ]
    return json.dumps(rows, indent=1) + "\n"


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown; nothing in a name is markup."""
    marks = ["---:" if name in table.right else "---" for name in table.headings]
    rows = [[_markdown(_whole(value)) for value in row] for row in (table.headings, *table.rows)]
    lines = [rows[0], marks, *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_latex(table: Table) -> str:
    """A `tabular` with the rules of booktabs; nothing in a name is a command."""
    columns = "".join("r" if name in table.right else "l" for name in table.headings)
    head, *rows = (
        " & ".join(_latex(_whole(value)) for value in row) + r" \\"
        for row in (table.headings, *table.rows)
    )
    lines = [r"\begin{tabular}{" + columns + "}", r"\toprule", head, r"\midrule", *rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    note = " ".join(table.note.split())
    comment = [f"% {note}", r"% needs \usepackage{booktabs}"] if note else []
    return "\n".join([*comment, *lines]) + "\n"


WRITERS: dict[str, Callable[[Table], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "json": as_json,
}


def _known(value: Any) -> Any:
    return (
        None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
    )


def _whole(value: Any) -> str:
    known = _known(value)
    return "" if known is None else repr(known) if isinstance(known, float) else str(known)


def _markdown(value: str) -> str:
    escaped = re.sub(r"([\\`*_{}\[\]<>|~#])", r"\\\1", value.replace("\n", " "))
    return re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", escaped)


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{GREEK SMALL LETTER EPSILON}": r"$\epsilon$",
}


def _latex(value: str) -> str:
    value = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", value.replace("\n", " "))
    value = re.sub(r"(?<=\d)x\b", "\N{MULTIPLICATION SIGN}", value)
    return "".join(_LATEX.get(sign, sign) for sign in value).replace(r" \%", r"\,\%")

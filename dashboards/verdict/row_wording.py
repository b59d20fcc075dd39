"""How is it said what further protocols show? Rows to the headline, and to the lines of a table."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.text import names
from dashboards.verdict.evidence import Row
from dashboards.verdict.values import RowComparison, Unlike, Verdicts
from dashboards.verdict.wording import size

_NAMED = 4
"""Rows with one word that the headline names."""


def rows_headline(verdicts: Verdicts) -> str:
    """`under further protocols: 1 WORSE (`a@few` than `b@few`, +5.1 %), 2 INCONCLUSIVE`; empty without rows."""
    parts = []
    for word in ("BETTER", "WORSE", "SAME", "INCONCLUSIVE"):
        own = [compared for compared in verdicts.rows if compared.word == word]
        if own:
            named = "" if word == "INCONCLUSIVE" else f" ({_named(own)})"
            parts.append(f"{len(own)} {word}{named}")
    return f"under further protocols: {', '.join(parts)}" if parts else ""


def _named(rows: Sequence[RowComparison]) -> str:
    texts = []
    for compared in rows[:_NAMED]:
        than = "as" if compared.word == "SAME" else "than"
        number = "" if compared.final is None else f", {size(compared.final)}"
        texts.append(f"`{compared.row.name}` {than} `{compared.against.name}`{number}")
    if len(rows) > _NAMED:
        texts.append(f"and {len(rows) - _NAMED} more")
    return "; ".join(texts)


def table_lines(verdicts: Verdicts) -> list[tuple[Row, RowComparison | None]]:
    """Every row with each of its comparisons; one that others are compared with stands before them, without."""
    lines: list[tuple[Row, RowComparison | None]] = []
    shown: set[Row] = set()
    for compared in verdicts.rows:
        if compared.against.protocol and compared.against not in shown:
            lines.append((compared.against, None))
        lines.append((compared.row, compared))
        shown |= {compared.row, compared.against}
    return lines


def unlike_sentences(verdicts: Verdicts) -> list[str]:
    """Which rows lack a comparison, and why: one sentence for each reason."""
    reasons: dict[tuple[str, bool], list[Unlike]] = {}
    for unlike in verdicts.unlike:
        same = unlike.row.cell == unlike.against.cell
        reasons.setdefault((unlike.why, same), []).append(unlike)
    return [
        f"{names([u.row.name for u in own])} {'is' if len(own) == 1 else 'are'} not compared with"
        f" {names(list(dict.fromkeys(u.against.name for u in own)))}: {why}"
        + (", and that alone moves a distance." if same else ".")
        for (why, same), own in reasons.items()
    ]

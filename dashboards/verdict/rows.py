"""Which further rows are compared with which? The same trainings under other protocols, paired by seed.

Two treatments may be asked about, one at a time. Another *training* under one protocol: cell against baseline,
whatever the protocol, if both have its id. Another *way of generating* for one training: a further protocol
against the deciding one, if solver, steps, grid, guidance and clipping are all that differs. Where the number of
images differs, so does the bias of a distance, and nothing of the treatment can be told from that. Both treatments at
once are no comparison.

Under no difference, exchanging trainings (or ways of generating) turns the sign of a seed's differences, so rows
stand in the family of all the other measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dashboards.verdict.comparable import IncomparableError, protocol, quantity
from dashboards.verdict.evidence import Evidence, Further, Quantity, Row
from dashboards.verdict.pairing import as_compared, outcomes
from dashboards.verdict.samples import Sample
from dashboards.verdict.values import Aside, Unlike

Ended = Mapping[tuple[str, int], float]
"""(cell, seed) to a final number."""


@dataclass(frozen=True)
class Pair:
    """Two rows, and their paired outcomes."""

    row: Row
    against: Row
    sample: Sample


@dataclass(frozen=True)
class Rows:
    """All comparisons under further protocols."""

    pairs: dict[tuple[str, Aside], Pair] = field(default_factory=dict)
    """By protocol, then cells, the baseline first."""
    unlike: tuple[Unlike, ...] = ()
    """What may not be compared."""


def rows(evidence: Evidence, baseline: str, cells: Sequence[str]) -> Rows:
    """Of the baseline and of cells that are compared with it. A protocol that nothing was measured under has none."""
    measured = {name for trial in evidence.finished for name in trial.finals}
    everyone = (baseline, *cells)
    known = [f for c in everyone for f in evidence.further.get(c, ()) if f.metric in measured]
    ended = {m: outcomes(evidence, m) for m in (evidence.metric, *(f.metric for f in known))}
    values = [value for own in ended.values() for value in own.values()]
    judged = as_compared(quantity(evidence, evidence.metric), values)
    pairs: dict[tuple[str, Aside], Pair] = {}
    unlike: list[Unlike] = []
    for name in dict.fromkeys(further.name for further in known):
        for cell in everyone:
            found = _of(evidence, cell).get(name)
            if found not in known:
                continue
            row = Row(cell, found.metric, name)
            for against, why in _others(evidence, baseline, row, found):
                aside = Aside(name, same_training=against.cell == cell)
                if why:
                    unlike.append(Unlike(row, against, why))
                else:
                    both = (ended[one.metric] for one in (against, row))
                    sample = _sample(evidence, row, against, judged, *both)
                    pairs[cell, aside] = Pair(row, against, sample)
    return Rows(pairs, tuple(unlike))


def _of(evidence: Evidence, cell: str) -> dict[str, Further]:
    return {one.name: one for one in evidence.further.get(cell, ())}


def _others(evidence: Evidence, baseline: str, row: Row, found: Further) -> list[tuple[Row, str]]:
    """What a row could be compared with, and why it may not be; empty: it may."""
    others = [(Row(row.cell, evidence.metric), found.unlike)]
    same = _of(evidence, baseline).get(row.protocol)
    if row.cell == baseline or same is None:
        return others
    try:
        protocol(evidence, row.metric, [baseline, row.cell])
    except IncomparableError:
        return [(Row(baseline, same.metric, row.protocol), "other protocol ids"), *others]
    return [(Row(baseline, same.metric, row.protocol), ""), *others]


def _sample(
    evidence: Evidence, row: Row, against: Row, judged: Quantity, base: Ended, own: Ended
) -> Sample:
    seeds = [s for s in evidence.seeds if (against.cell, s) in base and (row.cell, s) in own]
    return Sample(
        row.metric,
        judged.lower_is_better,
        judged.ratio,
        {seed: base[against.cell, seed] for seed in seeds},
        {seed: own[row.cell, seed] for seed in seeds},
    )

"""Where does the spread of a number come from: the seed, the generation noise, or both together?

All cells and seeds are measured from the same K generation noises, so the values of a cell, and those of two
cells compared by seed, are a two-way table without replication: y = mean + seed + draw + interaction. Its three
variances are estimated by the method of moments (the mean squares of the table; Searle, Casella & McCulloch
1992, chapter 4). A test by seed sees seed and interaction; the draws' own part moves all seeds together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dashboards.verdict.evidence import Evidence, Row, Trial
from dashboards.verdict.sampling import Sampling, sampling
from dashboards.verdict.statistics import ALPHA, chi_square_quantile

Table = NDArray[np.float64]
"""[seeds, draws]."""
SOURCES = ("seed", "draw", "interaction")
"""Names of the components, in the order in which tuples have them."""


@dataclass(frozen=True)
class Component:
    """The variance of one source."""

    mean_square: float
    degrees: int
    """Of freedom of the mean square: at 2, its root is from a sixth to twice the true one in 95 of 100 tables."""
    estimate: float
    """Unbiased, so it may be below 0."""

    @property
    def variance(self) -> float:
        """The estimate, or 0 where it is below: shares and standard deviations are made of it."""
        return max(0.0, self.estimate)

    @property
    def sd(self) -> float:
        """Its square root, in the metric's own unit."""
        return math.sqrt(self.variance)


@dataclass(frozen=True)
class Parts:
    """The components of a table with at least two seeds and two draws."""

    seed: Component
    draw: Component
    interaction: Component
    seeds: int
    draws: int

    def of_mean(self, draws: int | None = None) -> tuple[float, float, float]:
        """What seeds, draws and their interaction add to the variance of the mean over the table.

        `draws`: if there had been so many.
        """
        count = self.draws if draws is None else draws
        return (
            self.seed.variance / self.seeds,
            self.draw.variance / count,
            self.interaction.variance / (self.seeds * count),
        )

    @property
    def shares(self) -> tuple[float, float, float] | None:
        """The same as shares of their sum; None where nothing varies."""
        parts = self.of_mean()
        whole = sum(parts)
        return (parts[0] / whole, parts[1] / whole, parts[2] / whole) if whole > 0 else None

    @property
    def cut(self) -> float | None:
        """By which share the variance of the mean is smaller than with one draw."""
        alone = sum(self.of_mean(1))
        return 1.0 - sum(self.of_mean()) / alone if alone > 0 else None

    @property
    def cut_by_seed(self) -> float | None:
        """The same of the variance between seeds, which is all that a test by seed sees."""
        seed, _, both = self.of_mean(1)
        now = self.of_mean()
        return 1.0 - (now[0] + now[2]) / (seed + both) if seed + both > 0 else None

    @property
    def seen(self) -> float:
        """Standard error of the mean for these draws: that of a test by seed."""
        return math.sqrt(self.seed.mean_square / (self.seeds * self.draws))

    @property
    def unseen(self) -> float:
        """Standard deviation by which the mean would move with other draws, all seeds together."""
        return math.sqrt(self.of_mean()[1])

    @property
    def unseen_below(self) -> float:
        """Upper end of a one-sided 95 % interval of the same, for normal effects.

        Exact where there is no interaction and wider than that with one: the mean square of draws is all taken to
        be theirs.
        """
        least = chi_square_quantile(ALPHA, self.draw.degrees) / self.draw.degrees
        return math.sqrt(self.draw.mean_square / (least * self.seeds * self.draws))

    @property
    def below_zero(self) -> tuple[str, ...]:
        """Names of the components whose estimate counts as 0."""
        parts = zip(SOURCES, (self.seed, self.draw, self.interaction), strict=True)
        return tuple(name for name, part in parts if part.estimate < 0)


@dataclass(frozen=True)
class Spread:
    """A cell's final values, or how they compare with the baseline's, and where their spread comes from."""

    metric: str
    cell: str
    baseline: str | None
    """None: the cell's own values; otherwise compared with this cell, by seed and draw."""
    ratio: bool
    """Whether they are logarithms of ratios, as verdicts on this metric are; else they are in its own unit."""
    seeds: tuple[int, ...]
    draws: int
    mean: float
    sd: float | None
    """Standard deviation between seeds of the mean over draws; None for one seed."""
    parts: Parts | None
    """None with one seed or one draw: then the sources cannot be told apart."""
    protocol: str = ""
    """Name of the further protocol that they are of; empty: the deciding one."""
    sampling: Sampling | None = None
    """What finite images have of it, at most; None where standard errors were not asked for."""


def crossed(table: Table) -> Parts:
    """Components of variance of a table [S, K], S and K at least 2."""
    seeds, draws = table.shape
    rows, columns, mean = table.mean(1), table.mean(0), table.mean()
    rest = table - rows[:, None] - columns[None, :] + mean
    both = (seeds - 1) * (draws - 1)
    noise = (1e-12 * float(np.abs(table).max())) ** 2  # of rounding equal values
    of_seed, of_draw, of_both = (
        square if square > noise else 0.0
        for square in (
            draws * float(((rows - mean) ** 2).sum()) / (seeds - 1),
            seeds * float(((columns - mean) ** 2).sum()) / (draws - 1),
            float((rest**2).sum()) / both,
        )
    )
    return Parts(
        seed=Component(of_seed, seeds - 1, (of_seed - of_both) / draws),
        draw=Component(of_draw, draws - 1, (of_draw - of_both) / seeds),
        interaction=Component(of_both, both, of_both),
        seeds=seeds,
        draws=draws,
    )


@dataclass(frozen=True)
class _Value:
    """A trial's number."""

    drawn: Table
    """Under each generation noise [K]."""
    error: float | None
    """Standard error of their mean from the images alone."""


def spreads(
    evidence: Evidence,
    metric: str,
    baseline: str,
    cells: Sequence[str],
    further: Sequence[tuple[Row, Row]] = (),
) -> tuple[Spread, ...]:
    """Of the baseline, then of every cell and of it against the baseline, then of rows under further protocols against
    others; those without finite values are left out.

    Only seeds whose trials finished count, in a comparison those of both.
    """
    base = Row(baseline, metric)
    pairs = [*((Row(cell, metric), base) for cell in cells), *further]
    rows = dict.fromkeys((base, *(row for pair in pairs for row in pair)))
    values = {row: _values(evidence, row) for row in rows}
    every = [value.drawn for own in values.values() for value in own.values()]
    ratio = evidence.quantities[metric].ratio and all((value > 0).all() for value in every)
    found = [_spread(base, None, values[base], ratio=False)]
    for row, against in pairs:
        other, own = values[against], values[row]
        compared = {
            seed: _compared(own[seed], other[seed], ratio=ratio)
            for seed in sorted(own.keys() & other.keys())
            if own[seed].drawn.shape == other[seed].drawn.shape
        }
        if not row.protocol:
            found.append(_spread(row, None, own, ratio=False))
        found.append(_spread(row, against.name, compared, ratio=ratio))
    return tuple(spread for spread in found if spread is not None)


def _compared(own: _Value, base: _Value, *, ratio: bool) -> _Value:
    """One seed's values against the other's, under each noise [K]; their mean is what a verdict compares.

    As a ratio, that is the logarithm of the ratio of both means, so what single draws add to it, and its standard
    error, are taken to first order in their distance from the means.
    """
    mean, of_base = (float(v.drawn.mean()) if ratio else 1.0 for v in (own, base))
    table = own.drawn / mean - base.drawn / of_base
    shift = math.log(mean / of_base) if ratio else 0.0
    known = own.error is not None and base.error is not None
    error = math.hypot((own.error or 0.0) / mean, (base.error or 0.0) / of_base) if known else None
    return _Value(np.asarray(table + shift), error)


def _values(evidence: Evidence, row: Row) -> dict[int, _Value]:
    """The row's finished seeds with their values, where all are finite."""
    trials = {t.seed: t for t in evidence.finished if t.cell == row.cell}
    values = {
        seed: _Value(drawn(trial, row.metric), trial.errors.get(row.metric))
        for seed, trial in sorted(trials.items())
    }
    return {s: v for s, v in values.items() if v.drawn.size and np.isfinite(v.drawn).all()}


def drawn(trial: Trial, metric: str) -> Table:
    """A finished trial's value under each generation noise [K]; empty where it has none of the metric."""
    final = trial.finals.get(metric)
    alone = () if final is None else (final,)
    return np.asarray(trial.draws.get(metric, alone), dtype=np.float64)


def _spread(
    row: Row, against: str | None, values: Mapping[int, _Value], *, ratio: bool
) -> Spread | None:
    counts = {value.drawn.size for value in values.values()}
    if len(counts) != 1:  # none, or of several protocols: no table
        return None
    table = np.stack([value.drawn for value in values.values()])
    means = table.mean(1)
    seeds, draws = table.shape
    return Spread(
        metric=row.metric,
        cell=row.name,
        baseline=against,
        ratio=ratio,
        protocol=row.protocol,
        seeds=tuple(values),
        draws=draws,
        mean=float(means.mean()),
        sd=float(means.std(ddof=1)) if seeds > 1 else None,
        parts=crossed(table) if seeds > 1 and draws > 1 else None,
        sampling=sampling(means, [value.error for value in values.values()]),
    )

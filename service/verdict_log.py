"""Which verdicts has an experiment given, and which looks were planned before the first? One file keeps them.

An error rate over several looks holds if the looks were planned before the data were seen. So the plan that
stands is the one at the first verdict that showed a spread; seeds that are added later are more than was
planned, whatever the YAML says by then, and seeds that were judged once go on to count.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.text import names
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.record import Record

if TYPE_CHECKING:
    from dashboards.verdict.values import Verdicts
    from service.experiment import Experiment, PlannedTrial
    from service.settings import Settings

LOG = "verdicts.json"
"""In the experiment's directory."""
_VERSION = 1
_FEWEST = 2
"""Pairs of the first verdict that counts: one shows nothing of the noise."""
_FORGOTTEN = (1,)
"""Looks where the file cannot be read: everything beyond one seed is judged by what holds at any time."""


@dataclass(frozen=True)
class Planned:
    """What was planned before the first verdict."""

    looks: tuple[int, ...]
    """Numbers of seeds."""
    seeds: tuple[int, ...]
    """In the order in which they count."""
    metric: str
    baseline: str | None
    margins: tuple[float, float | None]
    """As a share, and in the metric's own unit."""
    cells: Mapping[str, str]
    """Cell to the identity of its trials, whatever the seed."""


@dataclass(frozen=True)
class Given:
    """A verdict that somebody could see."""

    time_s: float
    """Unix time."""
    pairs: Mapping[str, int]
    """Cell, or a row and its other under further protocols, to pairs that the test counted."""
    words: Mapping[str, str]
    metric: str
    baseline: str


class DamagedError(Exception):
    """The file is there and cannot be read."""


@dataclass(frozen=True)
class VerdictLog:
    """The plan and all verdicts, oldest first."""

    planned: Planned
    given: tuple[Given, ...] = ()

    @classmethod
    def read(cls, directory: Path) -> VerdictLog | None:
        """What an experiment's directory knows; None where no verdict was given. Raises DamagedError."""
        try:
            text = (directory / LOG).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DamagedError(str(error)) from None
        try:
            saved: dict[str, Any] = json.loads(text)
            planned = saved["planned"]
            return cls(
                Planned(
                    tuple(planned["looks"]),
                    tuple(planned["seeds"]),
                    planned["metric"],
                    planned["baseline"],
                    (planned["margins"][0], planned["margins"][1]),
                    dict(planned["cells"]),
                ),
                tuple(Given(**given) for given in saved["given"]),
            )
        except (ValueError, LookupError, TypeError) as error:
            raise DamagedError(str(error)) from None


def wished(experiment: Experiment) -> Planned:
    """What the experiment says now."""
    compare = experiment.spec.compare
    return Planned(
        experiment.looks,
        tuple(experiment.seeds),
        experiment.metric,
        experiment.baseline,
        (compare.margin, compare.own_margin),
        {cell.name: cell.identity for cell in experiment.cells},
    )


def in_force(experiment: Experiment, settings: Settings) -> Planned:
    """The plan that stands: of the first verdict if there was one, with the seeds that came since behind."""
    now = wished(experiment)
    try:
        log = VerdictLog.read(settings.experiment(experiment.name))
    except DamagedError:
        return replace(now, looks=_FORGOTTEN)
    if log is None:
        return now
    later = [seed for seed in now.seeds if seed not in log.planned.seeds]
    return replace(log.planned, seeds=(*log.planned.seeds, *later))


def late_cells(experiment: Experiment, planned: Planned) -> list[str]:
    """Cells that are not what was compared at the first verdict."""
    now = wished(experiment).cells
    return [cell for cell, identity in now.items() if planned.cells.get(cell) != identity]


def judged_before(
    experiment: Experiment, settings: Settings, seeds: Iterable[int]
) -> list[PlannedTrial]:
    """Trials of seeds that the experiment no longer lists, but that were judged: leaving them out would choose."""
    with contextlib.suppress(UserError):  # the data may be elsewhere by now
        return [
            trial
            for trial in experiment.trials_with(seeds)
            if Record(settings.trial(trial.key)).result() is not None
        ]
    return []


def note(experiment: Experiment, settings: Settings, verdicts: Verdicts) -> None:
    """Keep a verdict, unless it shows no spread yet or is the last one again."""
    said = {c.cell: (c.word, c.final) for c in verdicts.comparisons}
    said |= {f"{r.row.name} against {r.against.name}": (r.word, r.final) for r in verdicts.rows}
    pairs = {name: final.tested for name, (_, final) in said.items() if final is not None}
    if max(pairs.values(), default=0) < _FEWEST:
        return
    directory = settings.experiment(experiment.name)
    try:
        log = VerdictLog.read(directory) or VerdictLog(wished(experiment))
    except DamagedError:
        return
    given = Given(
        time.time(),
        pairs,
        {name: word for name, (word, _) in said.items()},
        verdicts.metric,
        verdicts.baseline,
    )
    if log.given and asdict(log.given[-1]) | {"time_s": 0} == asdict(given) | {"time_s": 0}:
        return
    log = VerdictLog(log.planned, (*log.given, given))
    with contextlib.suppress(OSError):  # a verdict can be read where nothing may be written
        write_whole(directory / LOG, json.dumps({"version": _VERSION, **asdict(log)}, indent=1))


def question(experiment: Experiment, settings: Settings, verdicts: Verdicts) -> str:
    """What a reader has to know where this is not the question that was planned; else empty."""
    try:
        VerdictLog.read(settings.experiment(experiment.name))
    except DamagedError as error:
        return (
            f"{settings.experiment(experiment.name) / LOG} cannot be read ({error}): which looks were planned"
            " is not known, so all seeds are judged by evidence that holds at any time."
        )
    planned = in_force(experiment, settings)
    asked = (verdicts.metric, verdicts.baseline)
    hints = []
    if planned.baseline is not None and asked != (planned.metric, planned.baseline):
        hints.append(
            f"Planned was {planned.metric} against `{planned.baseline}`; this asks {asked[0]} against"
            f" `{asked[1]}` of the same data: read it as a hint, not as the experiment's verdict."
        )
    place = 0 if verdicts.quantity.ratio else 1
    if asked[0] == planned.metric and verdicts.margin != planned.margins[place]:
        hints.append(
            f"The margin of the first verdict was {_margin(planned.margins[place])}, not"
            f" {_margin(verdicts.margin)}: what is called the SAME was chosen after the data were seen."
        )
    if other := late_cells(experiment, planned):
        hints.append(
            f"{names(other)} {'is' if len(other) == 1 else 'are'} not what this experiment compared at its"
            " first verdict: tried after the data of these seeds were seen, which no error rate covers."
            " A new name and other seeds ask afresh."
        )
    if gone := [cell for cell in planned.cells if cell not in wished(experiment).cells]:
        hints.append(
            f"{names(gone)} {'was' if len(gone) == 1 else 'were'} compared at the first verdict and"
            f" {'is' if len(gone) == 1 else 'are'} left out here: the error rate was to hold over all."
        )
    return " ".join(hints)


def _margin(margin: float | None) -> str:
    return "unknown" if margin is None else f"{margin:g}"

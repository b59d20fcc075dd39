"""Which verdicts has an experiment given, and which looks were planned before the first? One file keeps them.

An error rate over several looks holds if the looks were planned before the data were seen. So the plan that
stands is the one at the first verdict that could have claimed anything; seeds that are added later are more
than was planned, whatever the YAML says by then.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.text import names
from dashboards.verdict.statistics import fewest_seeds
from trainer.files import write_whole

if TYPE_CHECKING:
    from dashboards.verdict.values import Verdicts
    from service.experiment import Experiment
    from service.settings import Settings

LOG = "verdicts.json"
"""In the experiment's directory."""


@dataclass(frozen=True)
class Planned:
    """What was planned before the first verdict."""

    looks: tuple[int, ...]
    """Numbers of seeds."""
    seeds: tuple[int, ...]
    """In the order in which they count."""
    metric: str
    baseline: str | None
    cells: Mapping[str, str]
    """Cell to the identity of its trials, whatever the seed."""


@dataclass(frozen=True)
class Given:
    """A verdict that somebody could see."""

    time_s: float
    """Unix time."""
    pairs: Mapping[str, int]
    """Cell to pairs that the test counted."""
    words: Mapping[str, str]
    metric: str
    baseline: str


@dataclass(frozen=True)
class VerdictLog:
    """The plan and all verdicts, oldest first."""

    planned: Planned
    given: tuple[Given, ...] = ()

    @classmethod
    def read(cls, directory: Path) -> VerdictLog | None:
        """What an experiment's directory knows; None where no verdict could have claimed anything yet."""
        try:
            saved: dict[str, Any] = json.loads((directory / LOG).read_text(encoding="utf-8"))
            planned = saved["planned"]
            return cls(
                Planned(
                    tuple(planned["looks"]),
                    tuple(planned["seeds"]),
                    planned["metric"],
                    planned["baseline"],
                    planned["cells"],
                ),
                tuple(Given(**given) for given in saved["given"]),
            )
        except (OSError, ValueError, LookupError, TypeError):
            return None


def in_force(experiment: Experiment, settings: Settings) -> Planned:
    """The plan that stands: of the first verdict if there was one, with the seeds that came since behind."""
    wished = Planned(
        experiment.looks,
        tuple(experiment.seeds),
        experiment.metric,
        experiment.baseline,
        _identities(experiment),
    )
    log = VerdictLog.read(settings.experiment(experiment.name))
    if log is None:
        return wished
    later = [seed for seed in wished.seeds if seed not in log.planned.seeds]
    return replace(log.planned, seeds=(*log.planned.seeds, *later))


def _identities(experiment: Experiment) -> dict[str, str]:
    """Every cell as it is compared, with what a search found for it."""
    return {cell.name: cell.with_seed(0).key("") for cell in experiment.cells}


def note(experiment: Experiment, settings: Settings, verdicts: Verdicts) -> None:
    """Keep a verdict that could have claimed something, unless it is the last one again."""
    finals = [c.final for c in verdicts.comparisons if c.final is not None]
    if max((final.tested for final in finals), default=0) < fewest_seeds():
        return
    directory = settings.experiment(experiment.name)
    log = VerdictLog.read(directory) or VerdictLog(in_force(experiment, settings))
    given = Given(
        time.time(),
        {final.cell: final.tested for final in finals},
        {comparison.cell: comparison.word for comparison in verdicts.comparisons},
        verdicts.metric,
        verdicts.baseline,
    )
    if log.given and asdict(log.given[-1]) | {"time_s": 0} == asdict(given) | {"time_s": 0}:
        return
    log = VerdictLog(log.planned, (*log.given, given))
    with contextlib.suppress(OSError):  # a verdict can be read where nothing may be written
        write_whole(directory / LOG, json.dumps(asdict(log), indent=1))


def question(experiment: Experiment, settings: Settings, verdicts: Verdicts) -> str:
    """What a reader has to know where this is not the question that was planned; else empty."""
    planned = in_force(experiment, settings)
    asked = (verdicts.metric, verdicts.baseline)
    hints = []
    if planned.baseline is not None and asked != (planned.metric, planned.baseline):
        hints.append(
            f"Planned was {planned.metric} against `{planned.baseline}`; this asks {asked[0]} against"
            f" `{asked[1]}` of the same data: read it as a hint, not as the experiment's verdict."
        )
    now = _identities(experiment)
    other = [cell for cell, identity in now.items() if planned.cells.get(cell) != identity]
    if other:
        hints.append(
            f"{names(other)} {'is' if len(other) == 1 else 'are'} not what this experiment compared at its"
            " first verdict: tried after the data of these seeds were seen, which no error rate covers."
            " A new name and other seeds ask afresh."
        )
    return " ".join(hints)

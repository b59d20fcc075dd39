"""How is a search told to a person? One sentence for each study, and plain values for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dashboards.metrics import heading
from dashboards.text import counted, duration, names, number
from dashboards.tuning import Point, Tuning
from service.search.objective import shown
from service.search.study import Study, studies
from trainer.yaml.writer import yaml_text

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings


def tuning(study: Study, *, with_importances: bool = False) -> Tuning:
    """The study in plain values."""
    values, scores = study.values(), study.scores()
    metric = study.experiment.metric
    shares: dict[str, float] = {}
    if with_importances:
        from service.search.sampler import importances

        sound = {n: score for n, score in scores.items() if math.isfinite(score)}
        settings = {c.number: c.params for c in study.candidates if c.number in sound}
        shares = importances(study.search.space, settings, sound)
    winner = study.winner
    return Tuning(
        cells=tuple(cell.name for cell in study.cells),
        metric=heading(metric, study.experiment.space)
        + (f" at {study.search.at:g} kimg" if study.search.at else ""),
        lower_is_better=study.lower_is_better,
        by=study.search.by,
        planned=study.search.trials,
        seeds=tuple(study.search.seed_list()),
        points=tuple(
            Point(
                number=candidate.number,
                setting={p: yaml_text(value) for p, value in candidate.params.items()},
                place={
                    path: one.axis().place(one.number(candidate.params[path]))
                    for path, one in study.search.space.items()
                },
                value=shown(values[candidate.number]),
                score=scores[candidate.number],
            )
            for candidate in study.candidates
            if candidate.number in values
        ),
        asked=len(study.candidates),
        winner=None if winner is None else winner.number,
        importances=shares,
    )


def tunings(experiment: Experiment, settings: Settings) -> tuple[Tuning, ...]:
    """All searches of an experiment with their importances."""
    return tuple(tuning(study, with_importances=True) for study in studies(experiment, settings))


def before(experiment: Experiment) -> str:
    """How many candidates come before the comparison, to be added to its size; empty where none do."""
    search = experiment.spec.search
    if search is None:
        return ""
    each = counted(search.trials, "candidate") + (" per cell" if search.per == "cell" else "")
    seeds = f" x {counted(search.seeds, 'seed')}" if search.seeds > 1 else ""
    together = "" if search.per == "cell" else f" x {counted(len(experiment.cells), 'cell')}"
    count = search.trials * search.seeds * len(experiment.cells)
    return f"; before them a search of {each}{together}{seeds}, {counted(count, 'trial')} in all"


def price(seconds: Sequence[float]) -> str:
    """What the candidates' trials that are left will take, together."""
    return (
        f"before them {counted(len(seconds), 'trial')} of candidates, {duration(sum(seconds))} one after "
        "the other; winners may cost more or less than the YAML's setting"
    )


def still_tuned(searches: Sequence[Tuning]) -> str:
    """Why nothing is compared, where that is because of the searches; else empty."""
    waits = [one for one in searches if one.winner is None]
    if not waits:
        return ""
    hopeless = [name for one in waits if len(one.points) == one.planned for name in one.cells]
    if hopeless:
        return f"Nothing is compared: no setting that was tried works for {names(hopeless)}."
    done = sum(len(one.points) for one in searches)
    planned = sum(one.planned for one in searches)
    return f"Nothing is compared yet: cells are being tuned, {done} of {planned} candidates have ended."


def sentence(found: Tuning) -> str:
    """``tuning: 17 of 40 candidates of `a`, best so far: FID 4.1 at optimizer.lr 0.0012``."""
    whose = f"`{found.cells[0]}`" if len(found.cells) == 1 else "all cells together"
    text = f"tuning: {len(found.points)} of {found.planned} candidates of {whose}"
    best = found.best
    if best is None:
        if len(found.points) < found.planned:
            return text
        return f"{text}, and none works: all diverged or broke; change the space"
    setting = ", ".join(f"{path} {value}" for path, value in best.setting.items())
    ended = "best" if found.winner is not None else "best so far"
    told = f"{found.metric} {number(best.value)}" if math.isfinite(best.value) else "by mean rank"
    edge = f" (at the end of the range of {names(found.at_an_end)})" if found.at_an_end else ""
    return f"{text}, {ended}: {told} at {setting}{edge}"

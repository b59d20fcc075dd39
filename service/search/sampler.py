"""Which setting should be tried next? The only door to Optuna and its relatives.

Every answer is a pure function of the search, the candidate's number and what is known of the earlier ones:
nothing of a sampler is kept, so a driver that starts again goes on with the same study.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from service.search.ranges import Range

if TYPE_CHECKING:
    import optuna

    from service.search.spec import Search

Setting = Mapping[str, Any]
"""Dotted path to value."""
_REDRAWS = 50
"""How often a setting that was tried already is drawn again, before the next untried one is taken."""


def suggest(
    search: Search, number: int, earlier: Mapping[int, Setting], told: Mapping[int, float]
) -> dict[str, Any]:
    """The setting of candidate `number`, given the `earlier` ones; smaller scores `told` are better, all finite.

    Those without a score are at work: they are avoided, not learned from.
    """
    choose = SAMPLERS[search.by]
    tried = [dict(setting) for setting in earlier.values()]
    for redraw in range(_REDRAWS):
        seed = int(np.random.SeedSequence([search.seed, number, redraw]).generate_state(1)[0])
        setting = choose(search, number, earlier, told, seed)
        if setting not in tried or math.isinf(search.points()):
            return setting
    return next(setting for setting in _every(search.space) if setting not in tried)


def importances(
    space: Mapping[str, Range], settings: Mapping[int, Setting], told: Mapping[int, float]
) -> dict[str, float]:
    """The share of each path in the variance of the score (fANOVA); empty where nothing can be said."""
    scores = {number: told[number] for number in settings if number in told}
    if len(space) < 2 or len(scores) < 4 or len(set(scores.values())) < 2:
        return {}
    with _quiet():
        import optuna

        study = _study(optuna.samplers.RandomSampler(0), space, settings, scores)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {path: float(shares.get(path, 0.0)) for path in space}


def _by_optuna(name: str) -> Callable[..., dict[str, Any]]:
    def choose(
        search: Search,
        _number: int,
        earlier: Mapping[int, Setting],
        told: Mapping[int, float],
        seed: int,
    ) -> dict[str, Any]:
        with _quiet():
            import optuna

            study = _study(getattr(optuna.samplers, name)(seed=seed), search.space, earlier, told)
            trial = study.ask(_distributions(search.space))
        return {path: one.value(trial.params[path]) for path, one in search.space.items()}

    return choose


def _by_cmaes(
    search: Search,
    number: int,
    earlier: Mapping[int, Setting],
    told: Mapping[int, float],
    seed: int,
) -> dict[str, Any]:
    """CMA-ES over the unit cube. A generation is a row of candidates by number; it counts once all of it is known."""
    import cmaes

    axes = {path: one.axis() for path, one in search.space.items()}
    size = len(axes)
    ends = np.tile([0.0, 1.0], (size, 1))
    evolution = cmaes.CMA(np.full(size, 0.5), 0.25, bounds=ends, seed=seed)
    people = evolution.population_size
    for first in range(0, number - number % people, people):
        generation = range(first, first + people)
        if any(one not in told for one in generation):
            break
        places = [
            np.array(
                [axis.place(search.space[p].number(earlier[n][p])) for p, axis in axes.items()]
            )
            for n in generation
        ]
        evolution.tell([(x, told[n]) for x, n in zip(places, generation, strict=True)])
    point = evolution.ask()
    return {
        path: search.space[path].value(axis.at(float(x)))
        for (path, axis), x in zip(axes.items(), point, strict=True)
    }


SAMPLERS: dict[str, Callable[..., dict[str, Any]]] = {
    "tpe": _by_optuna("TPESampler"),
    "gp": _by_optuna("GPSampler"),
    "cmaes": _by_cmaes,
    "random": _by_optuna("RandomSampler"),
}
"""By the name that a YAML gives: a new one is a line here and a word in `Search.by`."""


def _study(
    sampler: optuna.samplers.BaseSampler,
    space: Mapping[str, Range],
    settings: Mapping[int, Setting],
    told: Mapping[int, float],
) -> optuna.Study:
    """The study in memory, as if it had never been away."""
    import optuna

    study = optuna.create_study(sampler=sampler)
    distributions = _distributions(space)
    for number, setting in sorted(settings.items()):
        is_told = number in told
        params = {path: _number(one, setting[path]) for path, one in space.items()}
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE
                if is_told
                else optuna.trial.TrialState.RUNNING,
                value=told[number] if is_told else None,
                params=params,
                distributions=distributions,
            )
        )
    return study


def _distributions(space: Mapping[str, Range]) -> dict[str, Any]:
    import optuna.distributions as known

    made: dict[str, Any] = {}
    for path, one in space.items():
        axis = one.axis()
        if not axis.is_ordered:
            made[path] = known.CategoricalDistribution(range(round(axis.high) + 1))
        elif axis.is_whole:
            made[path] = known.IntDistribution(round(axis.low), round(axis.high))
        else:
            made[path] = known.FloatDistribution(axis.low, axis.high, log=axis.is_log)
    return made


def _number(one: Range, value: Any) -> float | int:
    number = one.number(value)
    return round(number) if one.axis().is_whole else number


def _every(space: Mapping[str, Range]) -> Iterator[dict[str, Any]]:
    """All settings of a space that holds finitely many."""
    if not space:
        yield {}
        return
    (path, one), *rest = space.items()
    axis = one.axis()
    for place in range(round(axis.low), round(axis.high) + 1):
        for others in _every(dict(rest)):
            yield {path: one.value(place), **others}


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells of each trial, and of each feature that may change: neither is for the person."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        yield

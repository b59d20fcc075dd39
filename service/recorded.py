"""How far is an experiment, as the records and pulses of its trials say? For whoever looks on from outside its run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service import standing
from service.agenda import Agenda
from service.records import stand
from service.search.study import Study, studies, tuned
from service.standing import Standing, TrialStanding
from trainer.pulse import pulse
from trainer.record import Record
from trainer.report import Status

if TYPE_CHECKING:
    from service.experiment import Experiment, PlannedTrial
    from service.policy.base import Standing as Recorded
    from service.settings import Settings


def recorded(experiment: Experiment, settings: Settings) -> Standing:
    """How far its trials are; while something is searched, how far the candidates are."""
    known = tuned(experiment, settings)
    if is_tuning(known):
        return of_searches(studies(experiment, settings), settings)
    return of_work(Agenda(known, settings, attempt=None), settings)


def is_at_work(key: str, settings: Settings, elsewhere: bool = True) -> bool:
    """Whether somebody trains or measures this trial, by its pulse; `elsewhere`: on another machine, too.

    From here it is not seen that a process of another machine was killed, and left a pulse.
    """
    beat = pulse(settings.trial(key))
    return beat is not None and beat.is_fresh(time.time()) and (elsewhere or beat.is_here)


def is_tuning(known: Experiment) -> bool:
    """Whether a search has still to find something for a cell of an experiment with its winners."""
    return not all(known.is_tuned(cell.name) for cell in known.cells)


def of_work(
    agenda: Agenda, settings: Settings, now: float | None = None, at_once: int = 1
) -> Standing:
    """The trials that are wanted, from what the agenda has read of them, and their pulses at `now` in Unix time.

    A trial that several cells share counts once; of a cell that was ended for good, what has ended or runs.
    """
    stopped, found = agenda.stops(), dict[str, TrialStanding]()
    for trial in agenda.open_trials():
        one = _standing(trial, agenda.standing(trial.key), settings, now)
        if trial.cell not in stopped or one.status.is_over or one.status is Status.RUNNING:
            found[trial.key] = one
    return standing.of(list(found.values()), at_once)


def of_searches(searches: Sequence[Study], settings: Settings) -> Standing:
    """The candidates of searches: those that were asked, and those still to come."""
    return standing.of(list(candidates(searches, settings).values()), least=to_ask(searches))


def candidates(searches: Sequence[Study], settings: Settings) -> dict[str, TrialStanding]:
    """By key, how far the trials are that were asked so far."""
    found = {}
    for study in searches:
        for trial in (trial for one in study.candidates for trial in study.trials(one)):
            known = stand(Record(settings.trial(trial.key)), None)
            one = _standing(trial, known, settings, None)
            if study.has_ended(trial.key) and one.status is Status.STOPPED:  # where it is compared
                one = TrialStanding(trial.cell, trial.seed, Status.FINISHED, 1.0)
            found[trial.key] = one
    return found


def to_ask(searches: Sequence[Study]) -> int:
    """How many trials searches take in all."""
    return sum(s.search.trials * len(s.cells) * s.search.seeds for s in searches)


def _standing(
    trial: PlannedTrial, known: Recorded, settings: Settings, now: float | None
) -> TrialStanding:
    """One trial, from what was read of its record."""
    if (result := known.result) is not None:
        whole = result.seconds + result.eval_seconds
        return TrialStanding(trial.cell, trial.seed, Status(result.status), 1.0, whole)
    beat = pulse(settings.trial(trial.key))
    if beat is not None and beat.is_fresh(time.time() if now is None else now):
        return standing.running(trial.cell, trial.seed, beat)
    share = known.images / trial.spec.total_images()
    return TrialStanding(trial.cell, trial.seed, known.status, share)

"""What should be trained to tune? The candidates that were asked and have no result, then a new one.

Offers to a dispatch what `service.agenda` offers it, but its trials are not known at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING

from service.policy.base import Standing
from service.records import Records
from service.search.candidates import Candidate
from service.search.study import Study
from trainer.record import Record

if TYPE_CHECKING:
    from service.experiment import PlannedTrial
    from service.looks import CellState
    from service.settings import Settings
    from trainer.report import Stop

Expect = Callable[[Study, Candidate, "PlannedTrial"], None]
"""Is told of every trial before it is handed out, once in a run."""


class TuningAgenda:
    """The wanted work of all searches of an experiment. They take turns: each gets its candidates evenly."""

    @property
    def foreseen(self) -> bool:
        """What is asked depends on what came before."""
        return False

    def __init__(
        self, studies: list[Study], settings: Settings, attempt: str, expect: Expect
    ) -> None:
        """`attempt` names this run of the driver."""
        self._studies, self._settings, self._expect = studies, settings, expect
        self._records = Records(settings, attempt, curves=False)
        self._trials: dict[str, tuple[Study, PlannedTrial]] = {}
        self._standings: dict[str, Standing] = {}
        self._reached: dict[str, int] = {}
        for study in studies:
            if study.is_over and study.winner is None:
                self._forgive(study)
            for candidate in study.candidates:
                self._take_in(study, candidate)

    def refresh(self, key: str) -> None:
        """Read one trial's record again."""
        for study in self._studies:
            study.refresh(key)
        self._standings[key] = self._records.read(key)

    def paused(self, key: str, images: int) -> None:
        """A trial says how far it is, if its reports are on another disk than this one's."""
        self._reached[key] = images

    def standing(self, key: str) -> Standing:
        """How far a trial is."""
        return self._standings[key]

    def next(self, busy: Container[str] = ()) -> tuple[PlannedTrial, int] | None:
        """The next trial on which nobody is at work: one of a candidate that was asked, or of a new one."""
        return next(self.ahead(busy), None)

    def ahead(self, busy: Container[str] = ()) -> Iterator[tuple[PlannedTrial, int]]:
        """Those that were asked; a new one only where all of them are at work."""
        while not (known := [one for one in self._open() if one[0].key not in busy]):
            short = [one for one in self._studies if len(one.candidates) < one.search.trials]
            if not short:
                return
            study = min(short, key=lambda one: len(one.candidates))
            self._take_in(study, study.ask())
        yield from known

    def wants_more(self, key: str) -> bool:
        """Whether a trial should train beyond its last evaluation."""
        study, trial = self._trials[key]
        return study.until(trial) > self.standing(key).images

    def stops(self) -> dict[str, Stop]:
        """None: no candidate stops early."""
        return {}

    def unwritten_stops(self) -> list[tuple[str, Stop]]:
        """None."""
        return []

    @property
    def has_looks(self) -> bool:
        """No verdict falls on candidates."""
        return False

    def states(self) -> dict[str, CellState]:
        """None."""
        return {}

    @property
    def is_spent(self) -> bool:
        """The number of candidates bounds a search; an experiment's budget is for the comparison."""
        return False

    def budget_note(self) -> str | None:
        """Nothing."""
        return None

    def _open(self) -> Iterator[tuple[PlannedTrial, int]]:
        """What was asked and is not done, the earliest first."""
        for key, (study, trial) in self._trials.items():
            until = study.until(trial)
            if not study.has_ended(key) and self._reached.get(key, 0) < until:
                yield trial, until

    def _take_in(self, study: Study, candidate: Candidate) -> None:
        """Two candidates with the same setting are one piece of work."""
        for trial in study.trials(candidate):
            if trial.key not in self._trials:
                self._trials[trial.key] = (study, trial)
                self._standings[trial.key] = self._records.read(trial.key)
                self._expect(study, candidate, trial)

    def _forgive(self, study: Study) -> None:
        """A search that found nothing tries again what broke; what diverged would diverge again."""
        for candidate in study.candidates:
            for key in (key for keys in candidate.keys.values() for key in keys):
                record = Record(self._settings.trial(key))
                if record.result() is None:
                    record.clear_failure()
                    study.refresh(key)

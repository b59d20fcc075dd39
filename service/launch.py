"""How is an experiment run? The policy says what, Tune places it, Train trains it, the ledger writes it down.

The trials' directories are the truth. Each run is a fresh Tuner over what is wanted and not done yet, so
the same command submits, resumes and extends; Tune's own state is never restored.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from service import precisions, signals
from service.agenda import Agenda, WorkSource
from service.board import Board
from service.dispatch import Dispatch
from service.errors import ServiceError
from service.experiment.saved import save
from service.job_progress import published
from service.ledger import Ledger
from service.mending import set_damaged_aside
from service.notify import Notifier
from service.outcome import Outcome
from service.progress import SweepNote
from service.remote import driver as remote
from service.resources import Capacity
from service.search.study import studies, tuned
from service.settings import Settings
from service.settings import load as load_settings
from service.sole_driver import mirrored, sole_driver
from service.stop_request import heeded
from service.tracking.keys import sweep_key
from service.tracking.outbox import Outbox
from service.tracking.server import check_reachable
from service.tracking.uploader import uploading
from service.under_way import UnderWay
from trainer.record import Record

if TYPE_CHECKING:
    from service.cluster.connect import Cluster
    from service.experiment import Experiment
    from service.planning.book import Book
    from service.progress import Event
    from trainer.calibrating import Chosen


def run(
    experiment: Experiment,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run what is left of an experiment and return how it ended; the same call continues it.

    Where it searches, candidates come first, then the comparison of the winners. Raises `ServiceError`
    before any work when the tracking server does not answer, another driver is at work on it, or a trial
    cannot be placed. Ctrl-C, SIGTERM, a closed terminal, `stop` and a stop request end it with
    `interrupted`.
    """
    from service.planning.book import Book

    settings, stop = settings or load_settings(), stop or threading.Event()
    settings.keep_private()
    on_event = on_event if settings.remote is None else remote.told_once(on_event)
    check_reachable(settings)
    home = settings.experiment(experiment.name)
    notifier = Notifier.of(experiment, settings, lambda line: on_event(SweepNote(line)))
    with contextlib.ExitStack() as held:
        held.callback(notifier.close)
        held.enter_context(signals.interruptible(stop))
        held.enter_context(sole_driver(settings, experiment.name, stop))
        held.enter_context(mirrored(experiment, settings, on_event, stop))
        outbox = held.enter_context(contextlib.closing(Outbox(home / "outbox.db")))
        held.enter_context(heeded(home, stop))
        work = _Driver(
            settings, outbox, notifier.listen(on_event), stop, held, Book(experiment, settings)
        )
        if precisions.asking(experiment.cells):
            experiment = work.precise(experiment)
            work.book = Book(experiment, settings)
        outcome = _whole(work, experiment)
        notifier.tell("end", outcome.text(), {"outcome": outcome.summary()})
        return outcome


def _whole(work: _Driver, experiment: Experiment) -> Outcome:
    """Candidates where something is searched, then what is compared."""
    if experiment.spec.search is None:
        return work.compare(experiment)
    tuning = work.tune(experiment)
    if tuning.interrupted or tuning.untuned:
        return tuning
    return work.compare(tuned(experiment, work.settings)).after(tuning)


@dataclass
class _Driver:
    """One run: its parts share the outbox, and the connection to Ray from the first that trains on."""

    settings: Settings
    outbox: Outbox
    on_event: Callable[[Event], None]
    stop: threading.Event
    held: contextlib.ExitStack
    book: Book
    cluster: Cluster | None = None
    ray: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What ends with the connection to Ray."""
    chosen: Chosen | None = None
    """Of `train.precision: auto`, where that is asked for."""

    def __post_init__(self) -> None:
        self.under_way = UnderWay(self.settings)

    def tune(self, experiment: Experiment) -> Outcome:
        """Ask and train candidates until every search is over."""
        from service.search.agenda import TuningAgenda
        from service.search.ledger import TuningLedger

        searches = studies(experiment, self.settings)
        if _by_cluster(experiment) and not all(study.is_over for study in searches):
            searches = studies(experiment := self._placed(experiment), self.settings)
        show = self._published(experiment)
        self._mend((key for study in searches for key in study.trial_keys()), show)
        save(tuned(experiment, self.settings), self.settings.experiment(experiment.name))
        ledger = TuningLedger(experiment, searches, self.settings, self.outbox, show)

        def wants(_: Experiment, settings: Settings, attempt: str) -> TuningAgenda:
            return TuningAgenda(searches, settings, attempt, ledger.expect)

        outcome = self._work(experiment, ledger, wants)
        over = [study for study in searches if study.is_over and study.winner is None]
        outcome.untuned += [cell.name for study in over for cell in study.cells]
        return outcome

    def compare(self, experiment: Experiment) -> Outcome:
        """Train what is left of the trials that are compared."""
        records = (Record(self.settings.trial(trial.key)) for trial in experiment.trials)
        if _by_cluster(experiment) and any(record.result() is None for record in records):
            experiment = self._placed(experiment)
        save(experiment, self.settings.experiment(experiment.name))
        show = self._published(experiment)
        self._mend((trial.key for trial in experiment.trials), show)
        ledger = Ledger(experiment, self.settings, self.outbox, show)
        return self._work(experiment, ledger, Agenda, is_last=True)

    def _mend(self, keys: Iterable[str], show: Callable[[Event], None]) -> None:
        for line in set_damaged_aside(keys, self.settings):
            show(SweepNote(line))

    def _published(self, experiment: Experiment) -> Callable[[Event], None]:
        show = published(
            experiment.name, lambda: Board.of(experiment, self.settings), self.on_event
        )

        def heard(event: Event) -> None:
            self.book.hear(event)
            self.under_way.hear(event)
            show(event)

        return heard

    def _work(
        self,
        experiment: Experiment,
        ledger: Ledger,
        wants: Callable[[Experiment, Settings, str], WorkSource],
        *,
        is_last: bool = False,
    ) -> Outcome:
        told = self.settings, experiment.name, ledger.note, self.under_way
        with uploading(self.outbox, *told) as uploader:
            interrupted = False
            signals.at_work()
            try:
                dispatch = Dispatch(experiment, self.settings, ledger, self.stop, wants)
                self._train(experiment, ledger, dispatch)
                interrupted = self.stop.is_set() or not dispatch.is_over
            except KeyboardInterrupt:
                interrupted = True
            except BaseException:
                signals.ending()
                if ledger.is_open:
                    ledger.close(interrupted=True)
                raise
            signals.ending()
            if not ledger.is_open:  # it was interrupted while Ray started
                ledger.open(trains=False)
            outcome = self._accounted(ledger.close(interrupted))
            if is_last:  # Ray ends while MLflow is told the rest
                uploader.wake()
                self.ray.close()
            return outcome

    def _accounted(self, outcome: Outcome) -> Outcome:
        """With what was foretold of it; MLflow is told, too."""
        if self.chosen is not None:
            self.outbox.tag(sweep_key(outcome.experiment), {"precision": self.chosen.text()})
        outcome.costs = self.book.close(outcome)
        if outcome.costs is not None:
            self.outbox.tag(sweep_key(outcome.experiment), outcome.costs.tags())
        return outcome

    def _train(self, experiment: Experiment, ledger: Ledger, dispatch: Dispatch) -> None:
        if dispatch.is_over:
            ledger.open(trains=False)
            return
        cluster = self._connected(experiment)  # refuses before anything is announced
        from service.cluster import tuning

        room = Capacity(*cluster.size(), self.settings.concurrency)
        self.book.foresee(room, not cluster.is_private)
        ledger.open()
        is_lost = False
        try:
            tuning.run(dispatch, experiment, self.settings, cluster, self.stop)
        except Exception:
            is_lost = True
            cluster.check()  # what it could not do is the end of its Ray, not its own
            raise
        finally:
            if (is_lost or ledger.outcome.failed) and cluster.logs is not None:
                home = self.settings.experiment(experiment.name)
                _keep_logs(cluster.logs, home / "ray-logs")

    def _connected(self, experiment: Experiment) -> Cluster:
        from service.cluster.connect import connected, fits

        if self.cluster is None:
            shapes = experiment.least_shapes
            self.held.enter_context(self.ray)
            self.cluster = self.ray.enter_context(connected(self.settings, shapes))
        else:
            fits(self.cluster, experiment.least_shapes)
        return self.cluster

    def _placed(self, experiment: Experiment) -> Experiment:
        """With what depends on the cluster, where something is left to train: shares of a GPU, numbers of workers."""
        from service.cluster.sharing import Sharing
        from service.experiment.cell import Cell

        cluster = self._connected(experiment.placed(Cell.least))
        if any(cell.asked.is_auto for cell in experiment.cells):
            sharing = Sharing(experiment, self.settings, self._said, self.stop)
            experiment, lines = sharing.placed()
            for line in lines:
                self._said(line)
        room = Capacity(*cluster.size())
        experiment = experiment.placed(lambda cell: cell.within(room))
        self.book.placed(experiment)
        return experiment

    def precise(self, experiment: Experiment) -> Experiment:
        """With the precision that its trials are trained in: chosen where they train, before the first of them."""
        from service.cluster.timing import chosen_there
        from service.experiment.cell import Cell

        folder = self.settings.experiment(experiment.name)
        chosen = precisions.known(folder)
        if chosen is None:
            if self.settings.remote is not None:
                raise ServiceError(
                    "train.precision: auto: is not for a home in a store, where machines differ",
                    "write the precision: fp32 or bf16",
                )
            self._connected(experiment.placed(Cell.least))
            chosen = chosen_there(experiment, self.settings, self._said, self.stop)
            precisions.keep(folder, chosen)
            self._said(f"train.precision: {chosen.text()}")
        self.chosen = chosen
        return experiment.placed(lambda cell: precisions.given(cell, chosen))

    def _said(self, line: str) -> None:
        self.on_event(SweepNote(line))


def _by_cluster(experiment: Experiment) -> bool:
    """Whether what its trials occupy depends on what the cluster has."""
    return any(cell.asked.is_auto or cell.asked.is_elastic for cell in experiment.cells)


def _keep_logs(logs: Path, kept: Path) -> None:
    """Ray's logs of a run with failures outlive its private directory."""
    shutil.rmtree(kept, ignore_errors=True)
    with contextlib.suppress(OSError, shutil.Error):
        shutil.copytree(logs, kept, symlinks=True)

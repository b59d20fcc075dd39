"""Can what every trial needs be had here? Asked once before anything is trained, not once in every trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.experiment.answers import Answers
from service.planning.calibration import learning_s
from trainer.data import Absent, Codec, held_out_source
from trainer.errors import InputError, Problem, UserError
from trainer.evaluation.enough import check_real
from trainer.evaluation.published import published
from trainer.lazily import torch
from trainer.record import Record

if TYPE_CHECKING:
    from service.experiment import Cell, Experiment
    from service.settings import Settings
    from trainer.data import Source
    from trainer.evaluation.features import FeatureSpace


def check(experiment: Experiment, settings: Settings) -> None:
    """Look at the data and at the feature spaces of all cells. Nothing is trained or downloaded.

    Raises InputError with every problem that the data have with the cells, EnvironmentProblem for weights or packages
    that this machine lacks and cannot get.
    """
    _check(experiment, _Sources(experiment, settings.cache))


def make_ready(experiment: Experiment, settings: Settings) -> None:
    """The same, then what all trials would wait for: downloads, and extractors that are trained on the data.

    Progress goes to standard error. Only where something is left to train, and on this machine: a cluster's has
    its own files.
    """
    if settings.ray_address is not None:
        return
    if all(Record(settings.trial(trial.key)).result() for trial in experiment.trials):
        return
    sources = _Sources(experiment, settings.cache)
    _check(experiment, sources)
    for cell, space in _distinct(experiment):
        outline = sources.outline(cell)
        source = outline if space.is_made(outline, settings.cache) else sources.of(cell)
        space.prepare(source, settings.cache)


def preparing(experiment: Experiment, settings: Settings) -> float:
    """Seconds that this machine spends once on extractors that are trained on the data: some steps are timed."""
    sources = _Sources(experiment, settings.cache)
    return sum(
        learning_s(space, outline, partial(sources.of, cell), settings.cache)
        for cell, space in _distinct(experiment)
        if not space.is_made(outline := sources.outline(cell), settings.cache)
    )


def _check(experiment: Experiment, sources: _Sources) -> None:
    problems: list[Problem] = []
    asked: set[tuple[str, str]] = set()
    for cell in experiment.untuned:
        once = cell.trial.data.digest(), cell.trial.evaluation.digest()
        if once not in asked:
            asked.add(once)
            problems += [experiment.problem(cell.name, text) for text in _complaints(cell, sources)]
    if problems:
        raise InputError(problems)


class _Sources:
    """The cells' data sets, each looked at once: decoded only where somebody trains on it here."""

    def __init__(self, experiment: Experiment, cache: Path) -> None:
        """Raises InputError where a cell cannot train on its data."""
        self._root, self._cache = experiment.data_root, cache
        self._outlines = experiment.outlines
        self._answers = Answers(experiment.home)
        self._loaded: dict[str, Source] = {}

    def outline(self, cell: Cell) -> Source:
        """What is known of a cell's data before anything is decoded. Raises DataError."""
        known = self._outlines.get(cell.trial.data.digest())
        if known is None or not known.fingerprint:
            return self.of(cell)
        return known.source or self._remembered(cell, known.fingerprint)

    def _remembered(self, cell: Cell, fingerprint: str) -> Source:
        """What is known of a set that only `load` tells of, without loading it a second time."""

        def told() -> dict[str, Any]:
            source = self.of(cell)
            return {
                "codec": source.codec.to_state(),
                "flip": source.flip,
                "examples": len(source),
            }

        known = self._answers.ask("data", [cell.trial.data, fingerprint], told)
        codec = Codec.from_state(known["codec"])
        return Absent(codec, fingerprint, flip=known["flip"], examples=known["examples"])

    def test_outline(self, cell: Cell) -> Source:
        """The same of its test split."""
        known = self._outlines[cell.trial.data.digest()].test
        assert known is not None, "outlined with the data"
        if known.source is not None:
            return known.source
        codec, device = self.outline(cell).codec, torch.device("cpu")
        return held_out_source(cell.trial.data, codec, self._root, self._cache, device)

    def of(self, cell: Cell) -> Source:
        """The data of a cell. Raises DataError."""
        data = cell.trial.data
        if data.digest() not in self._loaded:
            self._loaded[data.digest()] = data.load(self._root, self._cache)
        return self._loaded[data.digest()]


def _complaints(cell: Cell, sources: _Sources) -> Iterator[str]:
    """What every trial of the cell would end with, being the user's to mend."""
    try:
        source = sources.outline(cell)
    except UserError as error:
        yield str(error)
        return
    evaluation = cell.trial.evaluation
    checks: list[Callable[[], None]] = []
    for space in evaluation.spaces():
        checks += [partial(space.check, source.codec), space.ready]
    checks += [partial(one.check, source.codec) for one in evaluation.questions]
    if evaluation.is_published:
        width = evaluation.features.dimensions(source.codec.shape)
        checks.append(partial(_readable, evaluation.reference, width))
    checks.append(partial(check_real, source, evaluation.comparisons_with("train")))
    if evaluation.looks_at_test:
        test = sources.test_outline(cell)
        checks.append(partial(check_real, test, evaluation.comparisons_with("test")))
    for verify in checks:
        try:
            verify()
        except UserError as error:
            yield str(error)


def _readable(reference: str, width: int | None) -> None:
    published(reference, width, torch.device("cpu"))


def _distinct(experiment: Experiment) -> Iterator[tuple[Cell, FeatureSpace]]:
    """A cell for every pair of data set and feature space."""
    seen: set[tuple[str, str]] = set()
    for cell in experiment.cells:
        for space in cell.trial.evaluation.spaces():
            once = cell.trial.data.digest(), space.digest()
            if once not in seen:
                seen.add(once)
                yield cell, space

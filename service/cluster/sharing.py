"""`gpus: auto` on a cluster: a trial's memory is measured where it will train, by an actor that has a whole GPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cluster.bench import ended, occupied
from service.cluster.connect import check_alive
from service.cluster.waiting import Waiting
from service.errors import ServiceError
from service.planning.memory import apply
from service.resources import Resources
from service.shares import Measured, Shares
from trainer.errors import UserError

if TYPE_CHECKING:
    from service.experiment import Cell, Experiment
    from service.settings import Settings

_TYPE = "accelerator_type:"
UNNAMED = "GPU"
"""What a GPU is called whose model Ray was not told."""


class Sharing:
    """The shares of one experiment's cells on the cluster that this process is connected to."""

    def __init__(
        self,
        experiment: Experiment,
        settings: Settings,
        note: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        """`note` hears of what is waited for; `stop` ends that."""
        self._experiment, self._cache = experiment, settings.cache
        self._shares = Shares(settings.cache)
        self._note, self._stop = note, stop

    def placed(self) -> tuple[Experiment, list[str]]:
        """The experiment with the shares that its trials need, and what was measured, a line each.

        Raises ServiceError where nothing can be measured, KeyboardInterrupt once `stop` is set.
        """
        cells = [cell for cell in self._experiment.cells if cell.asked.is_auto]
        found: dict[str, Measured] = {}
        for card in (cards := cards_there()):
            for name, one in self._on(card, cells).items():
                found[name] = max(one, found.get(name, one), key=lambda each: each.share)
        return apply(self._experiment, self._shares, found if cards else None)

    def _on(self, card: str, cells: list[Cell]) -> dict[str, Measured]:
        """What was measured on GPUs of this name, the missing ones now."""
        known = {cell.name: self._shares.of(cell, card) for cell in cells}
        if missing := [cell for cell in cells if known[cell.name] is None]:
            with self._actor(card, missing[0]) as actor:
                for cell in missing:
                    if (again := self._shares.of(cell, card)) is None:  # of an equal cell
                        again = self._measured(actor, card, cell)
                        self._shares.keep(cell, again)
                    known[cell.name] = again
        return {name: one for name, one in known.items() if one is not None}

    @contextlib.contextmanager
    def _actor(self, card: str, cell: Cell) -> Iterator[Any]:
        need = Resources(gpus=1, cpus=cell.resources.cpus)
        given = str(self._experiment.data_root), str(self._cache)
        with begun(_Worker, given, need, card, self._note, self._stop) as actor:
            yield actor

    def _measured(self, actor: Any, card: str, cell: Cell) -> Measured:
        import ray

        trial, workers = cell.trial.model_dump_json(), cell.choices[0].workers
        try:
            told = ray.get(actor.measure.remote(trial, workers))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise _unmeasured(cell, str(error.cause)) from None
        except ray.exceptions.RayError as error:
            raise _unmeasured(cell, str(error).splitlines()[0]) from None
        if told is None:
            raise _unmeasured(cell, "Ray says that there is a GPU, torch sees none there")
        return Measured(told["taken"], told["total"], card)


@contextlib.contextmanager
def begun(
    worker: type[Any],
    given: tuple[str, ...],
    need: Resources,
    card: str,
    note: Callable[[str], None],
    stop: threading.Event,
) -> Iterator[Any]:
    """An actor that holds `need`, on a GPU of this name, once it is placed; it is gone when the block ends.

    `note` hears of what is waited for. KeyboardInterrupt once `stop` is set.
    """
    import ray

    room = occupied(need) | ({} if card == UNNAMED else {"accelerator_type": card})
    with ended(ray.remote(worker).options(**room).remote(*given)) as actor:
        waiting, there = Waiting(note), actor.begin.remote()
        while not ray.wait([there], timeout=0.5)[0]:
            waiting.look([need], at_work=0)
            check_alive()
            if stop.is_set():
                raise KeyboardInterrupt
        yield actor


def placed_there(experiment: Experiment, settings: Settings) -> tuple[Experiment, list[str]]:
    """The experiment with the shares that its trials need, and what was heard on the way and is said of them."""
    if not any(cell.asked.is_auto for cell in experiment.cells):
        return experiment, []
    heard: list[str] = []
    placed, lines = Sharing(experiment, settings, heard.append, threading.Event()).placed()
    return placed, [*heard, *lines]


def _unmeasured(cell: Cell, why: str) -> ServiceError:
    return ServiceError(
        f"gpus: auto: cell `{cell.name}` could not be measured: {why[:300]}",
        "mend that, or write a number: resources.gpus: 0.5 packs two workers on one GPU",
    )


def cards_there() -> list[str]:
    """Names of the GPUs that there are."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cards = set[str]()
    for node in nodes:
        if node.get("GPU", 0.0) > 0:
            named = [name.removeprefix(_TYPE) for name in node if name.startswith(_TYPE)]
            cards |= set(named or [UNNAMED])
    return sorted(cards)


class _Worker:
    """An actor that has a whole GPU."""

    def __init__(self, data_root: str, cache: str) -> None:
        self._given = Path(data_root), Path(cache)

    def begin(self) -> bool:
        """Answers once it is placed."""
        return True

    def measure(self, trial: str, workers: int) -> dict[str, Any] | None:
        """A `Measured`, as data; None where torch sees no GPU."""
        from service.planning.memory import measure
        from trainer.trial import TrialSpec

        found = measure(TrialSpec.model_validate_json(trial), *self._given, workers)
        return None if found is None else dict(vars(found))

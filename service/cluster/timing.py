"""`train.precision: auto` on a cluster: steps are timed where trials train, on every model of GPU that there is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cluster.sharing import UNNAMED, begun, cards_there
from service.errors import ServiceError
from service.precisions import asking
from service.resources import Resources
from trainer.calibrating import Chosen
from trainer.errors import UserError

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings


def chosen_there(
    experiment: Experiment,
    settings: Settings,
    note: Callable[[str], None],
    stop: threading.Event,
) -> Chosen:
    """By the baseline, or the first cell that asks; where GPUs differ, by the one that gains least from bf16.

    `note` hears of what is waited for. KeyboardInterrupt once `stop` is set.
    """
    cell = asking(experiment.cells, experiment.baseline)[0]
    least = cell.choices[0]
    names = cards_there() if least.gpus or cell.asked.is_auto else [UNNAMED]
    need = Resources(
        gpus=(1 if cell.asked.is_auto else least.gpus) if names else 0, cpus=least.cpus
    )
    given = (
        cell.trial.model_dump_json(),
        str(experiment.data_root),
        str(settings.cache),
        str(need.threads),
    )
    found = []
    for card in names or [UNNAMED]:
        with begun(_Worker, given, need, card, note, stop) as actor:
            found.append(_timed(actor))
    return min(found, key=lambda one: one.seconds["fp32"] / one.seconds["bf16"])


def _timed(actor: Any) -> Chosen:
    import ray

    try:
        return Chosen(**ray.get(actor.timed.remote()))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise _untimed(str(error.cause)) from None
    except ray.exceptions.RayError as error:
        raise _untimed(str(error).splitlines()[0]) from None


def _untimed(why: str) -> ServiceError:
    return ServiceError(
        f"train.precision: auto: no step could be timed: {why[:300]}",
        "mend that, or write the precision: fp32 or bf16",
    )


class _Worker:
    """An actor that holds what one worker of a trial holds."""

    def __init__(self, trial: str, data_root: str, cache: str, threads: str) -> None:
        self._trial, self._threads = trial, int(threads)
        self._data_root, self._cache = Path(data_root), Path(cache)

    def begin(self) -> bool:
        """Answers once it is placed."""
        return True

    def timed(self) -> dict[str, Any]:
        """A `Chosen`, as data."""
        from service.planning.measuring import using_threads
        from trainer.calibrating import fastest
        from trainer.distributed import best_device
        from trainer.trial import TrialSpec

        spec = TrialSpec.model_validate_json(self._trial)
        with using_threads(self._threads):
            source = spec.data.load(self._data_root, self._cache).to(best_device("auto"))
            return dict(vars(fastest(spec, source, self._cache)))

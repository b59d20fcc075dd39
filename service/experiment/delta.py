"""What is new in an experiment since one of its name was run last in a home?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.text import counted, names
from service.experiment.differing import differing
from service.experiment.saved import read_saved
from trainer.errors import InputError
from trainer.yaml.writer import yaml_text

if TYPE_CHECKING:
    from service.experiment.experiment import Experiment

_MOST = 4
"""Values of a changed cell that are named."""


@dataclass(frozen=True)
class Delta:
    """The cells and trials of a run beside those of the run before."""

    same: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: dict[str, list[str]] = field(default_factory=dict)
    """Cell to its changes: `optimizer.lr 0.002, was 0.001`."""
    trials_new: int = 0
    trials_gone: int = 0
    """Trials that are in the one and not in the other; a longer list of seeds adds trials, too."""

    def sentences(self, name: str) -> list[str]:
        """What a person should know before the run; nothing where nothing changed."""
        parts = [f"{names(list(self.new))} {_be(self.new)} new"] if self.new else []
        for cell, changes in self.changed.items():
            rest = f", and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
            parts.append(f"`{cell}` has {'; '.join(changes[:_MOST])}{rest}")
        parts += [f"{names(list(self.gone))} {_be(self.gone)} gone"] if self.gone else []
        if not parts and not self.trials_gone:
            return []
        cells = f"{', '.join(parts)}; " if parts else ""
        unused = ""
        if self.trials_gone:
            unused = (
                f"; {counted(self.trials_gone, 'trial')} of before not used any more"
                " (`diffsweep rm --orphans` frees what no experiment names)"
            )
        said = [
            f"since {name} was run last: {cells}{counted(self.trials_new, 'trial')} more{unused}"
        ]
        if self.changed or self.gone:
            said.append(
                f"{name} was run with other cells before; its MLflow experiment and report will show the "
                "present ones; use another name to keep both"
            )
        return said


def _be(cells: tuple[str, ...]) -> str:
    return "is" if len(cells) == 1 else "are"


def delta(experiment: Experiment, directory: Path) -> Delta | None:
    """Beside what was run last in an experiment's directory; None where nothing readable is there."""
    try:
        before = read_saved(directory)
    except (OSError, InputError):
        return None
    was, now = before.identities(), experiment.identities()
    both = [cell for cell in now if cell in was]
    known = {t.key for t in before.trials}
    planned = {t.key for t in experiment.trials}
    return Delta(
        same=tuple(cell for cell in both if was[cell] == now[cell]),
        new=tuple(cell for cell in now if cell not in was),
        gone=tuple(cell for cell in was if cell not in now),
        changed={c: _changes(before, experiment, c) for c in both if was[c] != now[c]},
        trials_new=len(planned - known),
        trials_gone=len(known - planned),
    )


def _changes(before: Experiment, now: Experiment, cell: str) -> list[str]:
    """The values in which a cell is another."""
    pair = [
        replace(one, name=which)
        for which, of in (("was", before), ("now", now))
        for one in of.untuned
        if one.name == cell
    ]
    return [
        f"{path} {_value(values, 'now')}, was {_value(values, 'was')}"
        for path, values in differing(pair).items()
    ]


def _value(values: dict[str, Any], which: str) -> str:
    if which not in values:
        return "without a value"
    value = values[which]
    return yaml_text(list(value) if isinstance(value, tuple) else value)

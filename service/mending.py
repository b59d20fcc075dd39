"""Which records of an experiment are damaged, so that what they lost is trained again?

A crash leaves nothing damaged: what it cut short is repeated anyway. A flipped bit, or somebody's editor, may.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainer.lease import holder
from trainer.record import LOCK, Record

if TYPE_CHECKING:
    from service.settings import Settings


def set_damaged_aside(keys: Iterable[str], settings: Settings) -> list[str]:
    """Rename the directories of damaged trials, unless somebody trains there; a line for each of them."""
    said = []
    for key in dict.fromkeys(keys):
        record = Record(settings.trial(key))
        problem = record.damage()
        if problem is None or holder(record.directory / LOCK) is not None:
            continue
        aside = record.set_aside()
        said.append(f"{problem}: the trial is trained again; what is left of it is in {aside.name}")
    return said

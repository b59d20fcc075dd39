"""Which trained trial does `start_from` mean? A key, a directory, or a cell and seed of what a YAML says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.command_line import diffsweep, program
from service.settings import load as load_settings
from trainer.errors import listing, suggestion
from trainer.record import Record
from trainer.yaml.source import read

Planned = tuple[str, int, str]
"""Cell, seed and key of a trial."""


class StartError(ValueError):
    """Why a start is none; `at` is the key of `start_from` that is wrong."""

    def __init__(self, at: str, message: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True)
class Starts:
    """The trials that those of an experiment may begin with."""

    home: Path
    """Where the trials lie."""
    folder: Path
    """Where relative paths of YAML files start; then the working directory."""
    plan: Callable[[Path | Mapping[str, Any]], Sequence[Planned]]
    """The trials of an experiment's file, or of a mapping. InputError says what is wrong in it."""
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def settled(self, start: Any) -> Any:
        """`start_from` with the directory of the trial that it means; StartError where that is no trained one.

        What the trainer's own check has to refuse is left as it is.
        """
        if not isinstance(start, dict) or start.get("weights") is not None:
            return start
        if not isinstance(start.get("trial"), str | dict) or not start["trial"]:
            return start
        said = _said(start)
        if said not in self._known:
            directory = self._directory(start["trial"], start.get("cell"), start.get("seed"))
            rest = {k: v for k, v in start.items() if k not in ("cell", "seed")}
            self._known[said] = {**rest, "trial": str(directory)}
        return dict(self._known[said])

    def portable(self, values: Any) -> Any:
        """A document's values, whose starts that lie in the home are named by key: so they are read on another machine,
        which has no file of this one.
        """
        if isinstance(values, list):
            return [self.portable(each) for each in values]
        if not isinstance(values, dict):
            return values
        return {
            key: self._by_key(each) if key == "start_from" else self.portable(each)
            for key, each in values.items()
        }

    def _by_key(self, start: Any) -> Any:
        known = self._known.get(_said(start)) if isinstance(start, dict) else None
        if known is None or Path(known["trial"]).parent != (self.home / "trials").resolve():
            return [self._by_key(each) for each in start] if isinstance(start, list) else start
        return {**known, "trial": Path(known["trial"]).name}

    def _directory(self, trial: str | dict[str, Any], cell: Any, seed: Any) -> Path:
        if isinstance(trial, dict):
            return self._of_plan(trial, "what is written here", cell, seed)
        if (file := self._file(trial)) is not None:
            return self._of_plan(file, trial, cell, seed)
        places = (Path(trial).expanduser(), self.home / "trials" / trial)
        try:
            found = next((place for place in places if place.is_dir()), None)
        except (OSError, ValueError):
            found = None
        if found is None:
            raise StartError(
                "trial",
                f"{trial[:200]} is no directory, no YAML file and no trial of {self.home / 'trials'}: write the key or "
                "directory of a trial that was trained, or {trial: FILE.yaml, cell: NAME, seed: 0}",
            )
        given = [name for name, value in (("cell", cell), ("seed", seed)) if value is not None]
        if given:
            raise StartError(given[0], f"{trial} is one trial already: leave {given[0]} out")
        return found.resolve()

    def _file(self, trial: str) -> Path | None:
        places = (self.folder / trial, Path(trial).expanduser())
        try:
            return next((Path(os.path.abspath(place)) for place in places if place.is_file()), None)
        except (OSError, ValueError):
            return None

    def _of_plan(self, what: Path | dict[str, Any], name: str, cell: Any, seed: Any) -> Path:
        """The directory of a planned trial."""
        source = _experiment(what, seed)
        planned = self.plan(what if source is None else source)
        cells = list(dict.fromkeys(each for each, _, _ in planned))
        if source is not None and cell is not None:
            raise StartError("cell", f"{name} is one trial, which has no cells: leave it out")
        if cell is None and len(cells) > 1:
            raise StartError("cell", f"is missing: {name} has {len(cells)} cells: {listing(cells)}")
        chosen = cells[0] if cell is None else cell
        if chosen not in cells:
            raise StartError(
                "cell", f"{name} has no cell `{chosen}`{suggestion(str(chosen), cells)}"
            )
        keys = {number: key for each, number, key in planned if each == chosen}
        number = next(iter(keys)) if seed is None else seed
        if number not in keys:
            seeds = listing(map(str, keys))
            raise StartError(
                "seed", f"`{chosen}` of {name} is not planned with seed {seed}: {seeds}"
            )
        record = Record(self.home / "trials" / keys[number])
        if record.images() == 0:
            raise StartError("trial", self._untrained(name, what, source is None, number, keys))
        return record.directory.resolve()

    def _untrained(
        self,
        name: str,
        what: Path | dict[str, Any],
        is_experiment: bool,
        seed: int,
        keys: dict[int, str],
    ) -> str:
        """Which command trains it."""
        key = keys[seed]
        told = f"{name} is not trained yet (no trial {key} in {self.home})"
        if key.startswith("untuned-"):
            told = f"{name} still has to be searched and trained"
        if is_experiment:
            command = diffsweep("run", str(what), settings=load_settings(home=self.home))
        else:
            file = what if isinstance(what, Path) else "TRIAL.yaml"
            option = f" -o seed={seed}" if seed else ""
            out = self.home / "trials" / key
            command = f"{program('python')} -m trainer {file}{option} --out {out}"
        first = "" if isinstance(what, Path) else "write it into a file and "
        return f"{told}: {first}train it first: {command}"


def _said(start: dict[str, Any]) -> str:
    return repr(sorted(start.items(), key=str))


def _experiment(what: Path | dict[str, Any], seed: Any) -> dict[str, Any] | None:
    """The experiment of one cell that a single trial is; None where it is an experiment already."""
    data = read(what).data if isinstance(what, Path) else what
    if not isinstance(data, dict) or "base" in data or "model" not in data:
        return None
    base = str(what) if isinstance(what, Path) else {k: v for k, v in data.items() if k != "seed"}
    own = 0 if isinstance(what, Path) else data.get("seed", 0)
    return {"name": "start", "base": base, "seeds": [own if seed is None else seed]}

"""Which trained model is meant? A key or the beginning of one, a directory, or a cell and seed of an experiment."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.remote.home import bring_key, bring_model, look_around
from trainer.data.picture import EXTENSIONS
from trainer.errors import InputError, Problem, listing, suggestion
from trainer.record import TRIAL, Record

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.settings import Settings
    from trainer.trial import TrialSpec

_KEY = re.compile(r"[0-9a-f]{1,20}")
_SHORT = 8
"""Digits of a key that a person is shown."""


@dataclass(frozen=True)
class Found:
    """A trial's directory, and what it is called where that is known."""

    record: Record
    name: str
    """`4f1c22a0`, or `under-seed0` of an experiment: for folders and titles."""
    experiment: str | None = None
    cell: str | None = None


def find_model(
    target: str, settings: Settings, cell: str | None = None, seed: int | None = None
) -> Found:
    """The trial that `target` means; InputError with the nearest known ones where it means none, or several."""
    if os.path.isfile(target):
        _refuse_samples(target)
        if Path(target).name == TRIAL:  # what lies in a trial's directory means the directory
            return _of_directory(Path(target).parent, cell, seed)
    if os.path.isdir(target) and not _is_experiment(target, settings):
        return _of_directory(Path(target), cell, seed)
    look_around(settings)
    if _is_experiment(target, settings):
        return _of_experiment(target, settings, cell, seed)
    return _of_key(target, settings, cell, seed)


def _is_experiment(target: str, settings: Settings) -> bool:
    """As the commands that take an experiment understand it."""
    from service.experiment.saved import SAVED

    if Path(target).suffix in (".yaml", ".yml") or os.path.isfile(target):
        return True
    return os.sep not in target and os.path.isfile(settings.experiment(target) / SAVED)


def _of_directory(folder: Path, cell: str | None, seed: int | None) -> Found:
    _refuse_cell(str(folder), cell, seed)
    if not (folder / TRIAL).is_file():
        message = (
            f"holds no trial ({TRIAL}): name a directory such as {Path('runs') / 'trials' / 'KEY'}"
        )
        raise InputError([Problem(str(folder), None, "", message)])
    name = folder.resolve().name
    return Found(
        Record(folder), name[:_SHORT] if _KEY.fullmatch(name) and len(name) == 20 else name
    )


def _refuse_samples(file: str) -> None:
    """InputError for a file of images, which a YAML's reader would find no words for."""
    suffix = Path(file).suffix.lower()
    if suffix in EXTENSIONS or suffix in (".npz", ".npy"):
        message = (
            "is a file of images, no model: samples are a folder of images, or an npz with arr_0"
        )
        raise InputError([Problem(file, None, "", message)])


def _refuse_cell(target: str, cell: str | None, seed: int | None) -> None:
    if cell is not None or seed is not None:
        option = "--cell" if cell is not None else "--seed"
        message = f"is one trial already: leave {option} out, or name an experiment"
        raise InputError([Problem(target, None, "", message)])


def _of_key(target: str, settings: Settings, cell: str | None, seed: int | None) -> Found:
    bring_key(settings, target)
    keys = sorted(path.name for path in settings.trials.glob("*") if (path / TRIAL).is_file())
    fitting = [key for key in keys if key.startswith(target)]
    if len(fitting) == 1:
        _refuse_cell(target, cell, seed)
        bring_model(settings, fitting[0])
        return Found(Record(settings.trial(fitting[0])), fitting[0][:_SHORT])
    if fitting:
        message = f"is the beginning of {len(fitting)} keys: {listing(fitting)}; write more of it"
        raise InputError([Problem(target, None, "", message)])
    raise InputError([Problem(target, None, "", _unknown(target, keys, settings))])


def _unknown(target: str, keys: list[str], settings: Settings) -> str:
    from service.experiment.saved import SAVED

    what = f"is no directory, no experiment, and no key of a trial in {settings.shown(settings.trials)}"
    experiments = [path.parent.name for path in settings.home.glob(f"experiments/*/{SAVED}")]
    if not _KEY.fullmatch(target):
        return what + suggestion(target, experiments or keys)
    near = difflib.get_close_matches(target, keys, n=3, cutoff=0.5)
    beginnings = {key[: len(target)]: key for key in keys}
    near += [beginnings[one] for one in difflib.get_close_matches(target, beginnings, 3, 0.6)]
    if near:
        return f"{what}; near it: {listing(dict.fromkeys(near))}"
    return what + (f"; known: {listing(keys)}" if keys else ": nothing was trained there")


def _of_experiment(target: str, settings: Settings, cell: str | None, seed: int | None) -> Found:
    from service.commands.common import find
    from service.search.study import tuned

    preset = _preset(target, home=settings.home)
    experiment = preset or tuned(find(target, None, settings), settings)
    keys = _keys(experiment, settings)
    cells = list(dict.fromkeys(name for name, _ in keys))
    if cell is None and len(cells) > 1:
        message = f"has {len(cells)} cells: choose one with --cell: {listing(cells)}"
        raise InputError([Problem(target, None, "", message)])
    chosen = cells[0] if cell is None else cell
    if chosen not in cells:
        message = f"there is no cell `{chosen}`{suggestion(chosen, cells)}"
        raise InputError([Problem(target, None, "--cell", message)])
    seeds = [number for name, number in keys if name == chosen]
    number = seeds[0] if seed is None else seed
    if number not in seeds:
        message = (
            f"`{chosen}` is not planned with seed {number}; its seeds: {listing(map(str, seeds))}"
        )
        raise InputError([Problem(target, None, "--seed", message)])
    bring_model(settings, keys[chosen, number])
    record = Record(settings.trial(keys[chosen, number]))
    if record.images() == 0:
        message = f"`{chosen}` seed {number} has no checkpoint in {settings.place}: run the experiment first"
        raise InputError([Problem(target, None, "", message)])
    if preset:
        return Found(record, Path(target).stem)
    return Found(record, f"{chosen}-seed{number}", experiment.name, chosen)


def _preset(
    file: str, overrides: Sequence[str] = (), home: Path | None = None
) -> Experiment | None:
    """A file that is one complete trial, as an experiment of one cell; None if it is an experiment."""
    from service.experiment import Experiment
    from trainer.yaml.source import read

    data = read(file).data if os.path.isfile(file) else None
    if not isinstance(data, dict) or "base" in data or "model" not in data:
        return None
    whole = {"name": "preset", "base": str(Path(file).resolve()), "seeds": [data.get("seed", 0)]}
    return Experiment.from_mapping(whole, ".", overrides, home=home)


def trial_of(file: str, overrides: Sequence[str] = ()) -> TrialSpec:
    """The trial that a preset is; InputError for anything else."""
    from trainer.yaml.source import read

    preset = _preset(file, overrides)
    if preset is None:
        read(file)
        message = "is no complete trial (data, model, train, evaluation): name a preset"
        raise InputError([Problem(file, None, "", message)])
    return preset.cells[0].with_seed(preset.seeds[0])


def _keys(experiment: Experiment, settings: Settings) -> dict[tuple[str, int], str]:
    """Cell and seed to key; where the data is not on this machine, as the experiment was run last."""
    from service.experiment.saved import SAVED, read_saved

    try:
        trials = experiment.trials
    except InputError:
        folder = settings.experiment(experiment.name)
        if not (folder / SAVED).is_file():
            raise
        saved = read_saved(folder)
        if any(saved.identities().get(k) != v for k, v in experiment.identities().items()):
            raise
        trials = saved.trials
    return {(trial.cell, trial.seed): trial.key for trial in trials}

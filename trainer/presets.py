"""Where is the preset that a YAML names? Beside the YAML, else among those that come with diffsweep, by name."""

from __future__ import annotations

import sys
from pathlib import Path

from trainer.errors import closest, listing
from trainer.yaml.files import why_unreadable

_PLACES = (
    Path(__file__).parents[1] / "experiments" / "presets",
    Path(sys.prefix) / "share" / "diffsweep" / "presets",
)
"""In a checkout (also the one that a Ray job carries), and where a wheel puts them."""
_SUFFIXES = (".yaml", ".yml")

_LONGEST_NAME = 60


def presets() -> dict[str, Path]:
    """The presets that come with diffsweep: name to file."""
    place = next((place for place in _PLACES if place.is_dir()), None)
    return {} if place is None else {file.stem: file for file in sorted(place.glob("*.yaml"))}


def shipped(name: str) -> Path | None:
    """The preset of this name, written `digits`, `digits.yaml` or `presets/digits.yaml`; None if there is none."""
    path = Path(name)
    if path.is_absolute() or str(path.parent) not in (".", "presets"):
        return None
    stem = path.stem if path.suffix in _SUFFIXES else path.name
    return presets().get(stem)


def located(base: str, folder: Path) -> Path:
    """The file that `base` means, named from `folder`; whether it can be read is another question."""
    beside = folder / base
    if why_unreadable(beside) is None:
        return beside
    return shipped(base) or beside


def hint(base: str) -> str:
    """For a name that means nothing: the preset that was probably meant, or all of them."""
    stem = Path(base).stem if Path(base).suffix in _SUFFIXES else Path(base).name
    names = list(presets())
    if not names:
        return ""
    near = closest(stem, names)
    return f"; of the presets, did you mean `{near}`?" if near else f"; presets: {listing(names)}"


def refusal(base: str, folder: Path) -> str | None:
    """Why a preset, named from `folder`, cannot be read; None if it can."""
    if "\n" in base:
        return "is a text of several lines: write the mapping without `|`, or the name of a file"
    if not base.strip():
        return "is empty: write the name of a preset's file, or a whole trial"
    if "://" in base:
        return f"{base[:_LONGEST_NAME]} is an address: a base is a file on this machine, or a whole trial"
    if base.startswith("~"):
        return f"{base[:_LONGEST_NAME]}: `~` is not a folder here, write the path of the home directory"
    file = located(base, folder)
    reason = why_unreadable(file, None if Path(base).is_absolute() else folder)
    if reason is not None and reason.startswith("does not exist") and "did you mean" not in reason:
        reason += hint(base)
    name = base if len(base) <= _LONGEST_NAME else f"{base[: _LONGEST_NAME - 3]}..."
    return f"{name} {reason}" if reason is not None else None

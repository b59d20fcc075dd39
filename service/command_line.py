"""How is a command typed so that it works as it is printed, whether the environment is activated or not?"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from service.settings import Settings, default_home, inside_ray_job


def program(name: str) -> str:
    """The name alone if PATH finds the very file beside this Python, else the path of that file."""
    beside = Path(os.path.abspath(sys.executable)).parent / name
    on_path = shutil.which(name)
    if not beside.exists() or (on_path is not None and beside.samefile(on_path)):
        return name
    return shlex.quote(_from_here(beside))


def diffsweep(*words: str, settings: Settings | None = None) -> str:
    """A `diffsweep` command line; it says `--home` where the settings have another than it would find."""
    home = () if settings is None or _finds_itself(settings) else _home_option(settings)
    return f"{program('diffsweep')} {shlex.join([*words, *home])}"


def reproduction(file: str, options: Sequence[str]) -> str:
    """What anybody types, anywhere, to run the experiment of a YAML with these overrides."""
    return shlex.join(["diffsweep", "run", *_words(file, options)])


def continuation(file: str, options: Sequence[str], settings: Settings) -> str:
    """What a person types here to run it on."""
    if inside_ray_job():  # who reads its log has another machine, with the YAML
        return shlex.join(["diffsweep", "submit", *_words(file, options)])
    return diffsweep("run", *_words(file, options), settings=settings)


def _words(file: str, options: Sequence[str]) -> list[str]:
    return [file, *(word for option in options for word in ("-o", option))]


def _finds_itself(settings: Settings) -> bool:
    """Whether a command finds this home by itself, in this shell and in one without DIFFSWEEP_HOME.

    The second counts because `make demo` sets the variable for itself alone.
    """
    if settings.remote is not None:  # never by itself in a shell without the variable
        return False
    home, named = settings.home, os.environ.get("DIFFSWEEP_HOME")
    default = _absolute(default_home())
    return home == (_absolute(Path(named)) if named else default) == default


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _home_option(settings: Settings) -> tuple[str, str]:
    return ("--home", settings.remote or _from_here(settings.home, bare=True))


def _from_here(path: Path, bare: bool = False) -> str:
    """Relative to the working directory when it is below it; `bare` leaves `./` away."""
    try:
        below = str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
    return below if bare or os.sep in below else f"./{below}"

"""What may stand here? Words for the Tab key, found in milliseconds: no spec, no torch, nothing that can fail aloud."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import typer

from trainer.presets import presets

_YAML = (".yaml", ".yml")
_SAVED = "experiment.json"
_PATIENCE_S = 1.0


def yaml_files(incomplete: str) -> list[str]:
    """YAML files and folders that begin so."""
    folder, _, begun = incomplete.rpartition("/")
    place = Path(os.path.expanduser(f"{folder}/" if incomplete.startswith("/") else folder or "."))
    before = incomplete[: len(incomplete) - len(begun)]
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return []
    fit = [e for e in entries if e.name.startswith(begun) and (begun or e.name[0] != ".")]
    return [
        f"{before}{e.name}{'/' if e.is_dir() else ''}"
        for e in fit
        if e.is_dir() or e.name.endswith(_YAML)
    ]


def experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """YAML files, and the names of experiments that were run in the home."""
    saved = _home(ctx).glob(f"experiments/*/{_SAVED}")
    names = [file.parent.name for file in saved]
    return [*_begun(names, incomplete), *yaml_files(incomplete)]


def shown(ctx: typer.Context, incomplete: str) -> list[str]:
    """The same, and presets."""
    return [*experiments(ctx, incomplete), *preset_names(incomplete)]


def preset_names(incomplete: str) -> list[str]:
    """Presets that come with diffsweep."""
    return _begun(presets(), incomplete)


def preset_files(incomplete: str) -> list[str]:
    """Presets, and YAML files."""
    return [*preset_names(incomplete), *yaml_files(incomplete)]


def cells(ctx: typer.Context, incomplete: str) -> list[str]:
    """Cells of the experiment that the line names, if it was run."""
    for name in _words():
        try:
            saved = json.loads((_home(ctx) / "experiments" / name / _SAVED).read_bytes())
            return _begun(saved["cells"], incomplete)
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return []


def jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Jobs of the cluster, if it answers within a second."""
    import urllib.request  # a tenth of a second of every command

    given = ctx.params.get("address")
    address = str(given or os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265")
    if "://" not in address:
        address = f"http://{address}"
    try:
        with urllib.request.urlopen(f"{address}/api/jobs/", timeout=_PATIENCE_S) as answer:
            known = json.loads(answer.read())
        return _begun([job["submission_id"] or "" for job in known], incomplete)
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _begun(words: Any, incomplete: str) -> list[str]:
    return sorted(word for word in words if word and word.startswith(incomplete))


def _home(ctx: typer.Context) -> Path:
    given = ctx.params.get("home") or os.environ.get("DIFFSWEEP_HOME") or "runs"
    return Path(given).expanduser()


def _words() -> list[str]:
    """What the line says so far: the shell's own words, since a line that is not whole cannot be parsed."""
    line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS") or ""
    return [word for word in line.split()[2:] if not word.startswith("-") and "/" not in word]

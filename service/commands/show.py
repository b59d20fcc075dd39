"""`show`, `schema`: look at presets, at objectives and at what a YAML may say."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.common import (
    AsJson,
    Home,
    Overrides,
    console,
    find,
    print_findings,
    print_json,
    print_table,
    prose,
    say,
    settings_of,
)
from service.commands.completing import cells, shown

if TYPE_CHECKING:
    from service.experiment.answers import Answers
    from trainer.trial import TrialSpec


def show(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Experiments or presets.", autocompletion=shown),
    ],
    override: Overrides = None,
    cell: Annotated[
        str | None,
        typer.Option("--cell", help="Print this cell's whole trial.", autocompletion=cells),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Draw the passports on a page.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Print a preset with nothing left out, or the objective passports of experiments' cells."""
    from service.experiment.answers import Answers
    from trainer.errors import InputError, Problem, suggestion

    trials: dict[str, TrialSpec] = {}
    for file in files:
        for name, trial in _trials(file, override or [], home).items():
            stem = Path(file).stem
            trials[name if len(files) == 1 or name == stem else f"{stem}:{name}"] = trial
    if cell is not None:
        if cell not in trials:
            message = f"there is no cell `{cell}`{suggestion(cell, trials)}"
            raise InputError([Problem(", ".join(files), None, "", message)])
        trials = {cell: trials[cell]}
    if as_json:
        print_json({name: _as_data(trial) for name, trial in trials.items()})
        return
    answers = Answers(settings_of(home).home)
    if html is not None:
        _write_passports(html, trials, answers)
        say(f"passports: {html.resolve()}")
        return
    if len(trials) == 1:
        say(to_yaml(next(iter(trials.values())).model_dump(mode="json")))
    _print_passports(trials, answers)
    from service.experiment.remarks import described

    cells, note = described({name: trial.diffusion for name, trial in trials.items()})
    print_findings([*answers.findings(cells), *filter(None, [note])])


def _trials(file: str, overrides: list[str], home: str | None) -> dict[str, TrialSpec]:
    """The cells of an experiment, or the one trial of a preset."""
    from service.experiment import Experiment
    from trainer.presets import shipped
    from trainer.yaml.source import read

    saved = settings_of(home).experiment(file) / "experiment.json" if "/" not in file else None
    if not os.path.exists(file) and not (saved is not None and os.path.isfile(saved)):
        file = str(shipped(file) or file)
    if os.path.isfile(file):
        data = read(file).data
        if (
            isinstance(data, dict)
            and "base" not in data
            and ("model" in data or "diffusion" in data)
        ):
            preset = Experiment.from_mapping(
                {"name": "preset", "base": str(Path(file).resolve()), "seeds": 1},
                ".",
                overrides,
                home=settings_of(home).home,
            )
            return {Path(file).stem: preset.cells[0].trial}
    return {c.name: c.trial for c in find(file, overrides, settings_of(home)).cells}


def _write_passports(file: Path, trials: dict[str, TrialSpec], answers: Answers) -> None:
    from dashboards.page import render_passports
    from service.experiment.remarks import described

    cells, note = described({name: trial.diffusion for name, trial in trials.items()})
    cards = {name: answers.passport(cell) for name, cell in cells.items()}
    page = render_passports(cards, answers.distances(cells), answers.findings(cells), note)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")


_ONE_TABLE = 120
"""Columns of a terminal from which on all of a cell stands in one row."""
_MEANINGS = (
    "first SNR, last SNR: signal to noise at the cleanest and at the noisiest level that is trained",
    "sample size: the share of a batch that counts, since weights on the network's output are uneven",
    "TV to first: total variation between a cell's expected loss over the noise levels and the first one's: "
    "0 is the same objective, 1 is nothing in common",
)


def _as_data(trial: TrialSpec) -> dict[str, Any]:
    from trainer.diffusion.passport import passport

    card = passport(trial.diffusion).to_dict()
    return {"trial": trial.model_dump(mode="json"), "passport": card}


def _print_passports(trials: dict[str, TrialSpec], answers: Answers) -> None:
    """What each diffusion really optimizes, and how far it is from the first one's objective."""
    first = next(iter(trials.values())).diffusion
    rows = []
    for name, trial in trials.items():
        diffusion = trial.diffusion
        card, distance = answers.passport(diffusion), answers.distance(first, diffusion)
        members = (diffusion.schedule, diffusion.timesteps, diffusion.weighting)
        labels = [part.label() for part in (*members, diffusion.prediction)]
        snr = (f"{card['initial_snr']:.3g}", f"{card['terminal_snr']:.3g}")
        share = f"{card['effective_sample_size']:.0%}"
        rows.append([name, *labels, *snr, share, f"{distance:.3f}"])
    parts = ("cell", "schedule", "timesteps", "weighting", "prediction")
    numbers = ("first SNR", "last SNR", "sample size", "TV to first")
    if console().width >= _ONE_TABLE:
        print_table((*parts, *numbers), rows)
    else:
        print_table(parts, [row[: len(parts)] for row in rows])
        say()
        print_table(("cell", *numbers), [[row[0], *row[len(parts) :]] for row in rows])
    say()
    for line in _MEANINGS:
        prose(line, indent="  ")
    say()


def to_yaml(data: Any) -> str:
    """Data as block YAML; what fits a short line is kept on one."""
    return "\n".join(_yaml_lines(data, ""))


def _yaml_lines(data: dict[str, Any], indent: str) -> list[str]:
    from trainer.yaml.writer import yaml_text

    lines = []
    for key, value in data.items():
        text = yaml_text(value)
        if isinstance(value, dict) and value and len(text) > 72:
            lines += [f"{indent}{key}:", *_yaml_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {text}")
    return lines


class Which(Enum):
    """Which kind of YAML a schema is for."""

    EXPERIMENT = "experiment"
    TRIAL = "trial"


def schema(
    which: Annotated[Which, typer.Argument(help="What is written: an experiment or a preset.")] = (
        Which.EXPERIMENT
    ),
) -> None:
    """Print the JSON schema, for editors: every key, its meaning, its default and its range."""
    from service.experiment import ExperimentSpec
    from trainer.trial import TrialSpec
    from trainer.yaml.spec_paths import paths

    if which is Which.TRIAL:
        print_json(TrialSpec.model_json_schema())
        return
    keys = ExperimentSpec.model_json_schema()
    trial = TrialSpec.model_json_schema()
    keys["$defs"] = {**keys.get("$defs", {}), **trial.pop("$defs", {}), "TrialSpec": trial}
    properties = keys["properties"]
    properties["base"]["anyOf"] = [{"type": "string"}, {"$ref": "#/$defs/TrialSpec"}]
    known: dict[str, Any] = {path: {} for path in paths(TrialSpec) if path != "seed"}
    properties["set"]["properties"] = known
    properties["axes"]["properties"] = properties["zip"]["properties"] = {
        path: {"type": "array"} for path in known
    }
    searched = keys["$defs"]["Search"]["properties"]["space"]
    searched["properties"] = dict.fromkeys(known, searched["additionalProperties"])
    print_json(keys)

"""Proves that a trial begins with what a key, a directory or a YAML means in the command's home, if it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.cli import invoke
from service.experiment import Experiment
from tests.trainer.test_growing import trained, trial
from trainer.errors import InputError
from trainer.start import Start
from trainer.yaml.writer import yaml_document


def document(**start: Any) -> dict[str, Any]:
    return {
        "name": "growing",
        "base": json.loads(trial().model_dump_json(exclude={"seed"})),
        "seeds": 1,
        "arms": {"fresh": {}, "grown": {"start_from": start}},
    }


SMALL: dict[str, Any] = {
    **document(),
    "name": "small",
    "seeds": [3, 4],
    "arms": {"plain": {}, "quick": {"optimizer.lr": 0.01}},
}


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small.yaml, preset.yaml, and a home with the trials of one seed of the first and of the second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFSWEEP_HOME", raising=False)
    Path("small.yaml").write_text(yaml_document(SMALL))
    Path("preset.yaml").write_text(yaml_document(SMALL["base"]))
    planned = Experiment.from_mapping(SMALL).trials
    for one in planned:
        if one.seed == 3:
            trained(Path("home/trials") / one.key, one.spec, steps=1 + (one.cell == "quick"))
    own = trial()
    trained(Path("home/trials") / own.key(planned[0].spec.data.fingerprint(Path())), own, steps=3)
    return tmp_path


def start(home: str = "home", **given: Any) -> Start:
    made = Experiment.from_mapping(document(**given), home=Path(home)).cells[1].trial.start_from
    assert made is not None
    return made


def test_every_way_of_naming_a_trial_ends_at_its_directory(there: Path) -> None:
    key = next(t.key for t in Experiment.from_mapping(SMALL).trials if t.cell == "quick")
    directory = there / "home" / "trials" / key
    by_directory = start(trial=str(directory))
    assert by_directory.directory == directory
    for given in (
        {"trial": key},
        {"trial": "small.yaml", "cell": "quick"},
        {"trial": "small.yaml", "cell": "quick", "seed": 3},
        {"trial": SMALL, "cell": "quick"},
    ):
        assert start(**given) == by_directory
    alone = start(trial="preset.yaml")
    assert alone.weights != by_directory.weights
    assert start(trial=SMALL["base"]) == start(trial={**SMALL["base"], "seed": 0}) == alone


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("given", "at", "message"),
    [
        ({"trial": "no"}, "trial", "no is no directory, no YAML file and no trial of"),
        ({"trial": "small.yaml"}, "cell", "is missing: small.yaml has 2 cells: `plain`, `quick`"),
        ({"trial": "small.yaml", "cell": "quik"}, "cell", "no cell `quik`, did you mean `quick`"),
        ({"trial": "small.yaml", "cell": "plain", "seed": 5}, "seed", "not planned with seed 5"),
        ({"trial": "small.yaml", "cell": "plain", "seed": 4}, "trial", "train it first: "),
        (
            {"trial": "preset.yaml", "seed": 9},
            "trial",
            r"preset.yaml -o seed=9 --out .*home/trials/",
        ),
        ({"trial": "preset.yaml", "cell": "a"}, "cell", "is one trial, which has no cells"),
        ({"trial": "home/trials", "seed": 1}, "seed", "is one trial already: leave seed out"),
    ],
)
def test_what_cannot_be_started_from(given: dict[str, Any], at: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        start(**given)
    (problem,) = caught.value.problems
    assert problem.path == f"arms.grown.start_from.{at}"


@pytest.mark.usefixtures("there")
def test_the_command_looks_in_its_own_home(capsys: pytest.CaptureFixture[str]) -> None:
    grown = document(trial="small.yaml", cell="plain")
    Path("sub").mkdir()
    Path("small.yaml").rename("sub/small.yaml")
    Path("sub/grown.yaml").write_text(yaml_document(grown))
    assert invoke(["show", "sub/grown.yaml", "--home", "home"]) == 0
    key = next(t.key for t in Experiment.from_mapping(SMALL).trials if t.seed == 3)
    preset = {**SMALL["base"], "start_from": {"trial": key}}
    Path("preset.yaml").write_text(yaml_document(preset))
    assert invoke(["show", "preset.yaml", "--home", "home"]) == 0
    assert invoke(["sample", "preset.yaml", "--home", "home"]) == 2
    assert "has no checkpoint in" in capsys.readouterr().err, "it is known, and not trained"
    capsys.readouterr()
    assert invoke(["show", "sub/grown.yaml", "--home", "other"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sub/grown.yaml:")
    assert "start_from.trial: small.yaml is not trained yet (no trial " in said
    assert "diffsweep run " in said
    assert "small.yaml --home other" in said


@pytest.mark.usefixtures("there")
def test_what_is_sent_to_a_cluster_names_the_key() -> None:
    """The file is not there, the trial in a home of its own may be."""
    ways = [{"trial": "small.yaml", "cell": "plain"}, {"trial": "small.yaml", "cell": "quick"}]
    data = {**document(), "axes": {"start_from": ways}}
    del data["arms"]
    data["base"]["start_from"] = ways[0]
    made = Experiment.from_mapping(data, home=Path("home"))
    keys = {t.cell: t.key for t in Experiment.from_mapping(SMALL).trials if t.seed == 3}
    by_key = [{"trial": keys["plain"]}, {"trial": keys["quick"]}]
    assert made.whole["axes"]["start_from"] == by_key
    assert made.whole["base"]["start_from"] == by_key[0]
    again = Experiment.from_mapping(made.whole, home=Path("home"))
    assert [t.key for t in again.trials] == [t.key for t in made.trials]


@pytest.mark.usefixtures("there")
def test_no_experiment_starts_from_itself_and_the_trainer_reads_none() -> None:
    Path("circle.yaml").write_text(yaml_document(document(trial="circle.yaml", cell="fresh")))
    with pytest.raises(InputError, match="starts from itself"):
        Experiment.from_yaml("circle.yaml", home=Path("home"))
    with pytest.raises(ValidationError, match="looked up where an experiment is read"):
        Start(trial="small.yaml", cell="plain")

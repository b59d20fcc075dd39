"""Readers print what a person asked for, as a table or as JSON; the cluster's verbs say what is missing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import typer

from service.cli import app, invoke
from service.command_line import reproduction
from service.commands import common
from service.commands.show import to_yaml
from service.experiment import Experiment, PlannedTrial
from service.experiment.saved import save
from tests.service.toy_experiment import TOY
from trainer.record import Record
from trainer.report import Failure, Result
from trainer.trial import TrialSpec
from trainer.yaml.source import parse

pytestmark = pytest.mark.usefixtures("folder")


# --- validate, plan, show, schema -----------------------------------------------------


def test_validate_prints_cells_budget_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "x.yaml", "-o", "controls=equal_objective"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy: 3 cells x 2 seeds = 6 trials, eval/fid against `uniform`"
    assert lines[2].split() == ["cell", "seeds", "budget", "evaluations", "changes"]
    assert "1.28 kimg = 20 x 64" in lines[3]
    assert "2 of 32 x 2, last also 64 x 4, 3 draws" in lines[3]
    assert "(the base)" in lines[3]
    assert "{kind: p2, gamma: 0.5, k: 1}" in lines[4]
    assert lines[5].startswith("under~equal")
    assert "diffusion.timesteps: uniform" in " ".join(lines)
    levels = lines.index(next(line for line in lines if "log-SNR trained" in line))
    assert lines[levels + 1].split() == ["uniform", "10.1", "to", "-19.8", "9", "to", "-9"]
    assert any(line.startswith("note: ") and "same objective" in line for line in lines)
    assert lines[-1] == "x.yaml is valid. What it costs here: diffsweep plan x.yaml"


def test_validate_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", "x.yaml", "--json"]) == 0

    data = json.loads(capsys.readouterr().out)
    assert list(data["cells"]) == ["uniform", "under"]
    assert len(data["trials"]) == 4
    assert data["compare"]["baseline"] == "uniform"


def test_plan_prints_what_is_done_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", "x.yaml", "-o", "seeds=3", "--at-once", "2"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["cell", "seed", "0", "seed", "1", "seed", "2"]
    assert lines[3].split()[:3] == ["uniform", "done", "done"]
    assert "2 to train, 0 to continue, 4 done already" in lines
    assert any("with 2 at a time (measured in" in line for line in lines)
    assert any("CPU-hours" in line and "MB of disk" in line for line in lines)


def test_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", "x.yaml", "--json"]) == 0

    data = json.loads(capsys.readouterr().out)
    assert [trial["status"] for trial in data["trials"]] == ["finished"] * 4


def test_show_prints_a_preset_with_nothing_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["show", "toy.yaml"]) == 0

    text = capsys.readouterr().out.split("\ncell ")[0]
    shown = TrialSpec.model_validate(parse(text, "shown").data)
    assert shown == TrialSpec.model_validate(parse(TOY, "toy").data)


def test_show_prints_the_passports_of_cells(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["show", "x.yaml"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cell")
    assert lines[1].split()[0] == "uniform"
    assert lines[1].split()[-1] == "0.000"
    assert float(lines[2].split()[-1]) > 0.1


def test_show_of_several_files_names_them_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["show", "toy.yaml", "x.yaml"]) == 0

    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert names == ["toy", "x:uniform", "x:under"]


def test_show_of_one_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["show", "x.yaml", "--cell", "under"]) == 0
    assert "gamma: 0.5" in capsys.readouterr().out

    assert invoke(["show", "x.yaml", "--cell", "uder"]) == 2
    assert capsys.readouterr().err == "x.yaml: there is no cell `uder`, did you mean `under`?\n"


@pytest.mark.parametrize(
    ("axis", "said", "last"),
    [
        (
            "optimizer.lr: [{}]",
            "120 cells have 1 different objective: what is said of them is said of one cell of each",
            1,
        ),
        (
            "diffusion.timesteps.gamma: [{}]",
            "120 cells have 120 different objectives: what is said of them is said of the first 100",
            100,
        ),
    ],
)
def test_show_of_more_cells_than_anybody_reads_says_which_it_shows(
    axis: str, said: str, last: int, capsys: pytest.CaptureFixture[str]
) -> None:
    values = ", ".join(f"{n / 1000:g}" for n in range(1, 121))
    Path("many.yaml").write_text(
        "name: many\nbase: toy.yaml\nset: {diffusion.timesteps: {kind: p2}}\n"
        f"axes: {{{axis.format(values)}}}\nseeds: 1\n"
    )
    assert invoke(["show", "many.yaml", "--html", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert said in page
    assert page.count('data-label="first SNR"') == last
    assert invoke(["show", "many.yaml"]) == 0
    assert f"note: {said}" in " ".join(capsys.readouterr().out.split())
    assert invoke(["show", "x.yaml", "--html", "few.html"]) == 0
    assert "what is said of them" not in Path("few.html").read_text()


def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["show", "x.yaml", "--json"]) == 0

    data = json.loads(capsys.readouterr().out)
    assert data["under"]["trial"]["diffusion"]["timesteps"]["kind"] == "p2"
    assert len(data["under"]["passport"]["log_snr"]) == len(data["under"]["passport"]["density"])


def test_schemas_describe_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["schema"]) == 0
    experiment = json.loads(capsys.readouterr().out)
    assert invoke(["schema", "trial"]) == 0
    trial = json.loads(capsys.readouterr().out)

    assert all("description" in part for part in experiment["properties"].values())
    assert set(trial["properties"]) == set(TrialSpec.model_fields)
    assert "optimizer.lr" in experiment["properties"]["axes"]["properties"]
    references = {text for text in json.dumps(experiment).split('"') if text.startswith("#/$defs/")}
    assert all(text.removeprefix("#/$defs/") in experiment["$defs"] for text in references)


def test_yaml_that_is_printed_can_be_read() -> None:
    data = TrialSpec.model_validate(parse(TOY, "toy").data).model_dump(mode="json")

    assert parse(to_yaml(data), "printed").data == data


# --- compare and report -----------------------------------------------------------------


def test_compare_prints_the_table_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["compare", "x.yaml"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["cell", "seeds", "FID"]
    assert lines[1].split()[0] == "uniform"
    assert lines[1].rstrip().endswith("baseline")
    assert lines[2].split()[:2] == ["under", "2"]
    word = lines[2].split()[-1]
    assert lines[4].startswith(f"{word}: final FID (pixels) of `under` against `uniform` is ")
    assert lines[-1].startswith("verdict: ")
    assert word in lines[-1]


@pytest.mark.parametrize(
    ("factor", "word", "row"),
    [
        (1.5, "WORSE", "under 6 6.45 ± 0.56 +50.0 % +50.0 to +50.0 % (n = 6)"),
        (0.5, "BETTER", "under 6 2.15 ± 0.19 -50.0 % -50.0 to -50.0 % (n = 6)"),
        (1.0, "SAME", "under 6 4.30 ± 0.37 +0.0 % +0.0 to +0.0 % (n = 6) 1.0"),
    ],
)
def test_compare_says_what_the_numbers_say(
    folder: Path, capsys: pytest.CaptureFixture[str], factor: float, word: str, row: str
) -> None:
    """Six seeds without noise of their own: the smallest p there is, 2/64."""
    ended(folder / "made-up", {"uniform": 1.0, "under": factor})
    assert invoke(["compare", "x.yaml", "-o", "seeds=6", "--home", "made-up"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["uniform", "6", "4.30", "±", "0.37", "baseline"]
    shown = " ".join(lines[2].split())
    assert shown.startswith(row)
    assert shown.endswith(f" 0.031 {word}" if factor != 1.0 else f" 1.0 {word}")
    assert lines[4].startswith(f"{word}: final FID (pixels) of `under` against `uniform` is ")
    assert f"`under` is {'the ' * (word == 'SAME')}{word}" in lines[-1]


def test_compare_and_report_learn_of_failures_from_the_record(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = ended(folder / "made-up", {"uniform": 1.0, "under": 1.5})
    broken = next(t for t in trials if (t.cell, t.seed) == ("under", 3))
    record = Record(folder / "made-up" / "trials" / broken.key)
    (record.directory / "result.json").unlink()
    record.write_failure(Failure("CUDA out of memory"))
    arguments = ["x.yaml", "-o", "seeds=6", "--home", "made-up"]

    assert invoke(["compare", *arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    (row,) = [row for row in data["trials"] if row["status"] != "finished"]
    assert (row["cell"], row["seed"], row["status"]) == ("under", 3, "failed")
    assert row["reason"] == "CUDA out of memory"
    assert "`under` failed on 1 of 6 seeds" in data["verdicts"]["sentence"]

    assert invoke(["report", *arguments]) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert 'failed<br><span class="soft">CUDA out of memory</span>' in page


def ended(home: Path, factors: dict[str, float]) -> list[PlannedTrial]:
    """Six seeds of the toy experiment, ended with made-up numbers: 3.8 to 4.8 times the factor."""
    trials = Experiment.from_yaml("x.yaml", ["seeds=6"]).trials
    for trial in trials:
        fid = (3.8 + 0.2 * trial.seed) * factors[trial.cell]
        images = trial.spec.total_images()
        ids = {"eval/fid": "one"}
        Record(home / "trials" / trial.key).write_result(
            Result("finished", None, images, {"eval/fid": fid}, 0.0, 1.0, 1.0, ids, parameters=1)
        )
    return trials


def test_compare_by_name_and_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(Experiment.from_yaml("x.yaml"), folder / "runs" / "experiments" / "toy")

    assert invoke(["compare", "toy", "--json"]) == 0

    data = json.loads(capsys.readouterr().out)
    assert data["experiment"] == "toy"
    assert data["verdicts"]["comparisons"][0]["cell"] == "under"
    of_difference = data["spread"][-1]
    assert (of_difference["cell"], of_difference["baseline"]) == ("under", "uniform")
    assert (of_difference["draws"], of_difference["parts"]["draw"]["degrees"]) == (3, 2)
    assert invoke(["compare", "toy"]) == 0
    assert "3 draws instead of one cut the variance" in capsys.readouterr().out
    assert [row["status"] for row in data["trials"]] == ["finished"] * 4


def test_compare_with_another_baseline_and_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["compare", "x.yaml", "--baseline", "under", "--metric", "rung/fid"]) == 0
    assert "against `under`" in capsys.readouterr().out

    assert invoke(["compare", "x.yaml", "--baseline", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err


def test_compare_before_anything_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["compare", "x.yaml", "--home", "empty"]) == 0
    assert "no verdict: " in capsys.readouterr().out


def test_report_is_written_where_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["report", "x.yaml", "--out", "page/r.html"]) == 0

    path = Path(capsys.readouterr().out.strip())
    assert path == Path("page/r.html")
    page = path.read_text()
    assert "diffsweep run x.yaml" in page
    assert "under" in page


def test_the_command_that_reproduces_an_experiment() -> None:
    experiment = Experiment.from_yaml("x.yaml", ["train.kimg=1.28", "seeds=[1, 2]"])

    assert reproduction(experiment.file, experiment.options) == (
        "diffsweep run x.yaml -o train.kimg=1.28 -o 'seeds=[1, 2]'"
    )


# --- the cluster's verbs ------------------------------------------------------------------


@pytest.mark.parametrize("verb", [command.name for command in typer.main.get_group(app).commands.values()])  # fmt: skip
def test_every_verb_that_ends_speaks_json(verb: str) -> None:
    """`watch` serves until it is interrupted, and `schema` prints nothing else."""
    options = {name for p in typer.main.get_group(app).commands[verb].params for name in p.opts}
    assert ("--json" in options) is (verb not in ("watch", "schema"))


def test_sync_of_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["sync", "--home", "empty", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"experiments": [], "store": None}
    assert invoke(["sync", "--home", "empty"]) == 0
    assert capsys.readouterr().out == f"{folder}/empty holds no experiments\n"


def test_a_cluster_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["status"], ["logs", "j"], ["stop", "j"], ["submit", "x.yaml"]):
        assert invoke([*verb, "--address", "http://127.0.0.1:9"]) == 3
        said = capsys.readouterr().err
        assert said.startswith("no Ray cluster answers at http://127.0.0.1:9\n")
        assert "ray start --head" in said


def test_a_variable_for_the_job_needs_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["submit", "x.yaml", "--env", "NAME"]) == 2
    assert capsys.readouterr().err == "--env NAME: write a variable as NAME=VALUE\n"


def test_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor", "--json"]) == 0

    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert all(check["ok"] for check in checks.values())
    assert all(set(check) == {"name", "ok", "detail", "fix"} for check in checks.values())
    needed = {"python", "torch", "ray", "mlflow", "diffusers", "home", "disk", "mlflow store"}
    assert needed <= set(checks)


def test_doctor_names_what_is_not_fit_and_its_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    assert invoke(["doctor"]) == 3

    text = capsys.readouterr().out
    assert "BAD  mlflow store: the tracking server http://127.0.0.1:9 does not answer" in text
    assert "to fix it: start it with `mlflow server --port 9`" in text


def test_numbers_that_json_lacks_become_null() -> None:
    assert common.finite({"a": [float("nan"), 1.0, (float("inf"),)]}) == {"a": [None, 1.0, [None]]}


@pytest.mark.parametrize("columns", range(40, 81, 5))
def test_prose_on_a_terminal_is_never_broken_before_a_unit(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    text = " ".join(f"{k}.5 % of {k} pairs, p = 0.0{k}" for k in range(1, 12))
    common.prose(text)
    lines = out.getvalue().splitlines()
    assert " ".join(lines) == text
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if line.startswith(("%", "=", "0"))]

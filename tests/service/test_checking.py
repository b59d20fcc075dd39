"""`report --check` and `compare --format`: does a page still hold, and how do its tables leave?"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from service.cli import invoke
from service.experiment import Experiment
from trainer.sealed import seal, unseal

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    """The report of the experiment in the working directory, written now."""
    file = tmp_path / "page.html"
    assert invoke(["report", "x.yaml", "--out", str(file)]) == 0
    capsys.readouterr()
    return file


def result_of(cell: str, seed: int) -> Path:
    experiment = Experiment.from_yaml("x.yaml")
    key = next(t.key for t in experiment.trials if (t.cell, t.seed) == (cell, seed))
    (found,) = Path.cwd().rglob(f"trials/{key}/result.json")
    return found


def test_a_page_stands_as_long_as_its_numbers_do(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["report", "x.yaml", "--check", str(page)]) == 0
    assert capsys.readouterr().out == "toy: nothing was decided, and the numbers stand\n"
    file = result_of("under", 1)
    text = file.read_text()
    try:
        result = unseal(text)
        result["metrics"]["eval/fid"] *= 1.5
        file.write_text(seal(result))
        assert invoke(["report", "x.yaml", "--check", str(page)]) == 1
        *lines, summary = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("`under` against `uniform`: seed 1 differs by ")
        assert summary.startswith(f"toy: {len(lines)} differences to the page of 20")
        file.unlink()
        assert invoke(["report", "x.yaml", "--check", str(page)]) == 1
        assert "`under` against `uniform` has lost seed 1\n" in capsys.readouterr().out
        assert invoke(["report", "x.yaml", "--check", str(page), "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert (
            found["holds"],
            "`under` against `uniform` has lost seed 1" in found["differences"],
        ) == (False, True)
    finally:
        file.write_text(text)
    assert invoke(["report", "x.yaml", "--check", str(page)]) == 0
    capsys.readouterr()
    assert invoke(["report", "x.yaml", "--out", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(page)}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory; name a report.html"),
        (b"<html>", "is no report that can be checked"),
        (b"\xff\xfe\x00", "is no report that can be checked"),
        (b'<script id="verdict-data">{"format": 99}</script>', "a report of another version"),
        (b'<script id="verdict-data">[1]</script>', "is no report that can be checked"),
    ],
)
def test_what_is_no_report_is_refused(
    content: bytes | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "odd.html"
    if content is not None:
        file.write_bytes(content)
    assert invoke(["report", "--check", str(file)]) == 2
    assert expected in capsys.readouterr().err


def test_a_page_of_an_unknown_experiment_and_no_name_are_refused(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["report", "--check", str(page), "--home", str(tmp_path / "other")]) == 2
    assert "toy: is neither a YAML file nor an experiment in" in capsys.readouterr().err
    assert invoke(["report"]) == 2
    assert "Name an experiment, or a page with --check FILE" in capsys.readouterr().err


def test_the_tables_leave_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["compare", "x.yaml", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["cell"] for row in rows] == ["uniform", "under"]
    assert invoke(["compare", "x.yaml", "--format", "csv", "--table", "trials"]) == 0
    trials = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    values = [float(trial["eval/fid"]) for trial in trials if trial["cell"] == "uniform"]
    assert float(rows[0]["mean"]) == pytest.approx(sum(values) / 2, rel=1e-12)
    assert invoke(["compare", "x.yaml", "--format", "latex"]) == 0
    assert "\\toprule" in capsys.readouterr().out
    assert invoke(["compare", "x.yaml", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("| cell | seeds | FID (pixels) |")
    assert invoke(["compare", "x.yaml", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["experiment"] == "toy"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--format", "cvs"], "--format cvs is unknown, did you mean `csv`?"),
        (["--format", "csv", "--table", "trails"], "did you mean `trials`?"),
        (["--table", "curves"], "--table curves needs a --format: markdown, latex, csv, json"),
    ],
)
def test_a_misspelled_form_is_refused(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["compare", "x.yaml", *words]) == 2
    assert expected in capsys.readouterr().err

"""What a notebook shows of verdicts and jobs, and what a script says while it waits."""

from __future__ import annotations

import html
import io
from html.parser import HTMLParser
from pathlib import Path

import nbclient
import nbformat
import pytest

from service import Client
from service.job_progress import JobProgress
from service.notebook import JobList, Verdict, Waiting, job_html
from service.settings import Settings
from tests.service.sweeps import ROOT


class Table(HTMLParser):
    """The cells of a table, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


@pytest.fixture
def verdict(folder: Path) -> Verdict:
    here = Settings(home=folder / "runs", tracking_uri=None, ray_address=None)
    job = Client(settings=here).submit(folder / "x.yaml")
    assert job.wait(timeout=120, show=False) == "SUCCEEDED"
    return job.verdict()


def test_a_verdict_is_a_table_with_words_differences_and_intervals(verdict: Verdict) -> None:
    table = Table(verdict._repr_html_())
    assert table.open == []
    head, under = table.rows
    assert head[0] == "cell"
    assert head[2:] == ["against", "difference", "95 % CI", "p", "pairs", "verdict"]
    assert head[1].startswith("FID (pixels)")
    (comparison,) = verdict.comparisons
    assert comparison.final is not None
    assert (under[0], under[2], under[-2], under[-1]) == ("under", "uniform", "2", comparison.word)
    assert under[3] == f"{100 * comparison.final.effect:+.1f} %"
    low, high = comparison.final.interval.low, comparison.final.interval.high
    assert low is not None
    assert high is not None
    assert f"{100 * low:+.1f}"[:3] in under[4]
    prose = verdict._repr_html_().replace("<code>", "`").replace("</code>", "`")
    assert html.unescape(prose).startswith(f"<div><p>{verdict}</p>")


def test_names_in_a_table_are_text(verdict: Verdict) -> None:
    (comparison,) = verdict.comparisons
    object.__setattr__(comparison, "cell", "<script>alert(1)</script>")
    shown = verdict._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_job_is_a_line_with_a_bar() -> None:
    known = JobProgress("toy", 3, 2, 1, 12, left_s=245.0)
    shown = job_html("toy-1", "RUNNING", known)
    assert '<progress max="12" value="4"' in shown
    assert "3 of 12 done, 2 running, 1 failed, about 4 min 05 s left" in shown
    assert "left" not in job_html("toy-1", "STOPPED", known)
    assert "toy-1" in job_html("toy-1", "PENDING", None)
    assert JobList()._repr_html_() == "<p>no jobs</p>"


def test_outside_a_notebook_what_is_new_is_a_line() -> None:
    out = io.StringIO()
    tell = Waiting("toy-1", out)
    tell("PENDING", None)
    tell("PENDING", None)
    for left in (60.0, 50.0):
        tell("RUNNING", JobProgress("toy", 0, 2, 0, 4, left_s=left))
    tell("RUNNING", JobProgress("toy", 1, 1, 0, 4))
    tell("SUCCEEDED", JobProgress("toy", 4, 0, 0, 4))
    assert out.getvalue().splitlines() == [
        "toy-1 PENDING",
        "toy-1 RUNNING: 0 of 4 done, 2 running, about 1 min 00 s left",
        "toy-1 RUNNING: 1 of 4 done, 1 running",
        "toy-1 SUCCEEDED: 4 of 4 done",
    ]


QUICKSTART = ROOT / "experiments" / "quickstart.ipynb"
SMALL = [
    "seeds=2",
    "train.kimg=1.28",
    "optimizer.lr_schedule.warmup_kimg=0.32",
    "evaluation.evaluations=2",
    "evaluation.draws=1",
    "evaluation.features={kind: pixels}",
    "evaluation.full.images=64",
    "evaluation.full.steps=2",
    "evaluation.rung.images=64",
    "evaluation.rung.steps=2",
    "launcher=inproc",
]


def test_the_notebook_is_kept_without_what_it_printed() -> None:
    notebook = nbformat.read(QUICKSTART, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert [cell.source for cell in code if "parameters" in cell.metadata.get("tags", ())] == [
        "options = []"
    ], "the one cell that the next test writes anew"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, at reduced size, by the kernel that a person has."""
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "DIFFSWEEP_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(QUICKSTART, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = f"options = {SMALL!r}"
    client = nbclient.NotebookClient(
        notebook,
        timeout=500,
        kernel_name="python3",
        resources={"metadata": {"path": ROOT / "experiments"}},
    )
    client.execute()
    nbformat.write(notebook, tmp_path / "done.ipynb")
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    rich = [out["data"] for out in outputs if "data" in out]
    tables = [data["text/html"] for data in rich if "text/html" in data]
    (waiting,) = (cell for cell in notebook.cells if "job.wait()" in cell.source)
    line, status = (out["data"] for out in waiting.outputs if "data" in out)
    assert status["text/plain"] == "'SUCCEEDED'"
    assert "SUCCEEDED" in line["text/html"], "one line that was redrawn"
    assert "6 of 6 done" in line["text/html"]
    assert any("<th>difference</th>" in table for table in tables), "the verdict"
    assert any("diffusion.timesteps.kind" in table for table in tables), "the results"
    assert sum("application/vnd.plotly.v1+json" in data for data in rich) >= 2, "figures"
    said = "".join(out["text"] for out in outputs if out.output_type == "stream")
    assert "Traceback" not in said
    assert (tmp_path / "home" / "experiments" / "quickstart" / "report.html").is_file()

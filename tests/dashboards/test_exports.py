"""Tables leave whole: every digit in CSV, names that are no markup in Markdown, no commands in LaTeX."""

from __future__ import annotations

import base64
import csv
import dataclasses
import gzip
import io
import json
import re

import numpy as np
import pandas as pd

from dashboards.exports import Table, as_csv, as_latex, as_markdown, export
from dashboards.page import downloads as page_downloads
from dashboards.verdict.wording import size
from tests.dashboards.synthetic import judge, sweep


def test_csv_has_every_digit_and_nothing_where_there_is_none() -> None:
    found = sweep()
    for of, frame in (("trials", found.trials), ("curves", found.curves)):
        read = pd.read_csv(io.StringIO(export(found, None, "csv", of)))
        assert list(read.columns) == list(frame.columns)
        numbers = frame.select_dtypes("number").columns
        np.testing.assert_array_equal(read[numbers].to_numpy(), frame[numbers].to_numpy())
        rows = json.loads(export(found, None, "json", of))
        assert [row["cell"] for row in rows] == frame["cell"].tolist()
    assert as_csv(Table(["a", "b"], [[0.1 + 0.2, float("nan")], ["x,y", None]])) == (
        'a,b\n0.30000000000000004,\n"x,y",\n'
    )


def test_the_verdict_in_numbers_is_the_verdict() -> None:
    found = sweep(seeds=6)
    verdicts = judge(found)
    rows = list(csv.DictReader(io.StringIO(export(found, verdicts, "csv"))))
    (compared,) = verdicts.comparisons
    assert compared.final is not None
    assert [row["verdict"] for row in rows] == ["baseline", compared.word]
    assert float(rows[1]["difference"]) == compared.final.effect
    assert float(rows[1]["low"]) == compared.final.interval.low
    assert float(rows[1]["p"]) == compared.final.p_adjusted
    mean = found.trials[found.trials["cell"] == "under"][found.metric].mean()
    assert np.isclose(float(rows[1]["mean"]), mean)
    text = export(found, verdicts, "markdown")
    assert size(compared.final) in text
    assert compared.word in text


def test_names_are_neither_markup_nor_commands() -> None:
    table = Table(
        ["a|b", "n"], [["x_y~z", "-4.6 %"], ["50 % & #1 $\\{}^<", "1.3x"]], frozenset("n")
    )
    markdown = as_markdown(table)
    assert markdown.splitlines()[:3] == [
        "| a\\|b | n |",
        "| --- | ---: |",
        "| x\\_y\\~z | \N{MINUS SIGN}4.6 % |",
    ]
    rows = [re.split(r"(?<!\\)\|", line) for line in markdown.splitlines()]
    assert {len(row) for row in rows} == {4}
    latex = as_latex(table)
    assert r"\begin{tabular}{lr}" in latex
    assert r"x\_y\textasciitilde{}z & $-$4.6\,\% \\" in latex
    assert r"50\,\% \& \#1 \$\textbackslash{}\{\}\textasciicircum{}$<$ & 1.3$\times$ \\" in latex


def test_without_a_verdict_the_means_are_there() -> None:
    text = export(sweep(), None, "latex")
    assert text.count(r"\\") == 3
    assert "uniform & 3 & " in text


def unpacked(packed: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(gzip.decompress(base64.b64decode(packed))))


def test_what_is_too_large_for_the_page_is_left_out_with_the_command() -> None:
    found = dataclasses.replace(sweep(), name="my sweep")
    small = page_downloads.context(found, None)["files"]
    assert [file.name for file in small] == ["my_sweep-trials.csv", "my_sweep-curves.csv"]
    assert len(unpacked(small[1].packed)) == len(found.curves)
    measured = int((~found.curves["metric"].str.startswith("train/")).sum())
    trials, curves = page_downloads.context(found, None, len(small[1].packed) - 4)["files"]
    assert trials.packed
    assert len(unpacked(curves.packed)) == measured < len(found.curves)
    assert "with the training loss" in curves.said
    _, curves = page_downloads.context(found, None, 300)["files"]
    assert curves.packed == ""
    assert curves.command == (
        "diffsweep compare 'my sweep' --format csv --table curves > my_sweep-curves.csv"
    )


def test_the_files_of_500_trials_fit() -> None:
    rng = np.random.default_rng(2)
    found = sweep({f"c{at}": 0.0 for at in range(10)}, seeds=1)
    base = found.curves[found.curves["metric"] == "rung/fid"].iloc[:1]
    many = base.loc[base.index.repeat(500 * 50)].reset_index(drop=True)
    many = many.assign(value=rng.random(len(many)), seed=np.arange(len(many)) // 50)
    files = page_downloads.context(dataclasses.replace(found, curves=many), None)["files"]
    assert 0 < len(files[1].packed) < page_downloads.MOST_BYTES
    np.testing.assert_array_equal(unpacked(files[1].packed)["value"], many["value"])

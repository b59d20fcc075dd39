"""A file of reports that grows is read where it grew, and is never believed to be what it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer import reading
from trainer.reading import Growing
from trainer.record import REPORTS, Record
from trainer.report import Report, report_of
from trainer.trial import TrialSpec


def report(images: int) -> Report:
    return Report(images, 1.5 * images, {"rung/fid": 100.0 / images}, [(1, {"train/loss": 0.5})])


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "trial")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def another_bit(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"images": 3', b'"images": 7'))


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "happens", [cut, another_bit, Path.unlink, a_directory, lambda file: file.write_bytes(b"\n\n")]
)
def test_it_says_what_the_record_says_whatever_happens(
    record: Record, happens: Callable[[Path], None]
) -> None:
    file = record.directory / REPORTS
    growing = Growing(file)
    assert growing.reports() == ()
    for images in (1, 2, 3):
        record.add_report(report(images))
        assert list(growing.reports()) == record.reports() == [report(n + 1) for n in range(images)]
    happens(file)
    assert list(growing.reports()) == record.reports()
    if file.is_dir():
        file.rmdir()
    record.add_report(report(4))
    assert list(growing.reports()) == record.reports()
    assert growing.reports()[-1] == report(4)


def test_a_training_that_begins_again_at_an_earlier_place_is_another_file(
    record: Record, toy: dict[str, object]
) -> None:
    growing = Growing(record.directory / REPORTS)
    for images in (1, 2, 3):
        record.add_report(report(images))
    assert len(growing.reports()) == 3
    record.begin(TrialSpec.model_validate(toy), images=1)
    other = replace(report(2), metrics={"rung/fid": 7.0})
    for again in (other, report(3), report(4)):
        record.add_report(again)
    assert list(growing.reports()) == [report(1), other, report(3), report(4)]


def test_each_line_is_parsed_once(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counted(line: str) -> Report | None:
        parsed.extend([line] if line else [])
        return report_of(line)

    monkeypatch.setattr(reading, "report_of", counted)
    growing = Growing(record.directory / REPORTS, lambda one: replace(one, series=[]))
    for images in range(1, 51):
        record.add_report(report(images))
        assert len(growing.reports()) == images
    assert len(parsed) == 50
    assert not any(one.series for one in growing.reports()), "as much as is kept of each"

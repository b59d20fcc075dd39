"""Proves that reports survive disk and crashes to the last bit."""

from pathlib import Path

from trainer.report import (
    Report,
    Result,
    append_report,
    read_reports,
    read_result,
    rewind_reports,
    write_result,
)


def report(images: int) -> Report:
    return Report(images, 1.0 / 3.0, {"eval/fid": 0.1 + 0.2}, [(images, {"train/loss": 1e-17})])


def test_round_trip_is_exact() -> None:
    assert Report.from_json(report(7).to_json()) == report(7)


def test_line_cut_short_is_left_out(tmp_path: Path) -> None:
    append_report(tmp_path, report(1))
    append_report(tmp_path, report(2))
    file = tmp_path / "reports.jsonl"
    file.write_text(file.read_text()[:-20])
    assert read_reports(tmp_path) == [report(1)]
    rewind_reports(tmp_path, 1)
    append_report(tmp_path, report(2))
    assert read_reports(tmp_path) == [report(1), report(2)]


def test_rewinding_drops_what_will_be_repeated(tmp_path: Path) -> None:
    for images in (1, 2, 3):
        append_report(tmp_path, report(images))
    rewind_reports(tmp_path, 2)
    assert [r.images for r in read_reports(tmp_path)] == [1, 2]


def test_result(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    result = Result("finished", None, 5, {"eval/fid": 1.5}, 9.0, 2.0, 1.0, {"eval": "ab"}, 10)
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result

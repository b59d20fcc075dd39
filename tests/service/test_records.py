"""A driver holds thousands of records at once: of each as much as decides something, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.records import Records, slim, stand
from service.settings import Settings
from service.worker import MESSAGE, flat, parse
from trainer.record import Record
from trainer.report import Failure, Report, Result, Status

LEVELS = [(float(n), 64, 0.5, 0.5, None) for n in range(64)]


def report(images: int) -> Report:
    losses = (images - 1, {"train/loss": 0.5, "rung/fid": 9.0})
    only_losses = (images - 2, {"train/loss": 0.6})
    metrics = {"rung/fid": 100.0 / images, "sys/eval_s": 0.1}
    return Report(
        images, 1.0, metrics, [only_losses, losses], protocol={"rung/fid": "a1"}, levels=LEVELS
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tracking_uri=None)


def test_a_report_is_held_without_what_only_a_page_draws() -> None:
    kept = slim(report(640))
    assert kept.levels == []
    assert kept.series == [(639, {"rung/fid": 9.0})]
    assert (kept.images, kept.metrics, kept.protocol) == (
        640,
        report(640).metrics,
        {"rung/fid": "a1"},
    )


@pytest.mark.parametrize(("curves", "left"), [(True, 3), (False, 1)])
def test_a_trial_that_is_over_keeps_its_curve_where_that_decides_something(
    settings: Settings, curves: bool, left: int
) -> None:
    records, record = Records(settings, "now", curves), Record(settings.trial("k"))
    assert records.read("k").status is Status.WAITING
    for images in (640, 1280, 1920):
        record.add_report(report(images))
        standing = records.read("k")
        assert (standing.status, standing.images) == (Status.STOPPED, images)
        assert len(standing.reports) == images // 640
    record.write_result(Result("finished", None, 1920, {}, 0.0, 1.0, 1.0, {}, 10))
    for _ in range(2):  # and asked again it says the same
        standing = records.read("k")
        assert (standing.status, standing.images) == (Status.FINISHED, 1920)
        assert len(standing.reports) == left
        assert standing == stand(record, "now", standing.reports)


def test_what_broke_in_another_run_does_not_count(settings: Settings) -> None:
    record = Record(settings.trial("k"))
    record.write_failure(Failure("broke", "before"))
    assert Records(settings, "now", True).read("k").status is Status.WAITING
    assert Records(settings, None, True).read("k").status is Status.FAILED
    assert Records(settings, "before", True).read("k").failure is not None


def test_a_message_is_one_text_to_ray() -> None:
    """Tune would keep means of every number beside it, over the last 5 and 10 reports of every trial."""
    message = {"event": "reported", "report": report(640).to_json()}
    sent = flat(message)
    assert list(sent) == [MESSAGE]
    assert parse(sent[MESSAGE]) == message

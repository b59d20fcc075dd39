"""Proves what a trial's directory promises: whole files or none, and a status that follows from them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.errors import UserError
from trainer.record import Record
from trainer.report import Failure, Report, Result, Status, measured
from trainer.sealed import seal, unseal
from trainer.trial import TrialSpec

CPU = torch.device("cpu")


def save(directory: Path, images: int) -> Path:
    return Record(directory).save_checkpoint(
        images, {"images": images, "w": torch.full((4,), float(images))}
    )


def test_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    for images in (1, 2, 3, 10):
        save(tmp_path, images)
    loaded, notes = Record(tmp_path).newest_state(CPU)
    assert loaded is not None
    assert loaded["images"] == 10
    assert notes == []
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2


def test_nothing_there_is_nothing_wrong(tmp_path: Path) -> None:
    assert Record(tmp_path).newest_state(CPU) == (None, [])


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "no manifest", "bad manifest", "null manifest", "no state"]
)
def test_damaged_checkpoint_is_passed_over_with_a_note(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = (newest / "state.pt").read_bytes()
    if damage == "cut":
        (newest / "state.pt").write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        (newest / "state.pt").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    elif damage == "bad manifest":
        (newest / "manifest.json").write_text("{")
    elif damage == "null manifest":
        (newest / "manifest.json").write_text("null")
    else:
        (newest / "state.pt").unlink()
    loaded, notes = Record(tmp_path).newest_state(CPU)
    assert loaded is not None
    assert loaded["images"] == 1
    assert len(notes) == 1
    assert "checkpoint-000000000002 was passed over" in notes[0]
    assert "continued from checkpoint-000000000001" in notes[0]


def test_if_all_are_damaged_it_says_that_it_starts_again(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "state.pt").write_bytes(b"")
    loaded, notes = Record(tmp_path).newest_state(CPU)
    assert loaded is None
    assert "started again from the beginning" in notes[0]


def test_interrupted_write_leaves_no_trace(toy: dict[str, Any], tmp_path: Path) -> None:
    """Whoever only reads passes over it; whoever trains next removes it."""
    save(tmp_path, 1)
    leftover = tmp_path / ".partial-checkpoint-000000000002-77"
    leftover.mkdir()
    (leftover / "state.pt").write_bytes(b"half")
    loaded, notes = Record(tmp_path).newest_state(CPU)
    assert loaded is not None
    assert loaded["images"] == 1
    assert notes == []
    assert leftover.exists()
    Record(tmp_path).begin(TrialSpec.model_validate(toy), 1)
    assert not leftover.exists()


def test_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    """A pickled object other than tensors and plain values is refused."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("code ran",))

    folder = tmp_path / "checkpoint-000000000005"
    folder.mkdir()
    torch.save({"x": Evil()}, folder / "state.pt")
    import hashlib

    digest = hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"images": 5, "sha256": digest}))
    with pytest.raises(Exception, match=r"weights_only|Unsupported"):
        Record(tmp_path).newest_state(CPU)


def report(images: int) -> Report:
    return Report(images, 1.0 / 3.0, {"eval/fid": 0.1 + 0.2}, [(images, {"train/loss": 1e-17})])


def test_round_trip_is_exact() -> None:
    assert Report.from_json(report(7).to_json()) == report(7)


def test_line_cut_short_is_left_out(toy: dict[str, Any], tmp_path: Path) -> None:
    Record(tmp_path).add_report(report(1))
    Record(tmp_path).add_report(report(2))
    file = tmp_path / "reports.jsonl"
    file.write_text(file.read_text()[:-20])
    assert Record(tmp_path).reports() == [report(1)]
    Record(tmp_path).begin(TrialSpec.model_validate(toy), 1)
    Record(tmp_path).add_report(report(2))
    assert Record(tmp_path).reports() == [report(1), report(2)]


def test_beginning_drops_what_will_be_repeated(toy: dict[str, Any], tmp_path: Path) -> None:
    for images in (1, 2, 3):
        Record(tmp_path).add_report(report(images))
    Record(tmp_path).begin(TrialSpec.model_validate(toy), 2)
    assert [r.images for r in Record(tmp_path).reports()] == [1, 2]


def test_result(tmp_path: Path) -> None:
    assert Record(tmp_path).result() is None
    result = Result("finished", None, 5, {"eval/fid": 1.5}, 9.0, 2.0, 1.0, {"eval": "ab"}, 10)
    Record(tmp_path).write_result(result)
    assert Record(tmp_path).result() == result


def test_what_was_made_elsewhere_is_kept_once(tmp_path: Path) -> None:
    """On a disk that driver and worker share, the driver finds everything there already."""
    record = Record(tmp_path)
    assert record.accept_report(report(1))
    assert not record.accept_report(report(1))
    assert record.reports() == [report(1)]
    result = Result("finished", None, 5, {"eval/fid": 1.5}, 9.0, 2.0, 1.0, {}, 10)
    assert record.accept_result(result)
    assert not record.accept_result(Result("diverged", "x", 6, {}, 9.0, 2.0, 1.0, {}, 10))
    assert record.result() == result


def test_the_status_follows_from_the_files(toy: dict[str, Any], tmp_path: Path) -> None:
    record = Record(tmp_path / "trial")
    assert record.status() is Status.WAITING
    record.begin(TrialSpec.model_validate(toy), 0)
    assert record.status() is Status.WAITING
    record.add_report(report(1))
    assert record.status() is Status.STOPPED
    told = record.write_failure(Failure("no memory", "first"), "Traceback ...")
    assert record.status() is Status.FAILED
    assert record.status("another attempt") is Status.STOPPED
    assert record.status("first") is Status.FAILED
    assert record.failure() == told
    assert Path(str(told.log)).read_text().endswith("no memory\nTraceback ...\n")
    record.clear_failure()
    assert record.status() is Status.STOPPED
    record.write_failure(told)
    record.write_result(Result("diverged", "NaN", 5, {}, 9.0, 2.0, 1.0, {}, 10))
    assert record.status() is Status.DIVERGED
    assert record.status().is_over


def test_images_are_those_of_the_newest_checkpoint(tmp_path: Path) -> None:
    assert Record(tmp_path).images() == 0
    save(tmp_path, 64)
    save(tmp_path, 128)
    assert Record(tmp_path).images() == 128


def test_a_directory_keeps_its_trial(toy: dict[str, Any], tmp_path: Path) -> None:
    record, trial = Record(tmp_path), TrialSpec.model_validate(toy)
    record.refuse_another(trial)
    record.begin(trial, 0)
    assert record.trial() == trial
    record.refuse_another(trial)
    with pytest.raises(UserError, match="holds another trial"):
        record.refuse_another(trial.model_copy(update={"seed": 1}))


def test_a_trial_that_cannot_be_read_is_not_trained_over(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    record = Record(tmp_path)
    record.begin(TrialSpec.model_validate(toy), 0)
    (tmp_path / "trial.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read: it is damaged, or of a later version"):
        record.refuse_another(TrialSpec.model_validate(toy))


@pytest.mark.parametrize("rest", ["", '{"images": 2', '{"images": 2, "what": 1}\n', "\x00\x01\n"])
def test_damaged_lines_of_reports_cost_only_themselves(
    toy: dict[str, Any], tmp_path: Path, rest: str
) -> None:
    """Whoever appends after a crash begins a line of its own."""
    record = Record(tmp_path)
    record.add_report(report(1))
    with open(tmp_path / "reports.jsonl", "a") as file:
        file.write(rest)
    assert record.reports() == [report(1)]
    assert record.accept_report(report(3))
    assert record.reports() == [report(1), report(3)]
    record.begin(TrialSpec.model_validate(toy), 3)
    assert record.reports() == [report(1), report(3)]


def test_a_seal_fits_the_text_or_what_it_means() -> None:
    text = seal({"a": 1, "b": [1.5, "x, y"]})
    assert unseal(text) == unseal(f"{text}\n") == {"a": 1, "b": [1.5, "x, y"]}
    assert unseal(json.dumps(json.loads(text), indent=1)) == unseal(text), "written by another hand"
    for damaged in (text.replace("1.5", "1.6"), text.replace('"a"', '"c"')):
        with pytest.raises(ValueError, match="checksum"):
            unseal(damaged)


def test_curves_of_a_result_are_what_was_measured_under_its_protocols() -> None:
    """Of a number that was told again the last counts; where protocols changed, reports have to be asked."""
    ids = {"rung/fid": "cheap", "eval/fid": "full"}
    first = Report(2, 1.0, {"rung/fid": 9.0, "train/loss": 1.0}, [(1, {"rung/fid": 12.0})])
    last = Report(
        3, 2.0, {"rung/fid": 7.0, "eval/fid": 5.0}, [(2, {"rung/fid": 8.0})], protocol=ids
    )
    assert measured([first, last], ids) == {
        "rung/fid": [[1, 2, 3], [12.0, 8.0, 7.0]],
        "eval/fid": [[3], [5.0]],
    }
    assert measured([first, last], ids | {"rung/fid": "other"}) == {}


@pytest.mark.parametrize("content", ["{", "null", "[]", '{"status": "finished"}'])
def test_a_result_or_failure_that_says_nothing_is_none(tmp_path: Path, content: str) -> None:
    record = Record(tmp_path)
    (tmp_path / "result.json").write_text(content)
    (tmp_path / "failure.json").write_text(content)
    assert record.result() is None
    assert record.status() is Status.WAITING
    odd = Result("odd", None, 5, {}, 9.0, 2.0, 1.0, {}, 10)  # type: ignore[arg-type]
    record.write_result(odd)
    assert record.result() is None


def test_samples_are_found_again(tmp_path: Path) -> None:
    record = Record(tmp_path)
    name = record.write_sample(64, b"png")
    shown = Report(64, 1.0, {}, sample_png=name)
    record.add_report(shown)
    record.add_report(Report(128, 1.0, {}, sample_png="samples/000000000128.png"))
    assert record.sample(shown) == b"png"
    assert record.sample(record.reports()[1]) is None
    assert [record.sample_path(r) for r in record.reports()] == [tmp_path / name, None]


@pytest.mark.parametrize("how", ["absolute", "upwards", "a link", "a linked folder"])
def test_a_sample_outside_the_trial_is_never_read(tmp_path: Path, how: str) -> None:
    secret, directory = tmp_path / "000000000064.png", tmp_path / "trial"
    secret.write_bytes(b"private")
    record = Record(directory)
    name = record.write_sample(64, b"png")
    if how == "a linked folder":
        shutil.rmtree(directory / "samples")
        (directory / "samples").symlink_to(tmp_path)
    elif how == "a link":
        (directory / name).unlink()
        (directory / name).symlink_to(secret)
    else:
        name = str(secret) if how == "absolute" else f"samples/../../{secret.name}"
    report = Report(64, 1.0, {}, sample_png=name)
    assert (directory / name).read_bytes() == b"private"
    assert record.sample(report) is None
    assert record.sample_path(report) is None

"""Proves that a checkpoint is whole or passed over, never half used."""

import json
from pathlib import Path

import pytest
import torch

from trainer import state

CPU = torch.device("cpu")


def save(directory: Path, images: int) -> Path:
    return state.save(directory, images, {"images": images, "w": torch.full((4,), float(images))})


def test_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    for images in (1, 2, 3, 10):
        save(tmp_path, images)
    loaded, notes = state.load_newest(tmp_path, CPU)
    assert loaded is not None
    assert loaded["images"] == 10
    assert notes == []
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2


def test_nothing_there_is_nothing_wrong(tmp_path: Path) -> None:
    assert state.load_newest(tmp_path, CPU) == (None, [])


@pytest.mark.parametrize("damage", ["cut", "flipped", "no manifest", "bad manifest", "no state"])
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
    else:
        (newest / "state.pt").unlink()
    loaded, notes = state.load_newest(tmp_path, CPU)
    assert loaded is not None
    assert loaded["images"] == 1
    assert len(notes) == 1
    assert "checkpoint-000000000002 was passed over" in notes[0]
    assert "continued from checkpoint-000000000001" in notes[0]


def test_if_all_are_damaged_it_says_that_it_starts_again(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "state.pt").write_bytes(b"")
    loaded, notes = state.load_newest(tmp_path, CPU)
    assert loaded is None
    assert "started again from the beginning" in notes[0]


def test_interrupted_write_leaves_no_trace(tmp_path: Path) -> None:
    save(tmp_path, 1)
    leftover = tmp_path / ".partial-checkpoint-000000000002-77"
    leftover.mkdir()
    (leftover / "state.pt").write_bytes(b"half")
    loaded, notes = state.load_newest(tmp_path, CPU)
    assert loaded is not None
    assert loaded["images"] == 1
    assert notes == []
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
        state.load_newest(tmp_path, CPU)

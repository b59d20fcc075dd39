"""Proves that pictures are decoded once, whole or not at all, whoever asks, and that streaming changes no byte."""

import multiprocessing
import shutil
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.data import Batches, ImageFolder, Resident, Source
from trainer.data.batches import foreseen
from trainer.data.framed import Framed
from trainer.data.picture import Frame, Unreadable
from trainer.data.pictures import Pictures, source_of
from trainer.data.stored import VARIABLE, Mapped, Streamed
from trainer.errors import DataError, EnvironmentProblem, UserError

CPU = torch.device("cpu")


class Noise(Pictures):
    """Pictures that are made when asked for, and count how often."""

    def __init__(self, count: int = 70, broken: int | None = None) -> None:
        self.count, self.broken, self.made = count, broken, 0
        self.content = f"noise of {count}"
        self.labels = torch.arange(count) % 3
        self.label_names = ("a", "b", "c")

    def __len__(self) -> int:
        return self.count

    def picture(self, number: int) -> Image.Image:
        self.made += 1
        if number == self.broken:
            raise Unreadable("it is broken")
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def name(self, number: int) -> str:
        return f"picture {number}"

    def line(self) -> str:
        return f"{self.count} pictures of noise"


class NoiseSet(Framed):
    """A kind of data set that has pictures: all that it must say is where they are."""

    kind: Literal["noise"] = "noise"

    def _pictures(self, root: Path, cache: Path | None) -> Pictures:
        return Noise()


def pixels(source: Source) -> torch.Tensor:
    return source.read(torch.arange(len(source)))


def both(cache: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Source, Source]:
    """The same set resident and streamed."""
    frame = Frame(6, 8)
    monkeypatch.setenv(VARIABLE, "always")
    resident = source_of(Noise(), frame, cache=cache, **options)
    monkeypatch.setenv(VARIABLE, "never")
    streamed = source_of(Noise(), frame, cache=cache, **options)
    assert isinstance(resident, Resident)
    assert isinstance(streamed, Streamed)
    return resident, streamed


def test_pictures_are_decoded_once_in_order(tmp_path: Path) -> None:
    first, again = Noise(), Noise()
    alone = source_of(Noise(), Frame(6, 8), cache=None)
    kept = source_of(first, Frame(6, 8), cache=tmp_path)
    assert first.made == 70
    assert torch.equal(pixels(kept), pixels(alone))
    want = np.stack([Frame(6, 8).pixels(again.picture(i)) for i in range(70)])
    assert np.array_equal(pixels(kept).numpy(), want)
    again.made = 0
    assert torch.equal(pixels(source_of(again, Frame(6, 8), cache=tmp_path)), pixels(alone))
    assert again.made == 0
    assert kept.codec.label_counts == (24, 23, 23)
    source_of(again, Frame(6, 8, resize="lanczos"), cache=tmp_path)
    assert again.made == 70, "another method, other pixels"


def test_a_set_of_pictures_says_where_they_are_and_nothing_else(tmp_path: Path) -> None:
    data = NoiseSet(size=[6, 8], grayscale=True, flip=False)
    source, outline = data.load(Path(), tmp_path), data.outline(Path(), tmp_path)
    assert outline.source is not None
    assert data.shape == source.codec.shape == outline.source.codec.shape == (1, 6, 8)
    assert data.fingerprint(Path()) == source.fingerprint == outline.fingerprint
    assert data.fingerprint(Path()) != NoiseSet(size=[6, 8], flip=False).fingerprint(Path())
    assert (data.flips, source.flip, outline.source.flip) == (False, False, False)
    assert outline.line == "70 pictures of noise"


def test_a_broken_picture_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data: picture 33: it is broken$"):
        source_of(Noise(broken=33), Frame(6, 8), cache=tmp_path)
    assert [f.name for f in tmp_path.iterdir() if not f.name.endswith(".lock")] == []


def test_what_is_not_whole_is_made_again(tmp_path: Path) -> None:
    whole = pixels(source_of(Noise(), Frame(6, 8), cache=tmp_path)).clone()
    (file,) = tmp_path.glob("pictures-*.npy")
    file.write_bytes(file.read_bytes()[:500])
    file.with_name(f".{file.name}.partial").write_bytes(b"left by a process that was killed")
    assert torch.equal(pixels(source_of(Noise(), Frame(6, 8), cache=tmp_path)), whole)
    assert list(tmp_path.glob(".*.partial")) == []


def test_a_full_disk_is_told_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10_000))
    with pytest.raises(EnvironmentProblem, match="make room, or set DIFFSWEEP_HOME"):
        source_of(Noise(), Frame(6, 8), cache=tmp_path)


def _ask(folder: Path, cache: Path, answers: Any) -> None:
    source = ImageFolder(path=str(folder), size=6).load(Path(), cache)
    (file,) = cache.glob("pictures-*.npy")
    answers.put((file.stat().st_ino, int(pixels(source).sum())))


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    """One decodes, the other waits: both see one file, of one birth."""
    for i in range(40):
        Noise().picture(i).save(tmp_path / f"{i}.png")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    asking = [
        context.Process(target=_ask, args=(tmp_path, tmp_path / "cache", answers)) for _ in "ab"
    ]
    for process in asking:
        process.start()
    found = [answers.get(timeout=60) for _ in asking]
    for process in asking:
        process.join(60)
    assert found[0] == found[1]


def test_a_file_that_changes_after_it_was_read_is_noticed(tmp_path: Path) -> None:
    Noise().picture(0).save(tmp_path / "a.png")
    pictures = ImageFolder(path=str(tmp_path), size=6)._pictures(Path(), None)
    Noise().picture(1).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: it was changed while the data was read"):
        source_of(pictures, Frame(6, 6), cache=None)


def test_streaming_equals_residence_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches over three epochs with flips, cut in any way, from any image on; labels; the passage."""
    resident, streamed = both(tmp_path, monkeypatch, flip=True)
    one, other = Batches(resident, seed=4), Batches(streamed, seed=4)
    for first in range(0, 210, 14):
        assert torch.equal(one.get(first, 14), other.get(first, 14))
        assert torch.equal(one.draw(first, 14).labels, other.draw(first, 14).labels)
    for first, count in ((100, 5), (3, 64), (69, 2), (100, 5), (139, 141)):
        assert torch.equal(one.get(first, count), other.get(first, count))
    for a, b in zip(resident.passage(32), streamed.passage(32), strict=True):
        assert torch.equal(a, b)
    assert (resident.fingerprint, resident.codec) == (streamed.fingerprint, streamed.codec)


def test_what_is_announced_is_read_by_the_time_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second batch on, no batch is read by the thread that asks."""
    _, streamed = both(tmp_path, monkeypatch)
    by: list[str] = []
    gather = Streamed._gather

    def noted(self: Streamed, rows: torch.Tensor) -> torch.Tensor:
        by.append(threading.current_thread().name)
        return gather(self, rows)

    monkeypatch.setattr(Streamed, "_gather", noted)
    batches = Batches(streamed, seed=0)
    for first in range(0, 140, 10):
        batches.get(first, 10)
    mine = threading.current_thread().name
    assert by.count(mine) == 1


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("slices", [[8], [3, 3, 2], [1] * 8])
def test_the_calls_of_a_worker_are_foreseen(workers: int, slices: list[int]) -> None:
    """A worker's share of each batch in slices, after three batches to learn from."""
    share = sum(slices)
    calls = []
    for step in range(8):
        first = (step * workers + workers - 1) * share
        for count in slices:
            calls.append((first, count))
            first += count
    for known in range(3 * len(slices), len(calls) - 2):
        seen = calls[max(0, known - 48) : known]
        assert foreseen(seen, 2) == calls[known : known + 2]


def test_a_permutation_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking ahead goes to and fro at the end of an epoch."""
    _, streamed = both(tmp_path, monkeypatch)
    made: list[int] = []
    randperm = torch.randperm
    monkeypatch.setattr(
        torch, "randperm", lambda n, **options: made.append(n) or randperm(n, **options)
    )
    batches = Batches(streamed, seed=0)
    for first in range(0, 700, 10):
        batches.get(first, 10)
    assert len(made) == 11, "ten epochs, and the one ahead"
    assert len(batches._order._made) <= 3


def test_residence_follows_the_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.data import stored

    needed = 70 * 3 * 6 * 8
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(stored, "_free", lambda _device: 4 * needed)
    source = source_of(Noise(), Frame(6, 8), cache=tmp_path)
    assert isinstance(source, Mapped)
    assert source.to(CPU) is source
    monkeypatch.setattr(stored, "_free", lambda _device: 4 * needed - 1)
    assert isinstance(source_of(Noise(), Frame(6, 8), cache=tmp_path), Streamed)
    assert not source.to(torch.device("meta")).resident, "another device is asked on its own"
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(UserError, match="set it to auto, always or never"):
        source_of(Noise(), Frame(6, 8), cache=tmp_path)


def test_a_file_that_was_cut_short_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, streamed = both(tmp_path, monkeypatch)
    (file,) = tmp_path.glob("pictures-*.npy")
    with open(file, "r+b") as opened:
        opened.truncate(5000)
    with pytest.raises(OSError, match="cut short"):
        pixels(streamed)

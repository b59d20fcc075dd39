"""What is handed over as a YAML, and is none: each gets one message in seconds, and nothing that hangs is opened."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli import invoke
from service.experiment import Experiment
from service.sdk import Client
from trainer.errors import InputError, Problem

TRIAL = """\
data: {kind: gaussians, examples: 512}
model: {kind: mlp, width: 32}
train: {kimg: 1.28, batch_size: 64}
evaluation: {features: {kind: pixels}, full: {images: 64, steps: 4}}
"""


@pytest.fixture(autouse=True)
def hurry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever hangs is ended; file names are short."""

    def late(*_: object) -> None:
        raise TimeoutError("no answer in 30 s")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "trial.yaml").write_text(TRIAL)
    signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)


def refused(file: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `validate` says of a file that it refuses: whole lines, without anything that moves the cursor."""
    assert invoke(["validate", file]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert all(c.isprintable() or c == "\n" for c in said), ascii(said)
    return said


def special(place: Path) -> dict[str, str]:
    """Paths that are no files, with what each is called."""
    os.mkfifo(place / "pipe.yaml")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "socket.yaml"))
    (place / "folder.yaml").mkdir()
    (place / "loop.yaml").symlink_to("loop.yaml")
    (place / "gone.yaml").symlink_to("nowhere.yaml")
    return {
        "pipe.yaml": "is a pipe, not a YAML file",
        "socket.yaml": "is a socket, not a YAML file",
        "folder.yaml": "is a directory, not a YAML file",
        "loop.yaml": "cannot be read: Too many levels of symbolic links",
        "gone.yaml": "is a link to nowhere.yaml, which does not exist",
        "/dev/zero": "is a device, not a YAML file",
        "/dev/null": "is a device, not a YAML file",
        "/dev": "is a directory, not a YAML file",
    }


def test_what_is_no_file_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, why in special(tmp_path).items():
        assert why in refused(path, capsys), path
        (tmp_path / "x.yaml").write_text(f"name: x\nbase: {path}\n")
        said = refused("x.yaml", capsys)
        assert said.startswith("x.yaml:2: base: "), said
        assert why in said, path


def test_files_of_the_system_are_no_experiments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("/proc/self/mem", "/proc/self/environ", "/proc/kmsg", "/proc/self/maps"):
        (tmp_path / "x.yaml").write_text(f"name: x\nbase: {path}\n")
        said = refused("x.yaml", capsys)
        assert len(said) < 500
        assert "PATH=" not in said
        assert "is the system's own, not a YAML file: name a file of yours" in said
        for verb in ("validate", "show"):
            assert invoke([verb, path]) == 2
            assert "is the system's own" in capsys.readouterr().err


def test_a_roundabout_way_to_the_system_is_no_pipe_of_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link.yaml").symlink_to("/proc/self/maps")
    for path in ("link.yaml", "/dev/fd/../../self/maps", "/proc/self/fd/../maps"):
        assert "is the system's own" in refused(path, capsys), path


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a: &a [x, x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (98 + n, 98 + n, b", ".join([b"*%c" % (97 + n)] * 10)) for n in range(9)
        ), "more than 20,000 values"),
        (b"name: x\nbase: {a: &a {b: 1}, c: [" + b"*a, " * 60_000 + b"1]}\n", "more than 20,000 values"),
        (b"# a long comment\n" * 700_000, "is larger than 1 MB"),
        (b"name: x\nbase: " + b"[" * 100_000 + b"\n", "is nested more than 50 deep"),
        (b"name: x\nbase: " + b"{" * 100_000 + b"\n", "is nested more than 50 deep"),
        (b"!" * 900_000, "x.yaml:1: not valid YAML: `!` begins a tag of more than 200 characters"),
        (b"name: !!" + b"%41" * 300_000 + b" x\n", "`!` begins a tag of more than 200 characters"),
        (b"- " * 100_000, "is nested more than 50 deep"),
        (b"? " * 100_000, "is nested more than 50 deep"),
        (b"name: x\nbase: {" + b"k: 1, " * 80_000 + b"}\n", "more than 20,000 values"),
        (os.urandom(4096) + b"\xff", "is not a text file in UTF-8"),
        (b"\x89PNG\r\n\x1a\n" + bytes(2000), "is not a text file in UTF-8"),
        (b"\x7fELF" + bytes(2000), "U+007F does not occur in text"),
        (bytes(5000), "U+0000 does not occur in text"),
        ("name: x\n".encode("utf-16"), "save it in UTF-8"),
        ("name: x\n".encode("utf-16-le"), "looks like text in UTF-16 or UTF-32: save it in UTF-8"),
        ("name: x\n".encode("utf-16-be"), "looks like text in UTF-16 or UTF-32: save it in UTF-8"),
        ("name: x\n".encode("utf-32-le"), "looks like text in UTF-16 or UTF-32: save it in UTF-8"),
        ("name: x\n".encode("utf-32-be"), "looks like text in UTF-16 or UTF-32: save it in UTF-8"),
        ("name: x\n".encode("utf-32"), "save it in UTF-8"),
        ("name: ärger\n".encode("latin-1"), "is not a text file in UTF-8"),
        (b"name: \xed\xa0\x80\n", "is not a text file in UTF-8"),
        (b"name: \"\\ud800\"\nbase: trial.yaml\n", "half a character"),
        (b"name: x\nbase: trial.yaml\nseeds: " + b"9" * 100_000 + b"\n", "whole number of 100,000 digits"),
        (b"name: x\nbase: trial.yaml\nset: {train.kimg: 1e99999}\n", "must be a finite number"),
        (b"%YAML 9.9\n---\nname: x\n", "not valid YAML"),
        (b"name: x\nbase: trial.yaml\n\"\\e[31m\\e]0;owned\\a\": 1\n", "unknown key"),
        (b"name: \"\\e[2J\"\nbase: trial.yaml\n", "is not a name"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_experiment_is_refused_in_a_moment(
    tmp_path: Path, content: bytes, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    said = refused("x.yaml", capsys)
    assert why in said, said[:300]
    assert len(said) < 2000


def circle(place: Path) -> None:
    """Two experiments that are each other's base, and one that is its own."""
    (place / "x.yaml").write_text("name: x\nbase: y.yaml\n")
    (place / "y.yaml").write_text("name: y\nbase: x.yaml\n")


def start(place: Path) -> None:
    """An experiment that starts from what it trains itself."""
    mine = "start_from: {experiment: x.yaml, cell: base}"
    (place / "x.yaml").write_text(f"name: x\nbase: trial.yaml\nset: {{{mine}}}\n")


@pytest.mark.parametrize("make", [circle, start])
def test_circles_have_an_end(
    tmp_path: Path, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    said = refused("x.yaml", capsys)
    assert "is an experiment itself" in said or "starts from itself" in said or "start_from" in said


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("axes:\n" + "".join(f"  optimizer.k{i}: [1]\n" for i in range(6000)),
         "x.yaml:3: axes: varies 6,000 paths, more than 100: keep those to compare, and put what is fixed into `set`"),
        ("zip:\n" + "".join(f"  optimizer.k{i}: [1, 2]\n" for i in range(6000)), "x.yaml:3: zip: varies 6,000 paths"),
        ("arms: {a: {}, b: {optimizer.lr: 0.1}}\nsearch:\n  trials: 4\n  space:\n" + "".join(
            f"    optimizer.k{i}: {{log: [0.1, 1]}}\n" for i in range(3500)
        ), "x.yaml:6: search.space: searches 3,500 paths, more than 100: keep the few that matter"),
        ("controls: [" + "x, " * 18_000 + "x]\n", "x.yaml:3: controls[0]: must be `equal_objective`"),
        ("set: {optimizer: {kind: adamw, " + ", ".join(f"k{i}: 1" for i in range(18_000)) + "}}\n",
         "and 151 more: mend these first"),
        ("? " + "k" * 500_000 + "\n: 1\n", ": unknown key"),
        ("set: {a: *" + "k" * 500_000 + "}\n", "x.yaml:3: set.a: `*kkk"),
    ],
    ids=["axes", "zip", "space", "list", "keys", "long key", "long alias"],
)  # fmt: skip
def test_thousands_of_faults_are_told_at_once_and_on_a_page(
    tmp_path: Path, more: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(f"name: x\nbase: trial.yaml\n{more}")
    said = refused("x.yaml", capsys)
    assert len(said) < 20_000
    assert why in said, said[:1000]


def test_fifty_problems_are_printed_and_the_others_counted() -> None:
    many = InputError([Problem("f", line, "", "is wrong") for line in range(1, 60)])
    few = InputError([Problem("f", line, "", "is wrong") for line in range(1, 51)])

    assert str(many).splitlines()[-2:] == ["f:50: is wrong", "and 9 more: mend these first"]
    assert len(many.problems) == 59
    assert str(few).splitlines()[-1] == "f:50: is wrong"


def endless(kind: type) -> object:
    """A value that holds itself, twice where it can."""
    value = kind()
    if isinstance(value, list):
        value += [value, value]
    else:
        value["a"] = value
    return value


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([1], "experiment: an experiment is a mapping that begins with `name:`, this is `[1]`"),
        ("x", "experiment: an experiment is a mapping that begins with `name:`, this is `x`"),
        (5, "experiment: an experiment is a mapping that begins with `name:`, this is `5`"),
        (None, "experiment: is empty: an experiment needs `name:` and `base:`"),
        (endless(list), "]: is nested more than 50 deep"),
        (endless(dict), "experiment: a: is nested more than 50 deep"),
        ({"name": "x", "base": nested(3000)}, "experiment: base: is nested more than 50 deep"),
        ({"name": "x", "seeds": 10**5000}, "seeds: is a whole number of more than 600 digits"),
        ({10**5000: 1}, "is a whole number of more than 600 digits"),
        ({"axes": {f"optimizer.a{i}": [1] for i in range(20_000)}}, "axes: holds more than 20,000 values"),
        ({"name": "x" * 2**21}, "name: is larger than 1 MB"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_mapping_is_held_to_the_limits_of_a_file(data: Any, why: str) -> None:
    with pytest.raises(InputError) as refusal:
        Experiment.from_mapping(data)
    assert why in str(refusal.value)


def test_what_is_no_name_path_or_address_is_told_with_what_is() -> None:
    with pytest.raises(TypeError, match=r"not by 5: a YAML file is read by Experiment\.from_yaml"):
        Experiment(5)  # type: ignore[call-arg,arg-type]
    with pytest.raises(TypeError, match=r"takes the address of a cluster, such as .*, not 5"):
        Client(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"or the path of its YAML, not \{"):
        Client().submit({})  # type: ignore[arg-type]


def test_a_name_of_thousands_of_letters_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["show", "x" * 5000]) == 2
    said = capsys.readouterr().err
    assert "xxx: is neither a YAML file nor an experiment in" in said

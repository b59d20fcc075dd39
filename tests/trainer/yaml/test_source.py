"""YAML 1.2 core values, a line for every key and value, nothing executable, plain words when it is broken."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import InputError
from trainer.yaml.keys import dotted
from trainer.yaml.scalar import scalar
from trainer.yaml.source import parse, read

SCALARS: dict[str, Any] = {
    "1e-3": 1e-3,
    "4e-3": 4e-3,
    "1E+2": 100.0,
    ".5": 0.5,
    "1.": 1.0,
    "-3": -3,
    "+3": 3,
    "0x1F": 31,
    "0o17": 15,
    "017": 17,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    ".inf": math.inf,
    "-.inf": -math.inf,
    # text under YAML 1.2, though YAML 1.1 reads other things into them
    "yes": "yes",
    "off": "off",
    "none": "none",
    "1_000": "1_000",
    "12:30": "12:30",
    "2024-01-01": "2024-01-01",
    "1e": "1e",
    "e3": "e3",
    "1.2.3": "1.2.3",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=[s or "(empty)" for s in SCALARS])
def test_scalars_are_yaml_1_2(text: str, value: Any) -> None:
    found = parse(f"a: {text}\n", "f").data["a"]

    assert found == value
    assert type(found) is type(value)
    assert scalar(text) == value


def test_quoted_numbers_are_text() -> None:
    assert parse("a: '1'\nb: \"2\"\n", "f").data == {"a": "1", "b": "2"}


def test_nan_is_a_number() -> None:
    assert math.isnan(parse("a: .nan", "f").data["a"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1, max_size=60), inner),
        max_leaves=20,
    )
)
def test_json_is_read_as_it_is(value: Any) -> None:
    text = json.dumps({"top": value})
    if "Infinity" not in text:
        assert parse(text, "f").data == {"top": value}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives(value: float) -> None:
    assert scalar(repr(value)) == value


def test_lines_of_keys_and_values() -> None:
    source = parse("a: 1\nb:\n  c: [1,\n      2]\n  d:\n    - x\n    - {e: 5}\n", "f")

    assert source.line(("a",)) == 1
    assert source.line(("b",)) == 2  # a block is looked for at its key
    assert source.line(("b", "c")) == 3
    assert source.line(("b", "c", 1)) == 4
    assert source.line(("b", "d")) == 5
    assert source.line(("b", "d", 1, "e")) == 7
    assert source.line(("b", "not there")) == 2
    assert source.line(("b", "c", 7)) == 3


def test_a_value_on_the_next_line_has_its_own_line() -> None:
    source = parse("a:\n  long\n", "f")

    assert source.line(("a",), of_key=True) == 1


def test_problem_prints_file_line_path_and_message() -> None:
    source = parse("axes:\n  optimizer.lr: [1, 2]\n", "x.yaml")

    said = source.problem(("axes", "optimizer.lr", 1), "is wrong")

    assert str(said) == "x.yaml:2: axes.optimizer.lr[1]: is wrong"


def test_dotted() -> None:
    assert dotted(("a", 0, "b.c", 1)) == "a[0].b.c[1]"
    assert dotted(()) == ""


def test_an_alias_has_the_value_of_its_anchor_and_its_own_line() -> None:
    source = parse("a: &x {y: 1}\nb: *x\n", "f")

    assert source.data == {"a": {"y": 1}, "b": {"y": 1}}
    assert source.line(("b",)) == 2
    assert source.line(("b", "y")) == 1


BROKEN = {
    "a: 1\na: 2\n": "f:2: a: is already given on line 1: rename or remove one",
    "a: {b: 1, b: 2}\n": "f:1: a.b: is already given on line 1: rename or remove one",
    "a: b: c\n": "f:1: not valid YAML: a second `:` on one line, or a line indented too far",
    "a: 1\n  b: 2\n": "f:2: not valid YAML: a second `:` on one line, or a line indented too far",
    "a:\n  b: 1\n c: 2\n": (
        "f:3: not valid YAML: this line is indented differently from the lines it belongs with"
    ),
    "a:\n\tb: 1\n": "f:2: not valid YAML: a tab: YAML is indented with spaces",
    "x: 1\na: [1,\n2\nb: 3\n": "f:2: not valid YAML: a list opened with `[` is not closed",
    "a: {b: 1\n": "f:1: not valid YAML: a mapping opened with `{` is not closed",
    "x: 1\na: 'b\n": "f:2: not valid YAML: a quoted text is not closed",
    "a: 1\nb\n": "f:2: not valid YAML: a line that is no `key: value`",
    "a: @b\n": "f:1: not valid YAML: a value cannot start with this character: put it in quotes",
    "a: *b\n": "f:1: a: `*b` has no anchor `&b` above it; as text it needs quotes",
    "a: &b [*b]\n": "f:1: a[0]: `*b` has no anchor `&b` above it; as text it needs quotes",
    "<<: {a: 1}\n": "f:1: <<: merging with `<<` is not supported: repeat the keys",
    "? [a]\n: 1\n": "f:1: a key must be a single word, not a list or a mapping",
    "a: 1\n---\nb: 2\n": "f:2: a second document: keep one per file, drop the `---`",
}


@pytest.mark.parametrize(("text", "said"), BROKEN.items())
def test_what_is_broken_is_told_in_plain_words(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, "f")

    assert str(caught.value) == said


def test_all_duplicate_keys_are_told() -> None:
    with pytest.raises(InputError) as caught:
        parse("a: 1\na: 2\nb: {c: 1, c: [x, {y: 1}]}\n", "f")

    assert [problem.path for problem in caught.value.problems] == ["a", "b.c"]


@pytest.mark.parametrize(
    "text", ["a: !!python/object/apply:os.system [echo]", "a: !x {}", "a: !!int '7'"]
)
def test_tags_are_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"^f:1: a: the tag `.*` is not allowed: write a plain value$"
    ):
        parse(text, "f")


def test_aliases_cannot_explode() -> None:
    bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )

    with pytest.raises(InputError, match="holds more than 20,000 values, aliases counted"):
        parse(bomb, "f")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n\n"])
def test_an_empty_file_says_nothing(text: str) -> None:
    assert parse(text, "f").data is None


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.yaml").write_text("a: 1\n")
    (tmp_path / "image.yaml").write_bytes(b"\x89PNG\xff\xfe")

    def said(name: str) -> str:
        with pytest.raises(InputError) as caught:
            read(name)
        return str(caught.value)

    assert (
        said("quickstrat.yaml") == "quickstrat.yaml: does not exist, did you mean quickstart.yaml?"
    )
    assert said("no/x.yaml") == "no/x.yaml: does not exist (there is no folder no either)"
    (tmp_path / "notify.yaml").write_text("")
    assert said("nope.yaml") == "nope.yaml: does not exist; it is looked for in ."
    assert said("zzz") == "zzz: does not exist; it is looked for in ."
    assert said(".") == ".: is a directory, not a YAML file"
    assert said("image.yaml") == "image.yaml: is not a text file in UTF-8"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes("a: 1\n".encode("utf-8-sig"))

    assert read(tmp_path / "bom.yaml").data == {"a": 1}


def refusal(path: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value)


def test_nothing_but_a_plain_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody writes to would wait for ever, a device never ends."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link").symlink_to("link")
    Path("nowhere").symlink_to("gone.yaml")
    Path("file").write_text("")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert refusal("socket") == "socket: is a socket, not a YAML file"

    assert refusal("pipe") == "pipe: is a pipe, not a YAML file"
    assert refusal("/dev/zero") == "/dev/zero: is a device, not a YAML file"
    assert refusal("link") == "link: cannot be read: Too many levels of symbolic links"
    assert refusal("nowhere") == "nowhere: is a link to gone.yaml, which does not exist"
    assert refusal("file/x.yaml") == "file/x.yaml: does not exist (file is no folder)"
    assert refusal("x" * 300) == f"{'x' * 300}: cannot be read: File name too long"
    assert "is no file name" in refusal("a\0b")


def test_a_pipe_of_the_shell_is_read() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"a: 1\n")
    os.close(write_end)
    try:
        assert read(f"/dev/fd/{read_end}").data == {"a": 1}
    finally:
        os.close(read_end)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes("a: 1\nb: 2\n".encode("utf-16"))
    assert refusal(file) == f"{file}: is text in UTF-16 or UTF-32: save it in UTF-8"
    file.write_bytes(bytes(range(128, 256)))
    assert refusal(file) == f"{file}: is not a text file in UTF-8"
    file.write_bytes(b"a: 1\nb: \x00\n")
    assert refusal(file) == f"{file}:2: not valid YAML: the character U+0000 does not occur in text"
    with open(file, "wb") as sparse:
        sparse.truncate(2**33)
    assert refusal(file) == f"{file}: is larger than 1 MB: an experiment is a page of text"


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000 + "]" * 3000,
        "a: " + "{b: " * 3000 + "1" + "}" * 3000,
        "a:\n  " + "- " * 3000 + "1",
        "[" * 3000,
        "a: " + "{" * 3000,
        "a: {" + "{\n" * 3000,
        "a: " + "[{" * 3000,
        "a:\n  " + "? " * 3000,
        "a: {b: 1, b: " + "[" * 3000,
    ],
)
def test_endless_nesting_is_told(text: str) -> None:
    with pytest.raises(InputError, match=r"^f:\d+: (a|\[0\]): is nested more than 50 deep$"):
        parse(text, "f")


@pytest.mark.parametrize("begun", ["a: ", "a: {b: {", "- "])
def test_a_flood_of_brackets_takes_no_time(begun: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match="is nested more than 50 deep"):
        parse(begun + "{" * 30_000, "f")
    assert time.process_time() - began < 5.0


def test_aliases_cannot_nest_endlessly() -> None:
    lines = ["a0: &a0 [1]"]
    lines += [f"a{i}: &a{i} {'[' * 9}*a{i - 1}{']' * 9}" for i in range(1, 9)]

    with pytest.raises(InputError, match=r"^f:7: a6: is nested more than 50 deep$"):
        parse("\n".join(lines), "f")


def test_many_aliases_of_a_small_value_are_read_at_once() -> None:
    began = time.perf_counter()
    found = parse("a: &a 1\nb: [" + "*a, " * 19_000 + "1]\n", "f")

    assert found.data["b"] == [1] * 19_001
    assert time.perf_counter() - began < 60  # a second or two; quadratic work takes many minutes


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000])
def test_a_number_of_thousands_of_digits_is_told(number: str) -> None:
    with pytest.raises(
        InputError, match=r"^f:2: b: is a whole number of 5,00\d digits, at most 600"
    ):
        parse(f"a: 1\nb: {number}\n", "f")
    assert parse(f"? {number}\n: 1", "f").data == {number: 1}, "a name is text"
    assert parse(f"a: '{number}'", "f").data == {"a": number}


@pytest.mark.parametrize("text", ['a: "\\ud800"', '"\\udc00": 1'])
def test_half_a_character_is_told(text: str) -> None:
    with pytest.raises(InputError, match="holds half a character"):
        parse(text, "f")


MARKS = st.sampled_from([*"[]{}:,-?&*!|>'\"%@`#\\\n\t ", ": ", "- ", "---", "...", "<<", "a", "1"])


@given(st.text(max_size=40) | st.lists(MARKS, max_size=30).map("".join))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        parse(text, "f")
    except InputError as error:
        refused = str(error)
        assert refused.startswith("f")

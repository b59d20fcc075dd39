"""Which YAMLs does nobody mean? A seeded generator of malformed experiments, made from those that are right.

`python -m tests.service.mutants SEED COUNT FOLDER` validates COUNT of them with the limits of memory and time that are
promised, and writes one JSON line each: what was done to which YAML, exit code, message, seconds, resolved numbers.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SECONDS = 10
MEMORY = 1.5 * 2**30
"""Bytes of resident memory."""

ODD_VALUES: tuple[str, ...] = (
    "1e300", "-1", "0", "1e-300", ".nan", "-.inf", ".inf", "9" * 5000, "0x" + "f" * 900, "1" + "0" * 18, "-0.0", "1e-9",
    "true", "null", "~", "''", "' '", "yes", "2026-01-01", "[]", "{}", "[[[]]]", "{kind: }", "{kind: {}}", "'1'",
    "'\\u202e'", '"\\u0000"', '"\\ud800"', '"\\e[31mred"', "x" * 4000, "../../../etc/passwd", "/dev/zero",
    "/proc/self/mem", "'<script>alert(1)</script>'", "%s%n", "{{7*7}}", "!!python/object/apply:os.system [id]",
    "&a [*a]", "*nowhere",
    "[1, 2, 3]", "{a: {b: {c: 1}}}", "|\n    text", "@", "`", "? x", "1_000", "0o777", "12:30:45", "é", "\u0001",
)  # fmt: skip


def texts() -> dict[str, str]:
    """The YAMLs that the mutants come from: small experiments of every kind of part, with the presets written out."""
    toy = """\
name: toy
base:
  data: {kind: gaussians, examples: 512, modes: 8}
  model: {kind: mlp, width: 32, depth: 2}
  diffusion:
    schedule: {kind: cosine, steps: 100}
    timesteps: {kind: lognormal, mean: -1.2, std: 1.2}
    weighting: {kind: p2, gamma: 0.5}
  optimizer: {lr: 4e-3, betas: [0.9, 0.99], weight_decay: 0.01, grad_clip: 1.0}
  ema: {kind: constant, decay: 0.99}
  train: {kimg: 2.56, batch_size: 64, microbatch: 16}
  evaluation:
    every_kimg: 0.64
    features: {kind: pixels}
    rung: {images: 64, steps: 4}
    full: {images: 256, steps: 8, solver: {kind: dpm_adaptive, rtol: 0.1}}
seeds: 3
arms:
  plain: {}
  other: {diffusion.timesteps: {kind: uniform}}
axes:
  optimizer.lr: [1e-3, 2e-3]
compare: {metric: eval/fid, baseline: 'plain,lr=0.001', margin: 0.05}
resources: {cpus: 1, workers: 1}
"""
    digits = (ROOT / "experiments" / "presets" / "digits.yaml").read_text()
    indented = "".join(f"  {line}\n" for line in digits.splitlines())
    quickstart = (ROOT / "experiments" / "quickstart.yaml").read_text()
    smoke = (ROOT / "experiments" / "smoke.yaml").read_text()
    searched = toy.partition("compare:")[0] + (
        "search:\n  trials: 4\n  space: {optimizer.weight_decay: {log: [1e-5, 1e-2]}}\npolicy: {kind: halving}\n"
    )
    whole = (
        f"name: whole\nbase:\n{indented}seeds: {{first: 6, most: 12}}\nbudget: {{cpu_hours: 10}}\n"
    )
    return {"toy": toy, "searched": searched, "digits": whole, "quickstart": quickstart, "smoke": smoke}  # fmt: skip


def places(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a tree."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()  # fmt: skip
    for key, value in items:
        yield (*above, key)
        yield from places(value, (*above, key))


class Placeholder(str):
    """Text that is put into the document as it stands, not as a value."""


def _replaced(text: str, chance: random.Random, value: Any, *, rename: bool = False) -> str:
    """The document with a value (or the name of a key) at a random place replaced."""
    data = YAML(typ="safe", pure=True).load(text)
    where = chance.choice(list(places(data)))
    holder = data
    for key in where[:-1]:
        holder = holder[key]
    if rename and isinstance(holder, dict):
        holder[f"@{len(where)}@"] = holder.pop(where[-1])
    else:
        holder[where[-1]] = "@0@"
    written = io.StringIO()
    dumper = YAML(typ="safe", pure=True)
    dumper.default_flow_style = None
    dumper.width = 100_000
    dumper.dump(data, written)
    raw = written.getvalue()
    for mark in ("'@0@'", *(f"'@{n}@'" for n in range(1, 12)), "@0@"):
        raw = raw.replace(mark, str(value))
    return raw


def _odd_value(text: str, chance: random.Random) -> bytes:
    return _replaced(text, chance, chance.choice(ODD_VALUES)).encode("utf-8", "surrogatepass")


def _odd_key(text: str, chance: random.Random) -> bytes:
    names = (
        "''",
        "'a.b.c'",
        "'..'",
        "'0'",
        "1",
        "null",
        "'\\u0085'",
        '"\\e[2J"',
        "seed",
        "kind",
        "'a' 'a'",
    )
    key = chance.choice(names)
    return _replaced(text, chance, key, rename=True).encode()


def _without_a_line(text: str, chance: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return "".join(lines).encode()


def _line_twice(text: str, chance: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))
    return "".join(lines).encode()


def _cut(text: str, chance: random.Random) -> bytes:
    return text.encode()[: chance.randrange(len(text))]


def _bit_flips(text: str, chance: random.Random) -> bytes:
    content = bytearray(text.encode())
    for _ in range(chance.randint(1, 6)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def _nested(text: str, chance: random.Random) -> bytes:
    deep = chance.choice([20, 49, 60, 400, 5000])
    value = "[" * deep + "]" * deep if chance.random() < 0.5 else "{a: " * deep + "1" + "}" * deep
    return _replaced(text, chance, value).encode()


def _many(text: str, chance: random.Random) -> bytes:
    count = chance.choice([300, 2000, 30_000])
    value = chance.choice(
        [
            "[" + ", ".join(map(str, range(count))) + "]",
            "{" + ", ".join(f"k{n}: 1" for n in range(count)) + "}",
            "[&a {b: 1}, " + "*a, " * count + "1]",
        ]
    )
    return _replaced(text, chance, value).encode()


def _encoded(text: str, chance: random.Random) -> bytes:
    return text.replace("toy", "töy").encode(
        chance.choice(["utf-16", "utf-16-le", "utf-32", "cp037", "latin-1", "utf-8-sig"])
    )


MUTATIONS: tuple[Callable[[str, random.Random], bytes], ...] = (
    _odd_value, _odd_value, _odd_value, _odd_key, _without_a_line, _line_twice, _cut, _bit_flips, _nested, _many,
    _encoded,
)  # fmt: skip


def mutants(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """What was done, and the file that came of it."""
    chance = random.Random(seed)
    originals = texts()
    for _ in range(count):
        name, mutate = chance.choice(list(originals)), chance.choice(MUTATIONS)
        yield f"{mutate.__name__.strip('_')} of {name}", mutate(originals[name], chance)


class TooLong(BaseException):
    """A validation took longer than is promised."""


def _too_long(*_: object) -> None:
    raise TooLong


def outcome(file: Path) -> dict[str, Any]:
    """How `validate` ends: exit code, what it said, seconds; of one that is accepted its numbers by path."""
    from service.cli import invoke
    from service.experiment import Experiment

    said, begun = io.StringIO(), time.process_time()
    signal.alarm(6 * SECONDS)  # of a machine on which much else runs; what counts is measured
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code: int | str = invoke(["validate", str(file)])
    except BaseException as error:  # whatever is raised here is a traceback in a terminal
        code = f"{type(error).__name__}: {error}"[:300]
    signal.alarm(0)
    seconds = time.process_time() - begun
    told: dict[str, Any] = {"code": code, "said": said.getvalue()[:3000], "seconds": seconds}
    if code == 0:
        told["numbers"] = _numbers(Experiment.from_yaml(file).resolved())
    return told


def _numbers(resolved: dict[str, Any]) -> dict[str, float]:
    found = {}
    for where in places(resolved):
        value: Any = resolved
        for key in where:
            value = value[key]
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[".".join(map(str, where))] = value
    return found


def _most_memory() -> int:
    """Bytes that this process held at most; what getrusage says would count the one that started it, too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main(seed: int, count: int, folder: Path) -> None:
    """Validate so many, a line of JSON each; the last line is the memory that all took."""
    os.chdir(folder)
    shutil.copytree(ROOT / "experiments" / "presets", folder / "presets")
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    signal.signal(signal.SIGALRM, _too_long)
    for number, (what, content) in enumerate(mutants(seed, count)):
        file = folder / f"{number}.yaml"
        file.write_bytes(content)
        print(json.dumps({"what": what, "file": file.name, **outcome(file)}), flush=True)
    print(json.dumps({"memory": _most_memory()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

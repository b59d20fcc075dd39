"""Proves that README's commands work as they are written: in a fresh copy of the repository, at a reduced size.

Left to others: the cluster (`tests/service/test_submit.py`), `make test` (it is this), and what `make bench` printed.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.sweeps import free_port, wait_for

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SMALLER = {
    "experiments/quickstart.yaml": {
        "train.kimg: 19.2": "train.kimg: 1.28",
        "warmup_kimg: 6.4": "warmup_kimg: 0.64",
        "evaluation.full.images: 500": "evaluation.full.images: 64",
        "seeds: 6 ": "seeds: 2 ",
    },
    "experiments/presets/digits.yaml": {
        "channels: [24, 48]": "channels: [8, 16]",
        "kimg: 57.6": "kimg: 1.28",
        "warmup_kimg: 12.8": "warmup_kimg: 0.64",
        "images: 1000": "images: 64",
        "images: 200": "images: 32",
    },
    "README.md": {"\nseeds: {first: 6, most: 24}": "\nseeds: {first: 2, most: 3}"},
}
"""File to what is written there and what stands for it: fewer and smaller trainings, the same words."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(600),  # a block of commands trains dozens of small trials
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's own files, smaller where it says so, with this environment as its `.venv`."""
    folder = tmp_path_factory.mktemp("clone") / "diffsweep"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "runs", "*.egg-info", "tests")
    shutil.copytree(ROOT, folder, ignore=ignored)
    for name, changes in SMALLER.items():
        text = (folder / name).read_text()
        for written, smaller in changes.items():
            assert text.count(written) == 1, f"{name}: {written}"
            text = text.replace(written, smaller)
        (folder / name).write_text(text)
    environment = folder / ".venv"
    environment.mkdir()
    for part in Path(sys.prefix).iterdir():
        (environment / part.name).symlink_to(part)
    (environment / ".installed").unlink(missing_ok=True)
    (environment / ".installed").touch()
    return folder


def environment(clone: Path) -> dict[str, str]:
    """As in a shell that was just opened, with the copy in the place of what is installed."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("DIFFSWEEP_", "MLFLOW_", "RAY_"))
    }
    return {**kept, "PYTHONPATH": str(clone)}


def blocks(language: str = "") -> list[str]:
    """Fenced blocks of a language; those without one are commands."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def commands(beginning: str) -> list[str]:
    """The lines of the block that has a line which begins so, without comments."""
    (block,) = [b for b in blocks() if re.search(rf"^{re.escape(beginning)}", b, re.MULTILINE)]
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def typed(clone: Path, lines: list[str]) -> str:
    """What a shell prints for these lines, in which all of them succeed."""
    script = "\n".join(["set -e", "source .venv/bin/activate", *lines])
    ended = subprocess.run(
        ["bash", "-c", script], cwd=clone, env=environment(clone), capture_output=True, text=True,
        timeout=580, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"{lines}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def demo(clone: Path) -> Path:
    """After the first command of all."""
    first, second = commands("make demo")
    assert (first, second) == ("make demo", "make test")
    said = typed(clone, [first, "make --dry-run test"])
    assert "verdict: " in said
    assert (clone / "runs/experiments/quickstart/report.html").exists()
    return clone


@contextlib.contextmanager
def running(clone: Path, line: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on until it is ended."""
    process = subprocess.Popen(
        ["bash", "-c", f"source .venv/bin/activate; exec {line}"], cwd=clone, env=environment(clone),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: ours alone
        process.wait(10)


def answers(address: str, with_words: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return with_words in answer.read().decode()
    except OSError:
        return False


def test_make_demo_then_the_page_and_the_mlflow_ui(demo: Path) -> None:
    activate, watch, ui = commands("source .venv/bin/activate")
    assert activate == "source .venv/bin/activate"
    with running(demo, watch) as process:
        assert process.stdout is not None
        printed = next(line for line in process.stdout if "#token=" in line)
        address = re.search(r"http\S+/(?=#)", printed)
        assert address, printed
        assert answers(address[0], "quickstart")
    port = free_port()
    with running(demo, f"{ui} --port {port}"):
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/", "MLflow"), "the MLflow UI")


@pytest.mark.parametrize("place", [".", "elsewhere/deep"])
def test_my_own_question_is_asked_from_any_folder(demo: Path, place: str) -> None:
    folder = demo / place
    folder.mkdir(parents=True, exist_ok=True)
    smaller = (demo / "README.md").read_text()
    yaml = re.search(r"```yaml\n(name: .*?)```", smaller, re.DOTALL)
    assert yaml is not None
    (folder / "my.yaml").write_text(yaml[1])
    lines = [f"cd {folder}", *commands("diffsweep validate my.yaml")]
    verbs = [line.split()[1] for line in lines[1:]]
    assert verbs == ["validate", "plan", "run", "compare", "report", "show", "schema"]
    if place != ".":  # what is trained was trained
        lines = [lines[0], *(line for line in lines[1:] if line.split()[1] in ("validate", "show"))]
    said = typed(demo, lines)
    assert "my.yaml is valid" in said
    assert ("verdict: " in said) == (place == ".")


def test_models_are_sampled_evaluated_and_taken_along(demo: Path) -> None:
    lines = commands("diffsweep sample quickstart")
    assert {line.split()[1] for line in lines} == {"sample", "evaluate", "export", "import"}
    typed(demo, lines)
    assert (demo / "my-model" / "model_index.json").exists()
    python = next(block for block in blocks("python") if "Trained.load" in block)
    key = next((demo / "runs" / "trials").glob("*/result.json")).parent.name
    (demo / "mine.py").write_text(
        python.replace("runs/trials/KEY", f"runs/trials/{key}") + "print(images.shape)\n"
    )
    assert "torch.Size([16, 1, 8, 8])" in typed(demo, ["python mine.py"])


def test_one_trial_alone_needs_neither_ray_nor_mlflow(clone: Path) -> None:
    (line,) = re.findall(r"`(python -m trainer .*?)`", README)
    line = line.replace("train.kimg=20", "train.kimg=1.28")
    assert "eval/fid" in typed(clone, [line])

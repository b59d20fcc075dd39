"""The Tab key in three shells: files, presets, experiments, cells and jobs, by the scripts that the shells run."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SHELLS = ("bash", "zsh", "fish")


def completed(shell: str, line: str, **environment: str) -> tuple[list[str], str]:
    """What a shell would offer for the last word of a line; and the heavy packages that it took."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    code = (
        "import sys; from service.cli import main\n"
        "try: main()\n"
        "finally: print(*(m for m in ('torch', 'numpy', 'ray') if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ, **words, "_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "PYTHONPATH": str(Path(__file__).parents[2]), "_DIFFSWEEP_COMPLETE": f"complete_{shell}", **environment,
        },
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    text = done.stdout.removeprefix("_arguments '*: :((").removesuffix("))'\n")
    offered = [re.split(r'":"|\t', line.strip())[0].strip('"') for line in text.splitlines()]
    return [word for word in offered if word], done.stderr.strip()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("diffsweep valid", ["validate"]),
        ("diffsweep validate x", ["x.yaml"]),
        ("diffsweep show digi", ["digits"]),
        ("diffsweep import w.pt new --as edm_cif", ["edm_cifar10"]),
        ("diffsweep compare to", ["toy", "toy.yaml"]),
        ("diffsweep sample toy --cell un", ["under", "uniform"]),
    ],
)
def test_every_shell_is_offered_what_fits(
    folder: Path, shell: str, line: str, words: list[str]
) -> None:
    saved = folder / "runs" / "experiments" / "toy"
    saved.mkdir(parents=True, exist_ok=True)
    (saved / "experiment.json").write_text(json.dumps({"cells": {"uniform": {}, "under": {}}}))
    offered, heavy = completed(shell, line)
    assert sorted(offered) == words
    assert heavy == ""


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of something that answers as Ray's job server does."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            jobs = [{"submission_id": "diffsweep-toy-1"}, {"submission_id": None}]
            self.wfile.write(json.dumps(jobs if self.path == "/api/jobs/" else {}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_jobs_come_from_the_cluster_and_a_dead_one_offers_none(cluster: str) -> None:
    line = "diffsweep logs diff"
    assert completed("bash", line, RAY_API_SERVER_ADDRESS=cluster)[0] == ["diffsweep-toy-1"]
    assert completed("bash", line, RAY_API_SERVER_ADDRESS="127.0.0.1:9")[0] == []

"""A webhook and a command hear of failures, the end and the verdict; nothing fails with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service import launch, notify
from service.cli import invoke
from service.notify import Notifier
from service.outcome import Outcome
from service.progress import Event, TrialFailed
from service.settings import Settings
from service.settings import load as load_settings
from trainer.errors import InputError


class Hook(ThreadingHTTPServer):
    """What was posted to it; it answers `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.heard: list[dict[str, Any]] = []
        self.status = 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/s3cret"


class _Taking(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        assert self.path == "/hooks/s3cret"
        assert self.headers["Content-Type"] == "application/json"
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        yield hook
        hook.shutdown()


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings(home=tmp_path, tracking_uri=None, **given)


def test_a_failure_is_told_once_to_both_and_events_go_on(hook: Hook, tmp_path: Path) -> None:
    told = tmp_path / "told"
    known = settings(
        tmp_path,
        webhook=SecretStr(hook.address),
        notify_command=f'cat >> {told}; echo "|$1" >> {told}',
    )
    events: list[Event] = []
    notifier = Notifier("toy", known)
    take = notifier.listen(events.append)
    failed = TrialFailed("under", 3, "k", "diverged: the loss is nan")
    take(failed)
    take(failed)
    notifier.close()
    assert events == [failed, failed]
    assert hook.heard == [
        {
            "event": "failure",
            "experiment": "toy",
            "text": "toy: under seed 3: FAILED: diverged: the loss is nan",
            "cell": "under",
            "seed": 3,
            "reason": "diverged: the loss is nan",
        }
    ]
    body, _, line = told.read_text().partition("|")
    assert json.loads(body) == hook.heard[0]
    assert line == "toy: under seed 3: FAILED: diverged: the loss is nan\n"


def test_only_what_was_asked_for_is_told(hook: Hook, tmp_path: Path) -> None:
    known = settings(tmp_path, webhook=SecretStr(hook.address))
    notifier = Notifier("toy", known, ("end",))
    notifier.listen(lambda _event: None)(TrialFailed("a", 0, "k", "broke"))
    notifier.tell("verdict", "no")
    notifier.tell("end", "4 trials trained in 2 s")
    notifier.close()
    assert [one["event"] for one in hook.heard] == ["end"]
    nobody = Notifier("toy", settings(tmp_path))
    taken: list[Event] = []
    assert nobody.listen(taken.append) == taken.append


def test_one_that_does_not_answer_is_tried_again_and_its_address_is_never_said(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_PAUSE_S", 0.01)
    said: list[str] = []
    hook.status = 500
    known = settings(tmp_path, webhook=SecretStr(hook.address), notify_command="exit 7")
    notifier = Notifier("toy", known, say=said.append)
    notifier.tell("end", "done")
    notifier.close()
    assert len(hook.heard) == 3
    assert said == [
        "the webhook was not told: HTTP 500",
        "the notifying command was not told: it exits with 7",
    ]
    said.clear()
    hook.shutdown()
    hook.server_close()
    away = settings(tmp_path, webhook=SecretStr(hook.address))
    notifier = Notifier("toy", away, say=said.append)
    notifier.tell("end", "done")
    notifier.close()
    assert said == ["the webhook was not told: Connection refused"]
    assert "s3cret" not in repr(known.webhook) + str(known.model_dump_json())


def test_a_bad_address_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFSWEEP_WEBHOOK", "hooks.example/s3cret")
    with pytest.raises(InputError, match="DIFFSWEEP_WEBHOOK") as refusal:
        load_settings()
    assert "begins with http" in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.usefixtures("folder")
def test_run_tells_the_verdict_with_its_numbers(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFSWEEP_WEBHOOK", hook.address)
    monkeypatch.setattr(launch, "run", lambda *_: Outcome("toy", finished=4))
    monkeypatch.setattr("service.tracking.delivery.attach", lambda *_: 0)
    assert invoke(["run", "x.yaml"]) == 0
    assert "s3cret" not in "".join(capsys.readouterr())
    (verdict,) = hook.heard
    assert verdict["event"] == "verdict"
    assert verdict["text"].startswith("toy: ")
    assert [one["cell"] for one in verdict["verdicts"]["comparisons"]] == ["under"]
    assert invoke(["run", "x.yaml", "-o", "notify=[end]"]) == 0
    assert len(hook.heard) == 1

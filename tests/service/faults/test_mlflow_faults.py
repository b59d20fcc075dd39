"""What people do to MLflow meanwhile: delete, rename, move away, put a password before it."""

from __future__ import annotations

import base64
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pytest

from service.errors import ServiceError
from service.settings import Settings
from service.tracking.delivery import Delivery, sync
from service.tracking.readback import read_sweep
from service.tracking.server import check_reachable, ui_command, without_password
from service.tracking.uploader import Uploader
from tests.service.sweeps import MlflowServer, mlflow_server, wait_for
from tests.service.test_tracking import CELL, TRIALS, deliver, filled, history, runs

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return Settings(home=home, tracking_uri=None, tracking_patience_s=30)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def client(settings: Settings) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(settings.store_uri)


def run_of(settings: Settings, name: str, key: str) -> Any:
    return next(run for run in runs(settings, name) if run.data.tags["diffsweep.key"] == key)


def test_a_deleted_run_is_left_alone_and_all_else_arrives(settings: Settings, name: str) -> None:
    box = filled(settings, name)
    deliver(settings, name)
    gone = run_of(settings, name, TRIALS[0]).info.run_id
    client(settings).delete_run(gone)
    for run in TRIALS:
        box.metrics(run, [("eval/fid", 4000, 9000, 0.5)])
        box.status(run, "finished", 9500)
    assert sync(settings, name) == Delivery(name, 0, [], ["a seed 0"])
    other = run_of(settings, name, TRIALS[1]).info
    assert (other.status, len(history(settings, other.run_id, "eval/fid"))) == ("FINISHED", 4)
    assert len(runs(settings, name)) == 3, "nothing is made in its place"

    client(settings).restore_run(gone)
    deliver(settings, name)
    assert len(history(settings, gone, "eval/fid")) == 4, "what it missed was kept"


def test_a_run_that_is_deleted_while_it_is_written_is_left_alone(
    settings: Settings, name: str
) -> None:
    box, notes = filled(settings, name), list[str]()
    deliver(settings, name)
    uploader = Uploader(box, settings, name, notes.append, interval_s=0.05)
    uploader.start()
    client(settings).delete_run(run_of(settings, name, TRIALS[0]).info.run_id)
    for run in TRIALS:
        box.metrics(run, [("eval/fid", 4000, 9000, 0.5)])
    assert uploader.drain(60) == 0
    uploader.close()
    assert notes == ["the run a seed 0 was deleted in MLflow: it is left alone"]
    assert uploader.deleted == ["a seed 0"]
    assert box.problems() == [], "nothing of it counts as refused"


def test_an_experiment_that_is_renamed_stays_the_one(settings: Settings, name: str) -> None:
    box = filled(settings, name)
    deliver(settings, name)
    known = client(settings).get_experiment_by_name(name)
    assert known is not None
    client(settings).rename_experiment(known.experiment_id, f"{name} 2026")
    box.metrics(TRIALS[0], [("eval/fid", 4000, 9000, 0.5)])
    deliver(settings, name)
    assert client(settings).get_experiment_by_name(name) is None, "no second one is made"
    run_id = run_of(settings, f"{name} 2026", TRIALS[0]).info.run_id
    assert len(history(settings, run_id, "eval/fid")) == 4
    assert len(read_sweep(settings, name).trials) == 2, "and it is read under its new name"


def test_an_experiment_in_the_trash_is_told_of_and_comes_back_with_the_next_sync(
    settings: Settings, name: str
) -> None:
    box, notes = filled(settings, name), list[str]()
    deliver(settings, name)
    known = client(settings).get_experiment_by_name(name)
    assert known is not None
    uploader = Uploader(box, settings, name, notes.append, interval_s=0.05)
    uploader.start()
    box.tag(CELL, {"a": "1"})
    assert uploader.drain(60) == 0
    client(settings).delete_experiment(known.experiment_id)
    box.metrics(TRIALS[0], [("eval/fid", 4000, 9000, 0.5)])
    wait_for(lambda: not uploader.left(), "the delivery", 60)
    uploader.close()
    assert client(settings).get_experiment(known.experiment_id).lifecycle_stage == "active"
    run_id = run_of(settings, name, TRIALS[0]).info.run_id
    assert len(history(settings, run_id, "eval/fid")) == 4
    assert uploader.deleted == []


def test_another_store_gets_everything(settings: Settings, name: str, tmp_path: Path) -> None:
    filled(settings, name)
    deliver(settings, name)
    other = settings.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/new.db"})
    deliver(other, name)
    assert len(runs(other, name)) == 4
    one = run_of(other, name, TRIALS[0])
    assert len(history(other, one.info.run_id, "eval/fid")) == 3


AWAY_S = 120.0


class Counting(Uploader):
    """Knows how often it asked."""

    asked = 0

    def deliver(self) -> None:
        self.asked += 1
        super().deliver()


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_server_that_is_away_for_two_minutes_misses_nothing_and_gets_nothing_twice(
    tmp_path: Path,
) -> None:
    """The process is killed and another one takes its port; trials report all the while, and nobody is woken."""
    with mlflow_server(tmp_path / "mlflow") as server:
        settings = Settings(home=tmp_path, tracking_uri=server.uri, tracking_patience_s=30)
        box, notes, steps = filled(settings, "x"), list[str](), iter(range(10_000, 10**9, 1000))
        uploader = Counting(box, settings, "x", notes.append)
        uploader.start()
        assert uploader.drain(60) == 0
        server.kill()
        gone, before, slowest, told = time.monotonic(), uploader.asked, 0.0, 3

        def is_over() -> bool:
            """Both trials report once more."""
            nonlocal slowest, told
            step, begun = next(steps), time.monotonic()
            for run in TRIALS:
                box.metrics(run, [(name, step, step, 0.5) for name in ("eval/fid", "rung/fid")])
            slowest, told = max(slowest, time.monotonic() - begun), told + 1
            return time.monotonic() - gone >= AWAY_S

        wait_for(is_over, "the outage to have lasted", 2 * AWAY_S)
        asked = uploader.asked - before
        assert slowest < 5.0, "storing a report waits for no server"
        assert 4 <= asked <= 12, "it is asked after, and ever more seldom"
        assert len(notes) == 1
        server.start()
        wait_for(lambda: uploader.left() == 0, "the delivery", 120)
        wait_for(lambda: len(notes) == 2, "the word that it answers", 30)
        uploader.close()
        assert [note.split(":")[0] for note in notes] == [
            "MLflow does not answer",
            "MLflow answers again",
        ]
        assert box.problems() == []
        found = {run.data.tags["diffsweep.key"]: run for run in runs(settings, "x")}
        assert len(found) == len(runs(settings, "x")) == 4
        for key in TRIALS:
            for metric in ("eval/fid", "rung/fid"):
                points = history(settings, found[key].info.run_id, metric)
                assert len({step for step, _, _ in points}) == len(points) == told


# --- before the server ---------------------------------------------------------------


class Gate(ThreadingHTTPServer):
    """Lets nobody through to a tracking server who does not say the password; below a prefix of its own."""

    def __init__(self, target: str, prefix: str = "") -> None:
        self.target, self.prefix = target, prefix
        self.allowed = {"Basic " + base64.b64encode(b"ann:s3cret").decode(), "Bearer token"}
        super().__init__(("127.0.0.1", 0), _Visitor)


class _Visitor(BaseHTTPRequestHandler):
    server: Gate

    def _serve(self) -> None:
        import urllib.error
        import urllib.request

        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        prefix = self.server.prefix
        if self.headers.get("Authorization") not in self.server.allowed:
            return self._answer(401, b"who are you?")
        if not self.path.startswith(prefix + "/"):
            return self._answer(404, b"nothing here")
        asked = urllib.request.Request(
            self.server.target + self.path.removeprefix(prefix), body or None, method=self.command,
            headers={"Content-Type": self.headers.get("Content-Type") or "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                self._answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.read())

    do_GET = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def gate(server: MlflowServer) -> Iterator[Gate]:
    with Gate(server.uri, "/mlflow") as gate:
        threading.Thread(target=gate.serve_forever, daemon=True).start()
        yield gate
        gate.shutdown()


VARIABLES = (
    "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_INSECURE_TLS",
)  # fmt: skip


@pytest.mark.parametrize(
    "known",
    [
        {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "s3cret"},
        {"MLFLOW_TRACKING_TOKEN": "token"},
    ],
)
def test_a_server_behind_a_password_and_a_prefix_takes_what_is_delivered(
    settings: Settings, gate: Gate, known: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "behind-" + "-".join(known)[-5:].lower()
    uri = f"http://127.0.0.1:{gate.server_port}/mlflow"
    away = settings.model_copy(update={"tracking_uri": uri})
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ServiceError, match="401") as refusal:
        check_reachable(away)
    assert "MLFLOW_TRACKING_USERNAME" in refusal.value.fix
    for variable, value in known.items():
        monkeypatch.setenv(variable, value)
    check_reachable(away)
    filled(away, name).close()
    deliver(away, name)
    assert len(runs(away, name)) == 4


def test_a_certificate_of_ones_own_is_believed_where_mlflow_is_told_of_it(
    settings: Settings, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-out", certificate, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    with Gate(server.uri) as gate:
        gate.allowed.add(None)  # type: ignore[arg-type]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        gate.socket = context.wrap_socket(gate.socket, server_side=True)
        threading.Thread(target=gate.serve_forever, daemon=True).start()
        uri = f"https://127.0.0.1:{gate.server_port}"
        away = settings.model_copy(update={"tracking_uri": uri})
        with pytest.raises(ServiceError, match="certificate") as refusal:
            check_reachable(away)
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in refusal.value.fix
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        check_reachable(away)
        gate.shutdown()


def test_a_password_in_an_address_is_printed_nowhere(settings: Settings) -> None:
    uri = "http://ann:s3cret@127.0.0.1:9"
    away = settings.model_copy(update={"tracking_uri": uri})
    assert "s3cret" not in ui_command(away)
    with pytest.raises(ServiceError) as refusal:
        check_reachable(away, timeout_s=0.5)
    assert "s3cret" not in str(refusal.value) + refusal.value.fix
    assert "127.0.0.1:9" in str(refusal.value)
    with pytest.raises(ServiceError) as refusal:
        read_sweep(away, "any")
    assert "s3cret" not in str(refusal.value) + refusal.value.fix
    database = settings.model_copy(update={"tracking_uri": "postgresql://ann:s3cret@db/mlflow"})
    assert ui_command(database).endswith('--backend-store-uri "$MLFLOW_TRACKING_URI"')
    assert without_password("see a@b.c at http://x/y@z") == "see a@b.c at http://x/y@z"

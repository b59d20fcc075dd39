"""The home lies in an S3 store: everything else may be lost, the store may be slow, cut, shut, or refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import launch, results
from service.cli import invoke
from service.commands.common import find
from service.errors import ServiceError
from service.experiment import Experiment
from service.experiment.saved import save
from service.models import find_model
from service.remote.courier import Courier
from service.remote.home import RemoteHome, publish
from service.remote.learned import pull_learned, push_learned
from service.remote.lease import Lease
from service.remote.store import Store, StoreError
from service.remote.trial import TrialMirror
from service.settings import load
from tests.conftest import toy_trial
from tests.service.driver import Driver, gone
from tests.service.store_server import BUCKET, USER, StoreServer, Way, store_server, variables
from tests.service.sweeps import final_metrics, sweep, wait_for, write
from trainer.files import keep, kept
from trainer.loop import train
from trainer.record import Record
from trainer.trial import TrialSpec

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("way")]
Numbers = dict[str, dict[str, float]]
"""By key of a trial, what it ends with."""
URI = f"s3://{BUCKET}/team one"
LONG = {"train.kimg": 192.0, "evaluation.evaluations": 24}
"""Some seconds of training, so that it can be met in the middle."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    with store_server(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def way(server: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """This process's way to the store, in which every test has a folder of its own; scratch is below `tmp_path`."""
    proxy = Way(server.port)
    for name, value in variables(proxy.address).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DIFFSWEEP_SCRATCH", str(tmp_path / "scratch"))
    for name in ("DIFFSWEEP_HOME", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    yield proxy
    proxy.close()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"{URI}/{tmp_path.name}"


def spec(toy: dict[str, Any], **changes: Any) -> TrialSpec:
    return TrialSpec.model_validate({**toy, **changes})


def trained(trial: TrialSpec, directory: Path, until: int | None = None) -> Record:
    cache = directory.parent / "cache"
    list(train(trial, directory, cache=cache, device="cpu", until_images=until))
    return Record(directory)


def mirror(uri: str, directory: Path) -> TrialMirror:
    return TrialMirror(Store(uri), Record(directory), "k")


def numbers(record: Record) -> dict[str, float]:
    result = record.result()
    assert result is not None
    return {n: v for n, v in result.metrics.items() if not n.startswith("sys/")}


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_what_one_machine_trained_half_another_ends_to_the_same_bits(
    toy: dict[str, Any], uri: str, tmp_path: Path, kind: str
) -> None:
    trial = spec(toy)
    if kind == "file":
        uri = f"file://{tmp_path}/a store"
    half = trained(trial, tmp_path / "a" / "k", until=1000)
    mirror(uri, half.directory).push()
    other = Record(tmp_path / "b" / "k")
    assert mirror(uri, other.directory).pull(states=True) is None
    assert other.images() == half.images() > 0
    assert other.reports() == half.reports()
    trained(trial, other.directory)
    mirror(uri, other.directory).push()
    whole = trained(trial, tmp_path / "c" / "k")
    assert numbers(other) == numbers(whole)

    third = Record(tmp_path / "d" / "k")  # and a third one finds all of it
    mirror(uri, third.directory).pull(states=True)
    assert third.result() == other.result()
    assert third.images() == other.images()
    assert all(third.sample(one) == other.sample(one) is not None for one in third.reports())


def test_a_newer_trial_in_the_store_is_never_replaced_by_an_older_one(
    toy: dict[str, Any], uri: str, server: StoreServer, tmp_path: Path
) -> None:
    trial = spec(toy)
    old = trained(trial, tmp_path / "a" / "k", until=1000)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    new = trained(trial, tmp_path / "b" / "k")
    mirror(uri, new.directory).push()
    prefix = f"{uri.removeprefix(f's3://{BUCKET}/')}/trials/k/"
    before = {name: server.content(name) for name in server.names(prefix)}
    mirror(uri, old.directory).push()
    assert {name: server.content(name) for name in server.names(prefix)} == before


@pytest.mark.parametrize("part", ["state.pt", "manifest.json"])
def test_an_upload_that_is_cut_in_the_middle_leaves_no_half_checkpoint(
    toy: dict[str, Any], way: Way, uri: str, tmp_path: Path, part: str
) -> None:
    trial = spec(toy | {"model": {"kind": "mlp", "width": 256, "depth": 3}})
    record = trained(trial, tmp_path / "a" / "k", until=600)
    first = mirror(uri, record.directory)
    first.push()
    kept = record.images()
    trained(trial, record.directory, until=1200)
    state = next(record.directory.glob(f"checkpoint-*{record.images()}")) / "state.pt"
    assert state.stat().st_size > 500_000
    way.cut_after = 100_000
    if part == "manifest.json":
        way.cut_after = None
        first.store.send(
            f"trials/k/{state.parent.name}/state.pt", state
        )  # the process died between the two
    else:
        with pytest.raises(StoreError, match="does not answer"):
            first.push()
        assert way.cuts > 0
    way.cut_after = None
    other = Record(tmp_path / "b" / "k")
    mirror(uri, other.directory).pull(states=True)
    assert other.images() == kept, "the one before is still there, and whole"
    first.push()
    mirror(uri, other.directory).pull(states=True)
    assert other.images() == record.images() > kept
    states = [name for name in Store(uri).files("trials/k") if name.endswith("state.pt")]
    assert len(states) == 1, "older ones went"


def test_a_state_that_does_not_fit_its_manifest_is_passed_over(
    toy: dict[str, Any], uri: str, tmp_path: Path
) -> None:
    record = trained(spec(toy), tmp_path / "a" / "k", until=1000)
    mirror(uri, record.directory).push()
    name = f"trials/k/checkpoint-{record.images():012d}/state.pt"
    content = bytearray(Store(uri).read(name) or b"")
    content[len(content) // 2] ^= 1
    Store(uri).write(name, bytes(content))
    other = Record(tmp_path / "b" / "k")
    mirror(uri, other.directory).pull(states=True)
    assert other.images() == 0
    assert not list(other.directory.glob(".partial*"))
    assert other.reports() == record.reports()


def test_what_is_damaged_in_the_store_is_set_aside_there(
    toy: dict[str, Any], uri: str, tmp_path: Path
) -> None:
    settings = load(home=uri)
    record = trained(spec(toy), tmp_path / "a" / "k")
    mirror(uri, record.directory).push()
    store = Store(uri)
    lines = (store.read("trials/k/reports.jsonl") or b"").replace(b'"images"', b'"imagos"', 1)
    store.write("trials/k/reports.jsonl", lines)
    said = RemoteHome(settings).pull_trials(["k"])
    assert len(said) == 1
    words = "is damaged: the trial is trained again; what is left of it is in "
    assert words in said[0]
    assert not settings.trial("k").exists()
    assert store.files("trials/k") == {}
    assert store.files(f"trials/{said[0].rpartition(words)[2]}").keys() >= {
        "reports.jsonl",
        "result.json",
    }


def test_what_is_removed_is_gone_from_the_store_too(
    toy: dict[str, Any], uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also trials of which this machine has nothing; what another experiment names stays."""
    settings, experiment, part = load(home=uri), sweep(toy), sweep(toy, name="part", seeds=1)
    store = Store(uri)
    for one in (experiment, part):
        save(one, settings.experiment(one.name))
        assert publish(settings, one.name) is None
    for trial in experiment.trials:
        store.write(f"trials/{trial.key}/result.json", b"{}")
    settings.trial(experiment.trials[0].key).mkdir(parents=True)
    assert invoke(["rm", "toy", "--yes", "--home", uri]) == 0, capsys.readouterr().err
    assert store.folders("experiments") == ["part"]
    assert set(store.folders("trials")) == {trial.key for trial in part.trials}
    assert not settings.experiment("toy").exists()


def test_what_measures_is_learned_once_for_all_machines(uri: str, tmp_path: Path) -> None:
    store, here, there = Store(uri), tmp_path / "here", tmp_path / "there"
    keep(here / "classifier-a-b.pt", b"weights")
    keep(here / "pictures-a.npy", b"pixels")
    push_learned(store, here)
    keep(there / "classifier-a-b.pt", b"others, learned at the same time")
    push_learned(store, there)
    pull_learned(store, there)
    assert kept(there / "classifier-a-b.pt") == b"weights"
    assert store.files("cache").keys() == {"classifier-a-b.pt", "classifier-a-b.pt.sha256"}
    store.write("cache/classifier-a-b.pt", b"weighte")
    pull_learned(store, tmp_path / "third")
    assert kept(tmp_path / "third" / "classifier-a-b.pt") is None, "damaged there"


# --- the store does not do what it should ----------------------------------------------


def test_training_never_waits_and_the_end_brings_everything(
    toy: dict[str, Any], way: Way, uri: str, tmp_path: Path
) -> None:
    """Shut while a trial trains, and open again before its end is over; told twice."""
    record = Record(tmp_path / "a" / "k")
    heard: list[bool] = []
    way.is_shut = True
    sent = mirror(uri, record.directory)
    with Courier(sent.push, lambda problem: heard.append(problem is None)) as courier:
        for _ in train(spec(toy), record.directory, cache=tmp_path / "cache", device="cpu"):
            courier.wake()
        assert record.result() is not None, "it is trained, whatever the store does"
        wait_for(lambda: heard == [False], "the courier to be turned away", 30)
        assert not courier.finish(0.1)
        way.is_shut = False
        assert courier.finish(60)
    assert heard == [False, True]
    other = Record(tmp_path / "b" / "k")
    mirror(uri, other.directory).pull(states=True)
    assert other.result() == record.result()


def test_a_slow_store_gets_the_newest_state(
    toy: dict[str, Any], way: Way, uri: str, tmp_path: Path
) -> None:
    trial = spec(toy | {"model": {"kind": "mlp", "width": 128, "depth": 2}})
    record = Record(tmp_path / "a" / "k")
    way.bytes_per_s = 400_000.0
    sent = mirror(uri, record.directory)
    with Courier(sent.push) as courier:
        for _ in train(trial, record.directory, cache=tmp_path / "cache", device="cpu"):
            courier.wake()
        assert courier.finish(60)
    states = [name for name in Store(uri).files("trials/k") if name.endswith("state.pt")]
    assert states == [f"checkpoint-{record.images():012d}/state.pt"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("refused", "does not answer at http://127.0.0.1:1 (NETWORK_CONNECTION)"),
        ("bucket", "there is no such bucket"),
        ("unknown", "refuses the credentials (INVALID_ACCESS_KEY_ID)"),
        ("wrong", "refuses the credentials (SIGNATURE_DOES_NOT_MATCH)"),
    ],
)
def test_a_store_that_cannot_be_used_ends_a_command_with_one_message_before_anything_runs(
    toy: dict[str, Any],
    tmp_path: Path,
    fault: str,
    said: str,
) -> None:
    yaml = write(sweep(toy, launcher="inproc"), tmp_path)
    with store_server(tmp_path) as own:
        key = own.key_of_a_user() if fault in ("unknown", "wrong") else ("anybody", "at all")
        key = {"unknown": ("AKIANOBODY", "s3cr3t-word"), "wrong": (key[0], "s3cr3t-word")}.get(
            fault, key
        )
        address = "http://127.0.0.1:1" if fault == "refused" else own.address
        bucket = "nobodys" if fault == "bucket" else BUCKET
        env = {**os.environ, **variables(address, key), "DIFFSWEEP_SCRATCH": str(tmp_path / "s")}
        for command in (["run", str(yaml)], ["compare", str(yaml)]):
            words = [*command, "--home", f"s3://{bucket}/here"]
            done = subprocess.run(
                [sys.executable, "-m", "service", *words],
                capture_output=True, text=True, timeout=120, check=False, env=env,
            )  # fmt: skip
            told = done.stdout + done.stderr
            assert done.returncode == 3, told
            assert f"s3://{bucket}/here" in told
            assert said in told
            assert told.count("to fix it: ") == 1
            assert "Traceback" not in told
            assert "s3cr3t-word" not in told
            assert len(told.strip().splitlines()) == 2


@pytest.mark.parametrize(
    "home",
    [
        "s3://AKIA123:s3cr3t-word@lab/x",
        "s3://lab/x?secret_key=s3cr3t-word",
        "s3://lab/x?access_key=AKIA123&secret_key=s3cr3t-word",
    ],
)
def test_credentials_in_the_uri_are_refused_and_not_repeated(tmp_path: Path, home: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", "doctor"],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "DIFFSWEEP_HOME": home, "HOME": str(tmp_path)},
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 2, told
    assert "credentials come from the environment alone" in told
    assert "s3cr3t-word" not in told
    assert "AKIA123" not in told


# --- who runs it -----------------------------------------------------------------------


def test_a_lease_is_held_while_it_is_fresh_and_taken_over_when_it_is_not(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(uri)
    mine = Lease(store, "toy", tmp_path / "here", "process 1 on here")
    assert mine.take() is None
    other = Lease(store, "toy", tmp_path / "there", "process 2 on there")
    refused = other.take()
    assert refused is not None
    assert refused.who == "process 1 on here"
    again = Lease(store, "toy", tmp_path / "here", "process 3 on here")
    assert again.take() is None, (
        "who holds the lock of the same folder knows that the first is gone"
    )
    monkeypatch.setattr("service.remote.lease.FRESH_S", 0.0)
    assert other.take() is None, "by the store's clock it is old"
    monkeypatch.setattr("service.remote.lease.RENEWED_S", 0.0)
    lost: list[str] = []
    again.renew(lambda holder: lost.append(holder.who))
    assert lost == ["process 2 on there"]
    other.give_back()
    assert "experiments/toy" not in store.files("experiments")
    assert store.files("experiments/toy") == {}


# --- whole sweeps ----------------------------------------------------------------------


def stored_metrics(uri: str) -> Numbers:
    """As `final_metrics`, of what is in the store."""
    store, found = Store(uri), {}
    for name in store.files("trials"):
        key, _, file = name.partition("/")
        if file == "result.json":
            metrics = json.loads(store.read(f"trials/{name}") or b"")["metrics"]
            found[key] = {n: v for n, v in metrics.items() if not n.startswith("sys/")}
    return found


@pytest.fixture(scope="module")
def long() -> Experiment:
    """Two trials that are met in the middle."""
    return sweep(toy_trial(), set=LONG, seeds=1, launcher="inproc")


@pytest.fixture(scope="module")
def alone(long: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    """What the same trials end with in a plain folder, without Ray."""
    folder = tmp_path_factory.mktemp("alone")
    for trial in long.trials:
        trained(trial.spec, folder / "trials" / trial.key)
    return final_metrics(folder)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute on a quiet machine
def test_a_driver_is_killed_and_its_disk_is_lost_and_the_store_alone_continues_to_the_same_bits(
    long: Experiment, alone: Numbers, uri: str, tmp_path: Path, drivers: list[Driver]
) -> None:
    yaml = write(long, tmp_path)
    scratch = tmp_path / "scratch"
    drivers.append(Driver(uri, yaml))
    drivers[0].until("16 of 192 kimg")
    store = Store(uri)
    wait_for(
        lambda: [n for n in store.files("trials") if n.endswith("manifest.json")],
        "a checkpoint in the store",
        60,
    )
    family = drivers[0].family()
    os.kill(drivers[0].process.pid, signal.SIGKILL)
    wait_for(lambda: gone(family), "every process of the killed driver to end", 30)
    with pytest.MonkeyPatch.context() as there:  # another machine knows the lease alone
        there.setenv("DIFFSWEEP_SCRATCH", str(tmp_path / "another machine"))
        with pytest.raises(ServiceError, match=r"toy is being run by process \d+ on .*, since 2"):
            launch.run(long, load(home=uri))
    shutil.rmtree(scratch)

    drivers.append(Driver(uri, yaml))
    outcome = drivers[1].end()
    assert outcome["finished"] + outcome["skipped"] == 2
    assert any("continues at" in line for line in drivers[1].lines), drivers[1].lines
    assert stored_metrics(uri) == alone
    assert store.files("experiments/toy").keys() == {"experiment.json"}, "the lease was given back"

    shutil.rmtree(scratch)  # and a third machine reads all of it
    settings = load(home=uri)
    found = find("toy", None, settings)
    assert set(results.collect(found, settings).trials["status"]) == {"finished"}
    assert find_model("toy", settings, "under").record.images() == 192_000


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute on a quiet machine
@pytest.mark.parametrize("fault", ["shut", "expired"])
def test_a_store_that_goes_away_in_the_middle_costs_nothing_and_is_told_once(
    long: Experiment, alone: Numbers, uri: str, way: Way, tmp_path: Path, fault: str
) -> None:
    yaml, log = write(long, tmp_path), tmp_path / "log"
    with store_server(tmp_path) as own:
        way.to = own.port
        key = own.key_of_a_user() if fault == "expired" else ("anybody", "at all")
        env = {**os.environ, **variables(way.address, key), "DIFFSWEEP_STORE_PATIENCE_S": "3"}
        command = [sys.executable, "-m", "service"]
        with open(log, "wb") as out:
            run = subprocess.Popen(
                [*command, "run", str(yaml), "--home", uri], stdout=out, stderr=out, env=env
            )
        try:
            wait_for(lambda: "16 of 192 kimg" in log.read_text(), "some training", 100)
            own.asks_who_comes(False)
            if fault == "shut":
                way.is_shut = True
            else:
                own.client("iam").delete_access_key(UserName=USER, AccessKeyId=key[0])
                own.asks_who_comes(True)
            assert run.wait(100) == 0, log.read_text()
        finally:
            run.kill()
        said = log.read_text()
        why = "does not answer" if fault == "shut" else "refuses the credentials"
        assert said.count("training goes on") == 1, said
        assert why in said
        assert "1 experiment and 2 trials wait: s3://" in said
        assert f"sync --home '{uri}'` delivers them" in said
        assert "Traceback" not in said
        assert key[1] not in said or fault == "shut"

        way.is_shut = False
        own.asks_who_comes(False)
        renewed = {**env, **variables(way.address)}
        done = subprocess.run(
            [*command, "sync", "--home", uri],
            capture_output=True, text=True, timeout=100, check=False, env=renewed,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{uri}: all delivered" in done.stdout
        assert stored_metrics(uri) == alone
        assert "report.html" in Store(uri).files("experiments/toy")

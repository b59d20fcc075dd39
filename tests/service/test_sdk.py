"""The Python way in, on this machine: submit, wait, results; a single trial; stop and continue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from dashboards.tables import CURVE_COLUMNS, TRIAL_COLUMNS
from dashboards.verdict.comparable import IncomparableError
from dashboards.verdict.sentences import headline
from service import Client, Experiment, TrialSpec
from service.errors import ServiceError
from service.experiment.saved import save
from service.job import Job
from service.job_kinds import ClusterJob, RecordedJob
from service.job_progress import JobProgress
from service.results import collect
from service.settings import Settings
from service.staging import check_sendable
from tests.service.sweeps import ROOT, free_port, sweep, wait_for
from trainer.errors import InputError
from trainer.files import FileLock
from trainer.loop import train
from trainer.pulse import FILE, Heart
from trainer.record import Record
from trainer.report import Failure, Status


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A run ends when all of it is in MLflow, however busy the machine is."""
    home = tmp_path / "home"
    return Settings(home=home, tracking_uri=None, ray_address=None, tracking_patience_s=120)


@pytest.mark.ray
@pytest.mark.slow
def test_submit_wait_and_read_the_results_as_a_table(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = sweep(toy, launcher="inproc")
    job = Client(settings=settings).submit(experiment)
    assert job.status() == "RUNNING"
    assert job.wait(timeout=120) == "SUCCEEDED"
    table = job.results()
    assert list(table["cell"]) == ["uniform", "uniform", "under", "under"]
    assert list(table["seed"]) == [0, 1, 0, 1]
    assert set(table["status"]) == {"finished"}
    assert (table["kimg"] == 2.56).all()
    assert table["eval/fid"].notna().all()
    assert table["eval/fid"].nunique() == 4
    assert set(table["trial_key"]) == {trial.key for trial in experiment.trials}
    curves = job.curves()
    assert len(curves[curves["metric"] == "rung/fid"]) == 16
    assert "under seed 1: finished" in job.logs()


@pytest.mark.ray
@pytest.mark.slow
def test_a_single_trial_is_launched_and_a_stopped_one_continues(
    toy: dict[str, Any], settings: Settings
) -> None:
    trial = TrialSpec.model_validate({**toy, "train": {"kimg": 256.0, "batch_size": 64}, "seed": 7})
    client = Client(settings=settings)
    job = client.launch(trial, name="single")
    with pytest.raises(TimeoutError, match="single is still RUNNING"):
        job.wait(timeout=0)
    wait_for(
        lambda: "64 of 256 kimg" in job.logs() or job.status() != "RUNNING", "the first report"
    )
    job.stop()
    assert job.status() == "STOPPED"
    assert list(job.results()["status"]) == ["stopped"]

    again = client.launch(trial, name="single")
    assert again.wait(timeout=120) == "SUCCEEDED"
    assert "continues at" in again.logs()
    table = again.results()
    assert (len(table), table["seed"][0], table["status"][0]) == (1, 7, "finished")
    assert table["trial_key"][0] == trial.key(trial.data.fingerprint(Path()))


def test_a_client_plans_what_it_would_submit(folder: Path, settings: Settings) -> None:
    here = settings.model_copy(update={"home": folder / "runs"})
    client = Client(settings=here)
    done = client.plan(folder / "x.yaml")
    assert (done.done, done.wall_s, done.basis) == (4, 0.0, "everything is done")
    more = Experiment.from_yaml(folder / "x.yaml", ["seeds=3"], home=here.home)
    left = client.plan(more, budget="0.01cpuh", at_once=1)
    assert (left.done, left.at_once) == (4, 1)
    assert left.cpu_hours > 0
    assert left.proposals is not None
    assert left.proposals.rows[0].seeds > 3
    with pytest.raises(InputError, match="is no budget"):
        client.plan(more, budget="much")


def test_a_job_is_judged_and_reported(folder: Path, settings: Settings) -> None:
    """Everything is trained already, so that nothing starts Ray; MLflow is not asked."""
    here = settings.model_copy(update={"home": folder / "runs"})
    job = Client(settings=here).submit(folder / "x.yaml")
    assert job.wait(timeout=120) == "SUCCEEDED"
    verdicts = job.verdict()
    assert (verdicts.metric, verdicts.baseline) == ("eval/fid", "uniform")
    (comparison,) = verdicts.comparisons
    assert comparison.cell == "under"
    assert comparison.final is not None
    assert comparison.final.seeds == (0, 1)
    table = job.results().set_index(["cell", "seed"])["eval/fid"]
    assert list(comparison.final.cell_values) == table["under"].tolist()
    assert "FID (pixels) against `uniform` is" in headline(verdicts)
    assert job.verdict(baseline="under", metric="rung/fid").baseline == "under"
    with pytest.raises(IncomparableError, match="'nobody' is no cell"):
        job.verdict(baseline="nobody")

    page = job.report()
    assert page == here.experiment("toy") / "report.html"
    assert "diffsweep run" in page.read_text()
    assert job.report(folder / "mine" / "page.html") == folder / "mine" / "page.html"
    assert (folder / "mine" / "page.html").is_file()


def test_results_and_directories_make_the_same_table(folder: Path, settings: Settings) -> None:
    here = settings.model_copy(update={"home": folder / "runs"})
    job = Client(settings=here).submit(folder / "x.yaml")
    assert job.wait(timeout=120) == "SUCCEEDED"
    directories = collect(job.experiment, here)
    ours, read = Job.results(job), directories.trials  # as MLflow knows them
    pd.testing.assert_frame_equal(job.results(), ours, check_like=True, check_dtype=False)
    assert ours["run_id"].nunique() == 4
    assert list(ours.columns[: len(TRIAL_COLUMNS)]) == list(TRIAL_COLUMNS)
    assert set(ours.columns) - set(read.columns) == set(DIFFER)
    ours = ours.drop(columns=list(DIFFER))
    both = (t.set_index("trial_key").sort_index().drop(columns="run_id") for t in (ours, read))
    pd.testing.assert_frame_equal(*both, check_like=True, check_dtype=False)

    trial = here.trial(directories.trials["trial_key"].iloc[0])
    (trial / "result.json").unlink()
    assert job.results()["status"].tolist() == ["stopped", *["finished"] * 3]
    Heart(trial, total=2560).beat(1280, [])
    assert job.results()["status"].tolist() == ["running", *["finished"] * 3]
    told = json.loads((trial / FILE).read_text())
    (trial / FILE).write_text(json.dumps(told | {"processes": "another machine", "measures": True}))
    assert job.results()["status"].tolist() == ["stopped", *["finished"] * 3], "it left a pulse"

    place = ["trial_key", "metric", "images"]
    curves = [c.sort_values(place, ignore_index=True) for c in (Job.curves(job), job.curves())]
    assert list(curves[0].columns) == list(CURVE_COLUMNS)
    pd.testing.assert_frame_equal(*curves)
    assert curves[0]["protocol"].nunique() == 2


DIFFER = {
    "diffusion.timesteps.kind": {"uniform": "uniform", "under": "p2"},
    "diffusion.timesteps.gamma": {"under": 0.5},
    "diffusion.timesteps.k": {"under": 1.0},
    "diffusion.timesteps.uniform_mix": {"under": 0.0},
}


def test_results_have_a_column_for_each_value_in_which_cells_differ(
    folder: Path, settings: Settings
) -> None:
    here = settings.model_copy(update={"home": folder / "runs"})
    Client(settings=here).submit(folder / "x.yaml").wait(timeout=120, show=False)
    table = Client(settings=here).job("toy").results()
    assert {name for name in table.columns if "." in name and "/" not in name} == set(DIFFER)
    for path, values in DIFFER.items():
        for cell, column in table.groupby("cell")[path]:
            assert column.dropna().unique().tolist() == ([values[cell]] if cell in values else [])
    assert list(table.columns[: len(TRIAL_COLUMNS)]) == list(TRIAL_COLUMNS)
    assert table.columns[-1].startswith(("eval/", "rung/"))


def test_a_job_is_taken_up_again_from_its_records(folder: Path, settings: Settings) -> None:
    """By another process, without the YAML, the tracking server or Ray."""
    here = settings.model_copy(update={"home": folder / "runs"})
    client = Client(settings=here)
    assert client.jobs() == []
    with pytest.raises(ServiceError, match="has no experiment toy"):
        client.job("toy")
    first = client.submit(folder / "x.yaml")
    first.wait(timeout=120, show=False)
    (folder / "x.yaml").unlink()
    (again,) = client.jobs()
    assert isinstance(again, RecordedJob)
    assert (again.id, again.status(), again.wait(show=False)) == ("toy", "SUCCEEDED", "SUCCEEDED")
    assert again.progress() == JobProgress("toy", 4, 0, 0, 4)
    assert again.logs() == "toy: 4 of 4 trials done"
    assert again.verdict() == first.verdict()
    pd.testing.assert_frame_equal(
        again.results().drop(columns="run_id"),
        first.results().drop(columns="run_id"),
        check_dtype=False,
    )
    again.stop()
    known = Experiment("toy", home=here.home)
    assert [trial.key for trial in known.trials] == [trial.key for trial in again.experiment.trials]
    with pytest.raises(InputError, match=r"toi: is no experiment in .*did you mean `toy`"):
        Experiment("toi", home=here.home)
    with pytest.raises(ServiceError, match="hold no YAML to send"):
        check_sendable(known)

    trial = known.trials[0]
    (here.trial(trial.key) / "result.json").unlink()
    assert again.status() == "STOPPED"
    with FileLock(here.experiment("toy") / "driver.lock"):
        assert again.status() == "RUNNING"
        with pytest.raises(ServiceError, match="toy is being run by process"):
            client.submit(again.experiment)


@pytest.mark.ray
@pytest.mark.slow
def test_a_wait_that_is_interrupted_leaves_the_job_as_it_is(
    toy: dict[str, Any], settings: Settings
) -> None:
    """Ctrl-C in a notebook's cell: the job goes on, is not begun twice, and can be stopped."""
    long = {"train.kimg": 1536.0, "train.batch_size": 64, "evaluation.evaluations": 24}
    client = Client(settings=settings)
    job = client.submit(sweep(toy, seeds=1, set=long, launcher="inproc"))
    with pytest.raises(ServiceError, match="is being run by this process"):
        client.submit(job.experiment)
    wait_for(lambda: "16 of" in job.logs() or "64 of" in job.logs(), "some training")
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        job.wait(timeout=60, show=False)
    assert job.status() == "RUNNING"
    job.stop()
    assert job.status() == "STOPPED"


def test_a_job_of_another_process_is_told_to_end(toy: dict[str, Any], settings: Settings) -> None:
    """A process that holds the driver's lock gets what Ctrl-C would send."""
    home = settings.experiment("toy")
    save(sweep(toy), home)
    program = (
        "import sys, time; from pathlib import Path; from trainer.files import FileLock\n"
        "with FileLock(Path(sys.argv[1])): print('holds', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(home / "driver.lock")], cwd=ROOT, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"holds\n"
        job = Client(settings=settings).job("toy")
        assert job.status() == "RUNNING"
        job.stop()
        assert other.wait(20) == -signal.SIGTERM
    assert job.status() == "STOPPED"


def test_figures_are_had_by_name(folder: Path, settings: Settings) -> None:
    here = settings.model_copy(update={"home": folder / "runs"})
    job = Client(settings=here).submit(folder / "x.yaml")
    job.wait(timeout=120, show=False)
    names = job.figures()
    assert {"convergence", "paired_differences", "training_loss", "passport_density"} <= set(names)
    for name in names:
        assert len(job.figure(name).data) > 0, name
    assert {trace.name for trace in job.figure("convergence").data} >= {"uniform", "under"}
    with pytest.raises(ServiceError, match="no figure `convergance`, did you mean `convergence`"):
        job.figure("convergance")


def test_a_trial_is_read_from_its_yaml() -> None:
    preset = ROOT / "experiments" / "presets" / "digits.yaml"
    trial = TrialSpec.from_yaml(preset, ["train.kimg=20", "seed=3"])
    assert (trial.train.kimg, trial.seed, trial.data.kind) == (20.0, 3, "digits")
    with pytest.raises(InputError, match=r"did you mean `train\.kimg`"):
        TrialSpec.from_yaml(preset, ["train.kimgs=20"])
    with pytest.raises(InputError, match="is an experiment, this command takes one trial"):
        TrialSpec.from_yaml(ROOT / "experiments" / "quickstart.yaml")


def test_packages_say_that_they_are_typed() -> None:
    for package in ("trainer", "service", "dashboards"):
        assert (ROOT / package / "py.typed").is_file()
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert all("py.typed" in files for files in shipped["package-data"].values())
    assert len(shipped["package-data"]) == 3


def test_trials_on_another_machine_are_not_judged_here(
    toy: dict[str, Any], settings: Settings
) -> None:
    job = ClusterJob(sweep(toy), settings, None, "there-1")  # type: ignore[arg-type]
    for ask in (job.verdict, job.report):
        with pytest.raises(
            ServiceError, match=r"no trial of toy is below .* the cluster's disk"
        ) as error:
            ask()
        assert "DIFFSWEEP_HOME" in error.value.fix


def there(experiment: Experiment, settings: Settings, status: str) -> ClusterJob:
    """A job on a cluster that says nothing but its status."""
    jobs = SimpleNamespace(status=lambda _: SimpleNamespace(status=status))
    return ClusterJob(experiment, settings, jobs, "there-1")  # type: ignore[arg-type]


def test_directories_that_lack_what_a_job_did_are_not_judged(
    folder: Path, settings: Settings
) -> None:
    """An earlier run on this machine left some trials; without MLflow the end of the job says that more are done."""
    here = settings.model_copy(update={"home": folder / "runs"})
    experiment = Experiment.from_yaml(folder / "x.yaml")
    assert there(experiment, here, "SUCCEEDED").verdict().comparisons
    last = Record(here.trial(experiment.trials[-1].key))
    (last.directory / "result.json").unlink()
    for status in ("SUCCEEDED", "FAILED"):
        job = there(experiment, here, status)
        for ask in (job.verdict, job.report):
            with pytest.raises(
                ServiceError, match="the results of 1 of 4 trials of toy are not below"
            ):
                ask()
    for status in ("RUNNING", "STOPPED"):
        assert there(experiment, here, status).verdict().comparisons, "as far as it came"
    last.write_failure(Failure("it broke", "there"))
    assert there(experiment, here, "FAILED").verdict().comparisons
    with pytest.raises(ServiceError, match="1 of 4"):
        there(experiment, here, "SUCCEEDED").verdict()


def test_directories_that_lack_what_mlflow_knows_are_not_judged(
    folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = settings.model_copy(update={"home": folder / "runs", "tracking_uri": "http://there"})
    experiment = Experiment.from_yaml(folder / "x.yaml")
    rows = [{"trial_key": trial.key, "status": Status.FINISHED} for trial in experiment.trials]
    monkeypatch.setattr(ClusterJob, "_tracked", lambda _, **__: SimpleNamespace(trials=rows))
    job = there(experiment, here, "RUNNING")
    assert job.verdict().comparisons
    last = Record(here.trial(experiment.trials[-1].key))
    (last.directory / "result.json").unlink()
    last.write_failure(Failure("an earlier run on this machine", "here"))
    with pytest.raises(ServiceError, match="the results of 1 of 4 trials") as error:
        job.verdict()
    assert "DIFFSWEEP_HOME" in error.value.fix
    rows[-1]["status"] = Status.RUNNING
    assert job.verdict().comparisons


def test_protocols_are_of_the_deciding_metric_even_if_another_is_measured_first(
    folder: Path, settings: Settings
) -> None:
    """Through MLflow and back: `metrics: [kid, fid]`, judged by FID."""
    toy = (folder / "toy.yaml").read_text()
    measured = "  metrics: [kid, fid]\n  features: {kind: pixels}\n"
    (folder / "toy.yaml").write_text(toy.replace("  features: {kind: pixels}\n", measured))
    here = settings.model_copy(update={"home": folder / "others"})
    experiment = Experiment.from_yaml(folder / "x.yaml")
    ids: dict[str, str] = {}
    for trial in experiment.trials:
        list(train(trial.spec, here.trial(trial.key), cache=here.cache, device="cpu"))
        result = Record(here.trial(trial.key)).result()
        assert result is not None
        ids = result.protocol
    assert len(set(ids.values())) == 4
    job = Client(settings=here).submit(experiment)
    assert job.wait(timeout=120) == "SUCCEEDED"

    table, curves = Job.results(job), Job.curves(job)
    assert set(table["protocol"]) == {ids["eval/fid"]}
    assert set(table["protocol_rung"]) == {ids["rung/fid"]}
    of_metric = curves[curves["protocol"].notna()].groupby("metric")["protocol"].agg(set)
    assert of_metric.to_dict() == {metric: {one} for metric, one in ids.items()}
    table = table.drop(columns=list(DIFFER))
    pd.testing.assert_frame_equal(
        *(
            t.set_index("trial_key").sort_index().drop(columns="run_id")
            for t in (table, collect(experiment, here).trials)
        ),
        check_like=True,
        check_dtype=False,
    )


def test_an_unfit_environment_is_told_by_the_job(toy: dict[str, Any], settings: Settings) -> None:
    away = settings.model_copy(update={"tracking_uri": f"http://127.0.0.1:{free_port()}"})
    job = Client(settings=away).submit(sweep(toy))
    with pytest.raises(ServiceError, match="does not answer"):
        job.wait(timeout=30)
    assert not (away.home / "trials").exists()


def test_a_cluster_out_of_reach_is_refused_at_once(settings: Settings) -> None:
    with pytest.raises(ServiceError, match="no Ray cluster answers"):
        Client(f"http://127.0.0.1:{free_port()}", settings)


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, service; heavy = {'ray', 'mlflow', 'torch', 'pandas', 'plotly', 'pydantic'};"
        "print(sorted(heavy & set(sys.modules))); print(sorted(service.__all__)); service.Client"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "['Client', 'Experiment', 'Job', 'TrialSpec']"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    import service

    with pytest.raises(AttributeError, match="'Clint'"):
        service.Clint  # noqa: B018
    assert {"Client", "Experiment"} <= set(dir(service))
    assert service.Experiment is Experiment

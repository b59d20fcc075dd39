"""The Python way in, on this machine: submit, wait, results; a single trial; stop and continue."""

from __future__ import annotations

import subprocess
import sys
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
from service.results import collect
from service.sdk import ClusterJob
from service.settings import Settings
from tests.service.sweeps import ROOT, free_port, sweep, wait_for
from trainer.loop import train
from trainer.record import Record
from trainer.report import Failure, Status


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", tracking_uri=None, ray_address=None)


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
    ours, read = job.results(), directories.trials
    assert list(ours.columns[: len(TRIAL_COLUMNS)]) == list(TRIAL_COLUMNS)
    assert set(ours.columns) == set(read.columns)
    both = (t.set_index("trial_key").sort_index().drop(columns="run_id") for t in (ours, read))
    pd.testing.assert_frame_equal(*both, check_like=True, check_dtype=False)

    place = ["trial_key", "metric", "images"]
    curves = [c.sort_values(place, ignore_index=True) for c in (job.curves(), directories.curves)]
    assert list(curves[0].columns) == list(CURVE_COLUMNS)
    pd.testing.assert_frame_equal(*curves)
    assert curves[0]["protocol"].nunique() == 2


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
    monkeypatch.setattr(ClusterJob, "_tracked", lambda _: SimpleNamespace(trials=rows))
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

    table, curves = job.results(), job.curves()
    assert set(table["protocol"]) == {ids["eval/fid"]}
    assert set(table["protocol_rung"]) == {ids["rung/fid"]}
    of_metric = curves[curves["protocol"].notna()].groupby("metric")["protocol"].agg(set)
    assert of_metric.to_dict() == {metric: {one} for metric, one in ids.items()}
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

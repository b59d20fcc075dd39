"""The environment decides where results live and whom to talk to; a bad variable is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import ServiceError
from service.settings import RAY_JOB_VARIABLE, Settings, inside_ray_job, load
from trainer.errors import InputError

VARIABLES = (
    "DIFFSWEEP_HOME",
    "DIFFSWEEP_SCRATCH",
    "DIFFSWEEP_DATA",
    "DIFFSWEEP_CONCURRENCY",
    "DIFFSWEEP_TRACKING_URI",
    "MLFLOW_TRACKING_URI",
    "DIFFSWEEP_RAY_ADDRESS",
    "RAY_ADDRESS",
    RAY_JOB_VARIABLE,
)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable set, in an empty working directory."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_by_default_results_live_in_runs_here(bare: Path) -> None:
    settings = load()

    assert settings.home == bare / "runs"
    assert settings.trial("k") == bare / "runs" / "trials" / "k"
    assert settings.experiment("n") == bare / "runs" / "experiments" / "n"
    assert settings.cache == bare / "runs" / "cache"
    assert settings.store_uri == f"sqlite:///{bare}/runs/mlflow.db"
    assert not bare.joinpath("runs").exists()


def test_inside_a_ray_job_results_live_in_the_home_directory(
    monkeypatch: pytest.MonkeyPatch, bare: Path
) -> None:
    monkeypatch.setenv("HOME", str(bare / "me"))
    assert not inside_ray_job()

    monkeypatch.setenv(RAY_JOB_VARIABLE, '{"job": 1}')

    assert inside_ray_job()
    assert load().home == bare / "me" / "diffsweep"


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    monkeypatch.setenv("DIFFSWEEP_HOME", "there")
    monkeypatch.setenv("DIFFSWEEP_DATA", "~/pictures")
    monkeypatch.setenv("HOME", str(bare / "me"))
    monkeypatch.setenv("DIFFSWEEP_CONCURRENCY", "3")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    monkeypatch.setenv("RAY_ADDRESS", "auto")

    settings = load()

    assert settings.home == bare / "there"
    assert settings.data == bare / "me" / "pictures"
    assert settings.concurrency == 3
    assert settings.store_uri == "http://server:5000"
    assert settings.ray_address == "auto"


def test_our_own_variable_wins_over_mlflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://everybody")
    monkeypatch.setenv("DIFFSWEEP_TRACKING_URI", "http://mine")

    assert load().tracking_uri == "http://mine"


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")

    assert load().tracking_uri is None


def test_what_is_given_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, bare: Path
) -> None:
    monkeypatch.setenv("DIFFSWEEP_HOME", "there")

    assert load(home=bare / "here").home == bare / "here"
    assert load(home=None).home == bare / "there"
    assert Settings(tracking_uri="http://x").tracking_uri == "http://x"


@pytest.mark.parametrize(
    "uri",
    ["s3://lab/team one", "gs://lab", "hdfs://name:9000/a", "file:///a/b", "s3://l/x?region=eu-1"],
)
def test_a_home_in_a_store_is_a_folder_here_that_knows_its_store(
    monkeypatch: pytest.MonkeyPatch, bare: Path, uri: str
) -> None:
    monkeypatch.setenv("DIFFSWEEP_SCRATCH", str(bare / "scratch"))
    monkeypatch.setenv("DIFFSWEEP_HOME", f"{uri}")

    settings = load()

    assert settings.home.parent == bare / "scratch"
    assert settings.remote == settings.place == uri
    assert load(home=settings.home).remote == uri, "the folder alone leads there"
    assert load(home=Path(uri)) == settings, "also where a path lost a slash"
    assert (
        settings.shown(settings.home / "a.html").partition("?")[0]
        == f"{uri.partition('?')[0]}/a.html"
    )
    assert settings.shown(bare / "a.html") == str(bare / "a.html")
    monkeypatch.setenv("DIFFSWEEP_HOME", f"{uri.partition('?')[0]}//")
    assert load().remote == uri.partition("?")[0], "one store, one folder"


def test_a_plain_home_has_no_store(bare: Path) -> None:
    assert load().remote is None
    assert load(home=bare / "a=b").remote is None
    assert load().shown(bare / "runs" / "a") == str(bare / "runs" / "a")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "ftp://lab/x",
            "`ftp:` is no store that is known: s3://, gs://, hdfs://, file://, or a folder",
        ),
        ("s3://", "the URI names no bucket: write it as s3://bucket/prefix"),
        ("s3://lab/../x", "write the URI as s3://bucket/prefix, without `#` and `..`"),
        (f"s3://lab/{'x' * 300}", "the URI is too long: its name here would have 317 characters"),
        (
            "s3://me:pass@lab/x",
            "the URI has somebody's name or password in it: credentials come from",
        ),
        ("s3://lab/x?secret_key=pass", "the URI has `secret_key` in it: credentials come from"),
    ],
)
def test_a_store_that_cannot_be_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, uri: str, said: str
) -> None:
    monkeypatch.setenv("DIFFSWEEP_HOME", uri)

    with pytest.raises(InputError) as caught:
        load()

    assert str(caught.value).startswith(f"environment: DIFFSWEEP_HOME: {said}")
    assert "pass@" not in str(caught.value)
    assert "=pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("many", "environment: DIFFSWEEP_CONCURRENCY: must be a whole number, not `many`"),
        (
            "9" * 5000,
            f"environment: DIFFSWEEP_CONCURRENCY: must be a smaller number, not the text `{'9' * 57}...`",
        ),
        ("0", "environment: DIFFSWEEP_CONCURRENCY: must be greater than 0, not `0`"),
    ],
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setenv("DIFFSWEEP_CONCURRENCY", value)

    with pytest.raises(InputError) as caught:
        load()

    assert str(caught.value) == said


def test_an_unknown_users_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFSWEEP_HOME", "~nosuchuser/runs")

    with pytest.raises(InputError) as caught:
        load()

    assert str(caught.value) == (
        "environment: DIFFSWEEP_HOME: `~nosuchuser/runs` begins with an unknown user: write the whole path"
    )


def test_a_working_directory_that_was_removed_is_told(
    monkeypatch: pytest.MonkeyPatch, bare: Path
) -> None:
    (bare / "gone").mkdir()
    monkeypatch.chdir(bare / "gone")
    (bare / "gone").rmdir()
    try:
        with pytest.raises(ServiceError, match="the working directory does not exist any more"):
            load()
    finally:
        os.chdir(bare)


def test_paths_are_absolute_at_once(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    settings = load()
    (bare / "elsewhere").mkdir()

    monkeypatch.chdir(bare / "elsewhere")

    assert settings.home == bare / "runs"


def test_a_home_that_cannot_be_written_says_what_to_do(bare: Path) -> None:
    (bare / "file").write_text("")

    with pytest.raises(ServiceError) as caught:
        Settings(home=bare / "file" / "home").prepare()

    assert str(caught.value) == (
        f"results cannot be written to {bare}/file/home: Not a directory\n"
        "  to fix it: set DIFFSWEEP_HOME, or --home, to a folder of yours with room in it"
    )


def test_prepare_makes_the_home(bare: Path) -> None:
    Settings(home=bare / "a" / "b").prepare()

    assert list((bare / "a" / "b").iterdir()) == []

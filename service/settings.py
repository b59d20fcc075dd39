"""Where do results live and which servers are meant? Everything that comes from the environment."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import (
    AliasChoices,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.addressed import ADDRESS, scratch_of, uri_of
from service.errors import ServiceError
from service.planning.money import Price
from trainer.errors import InputError, Problem

RAY_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it for the entrypoint of every submitted job."""


def inside_ray_job() -> bool:
    """Whether this process was started by `ray job submit`: its working directory is then a temporary copy."""
    return bool(os.environ.get(RAY_JOB_VARIABLE))


def own_job() -> str | None:
    """The submission id of the Ray job that this process is, if it is one."""
    try:
        known = json.loads(os.environ.get(RAY_JOB_VARIABLE) or "{}")
        return str(known["metadata"]["job_submission_id"])
    except (ValueError, LookupError, TypeError):
        return None


def for_owner_alone() -> None:
    """Nobody else may read what this process writes from now on."""
    os.umask(0o077)


def default_home() -> Path:
    """Where results live when nothing says where: not absolute outside a Ray job."""
    return Path("~/diffsweep") if inside_ray_job() else Path("runs")


class Settings(BaseSettings):
    """Read from the environment; `Settings(home=...)` overrides it in Python."""

    model_config = SettingsConfigDict(
        env_prefix="DIFFSWEEP_",
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    home: Path = Field(default_factory=default_home)
    """DIFFSWEEP_HOME: trials, caches and the default tracking database. ./runs; inside a Ray job ~/diffsweep.

    Given as the URI of a store (s3://bucket/prefix), it is the folder of this machine that mirrors it, below
    DIFFSWEEP_SCRATCH, else ~/.cache/diffsweep; `remote` is the URI.
    """
    tracking_uri: str | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "tracking_uri", "DIFFSWEEP_TRACKING_URI", "MLFLOW_TRACKING_URI"
        ),
    )
    """MLFLOW_TRACKING_URI: the MLflow server or store. Unset: sqlite in `home`."""
    mlflow_ui: str | None = None
    """DIFFSWEEP_MLFLOW_UI: where people look at MLflow, for the report's links. Unset: the tracking server."""
    ray_address: str | None = Field(
        default=None,
        validation_alias=AliasChoices("ray_address", "DIFFSWEEP_RAY_ADDRESS", "RAY_ADDRESS"),
    )
    """RAY_ADDRESS: the cluster to use. Unset: the one this process is in, or a local one."""
    data: Annotated[Path | None, NoDecode] = None
    """DIFFSWEEP_DATA: where relative data set paths start. Unset: the working directory."""
    concurrency: PositiveInt | None = None
    """DIFFSWEEP_CONCURRENCY: at most this many trials at a time. Unset: as many as the resources hold."""
    quota_gb: PositiveFloat | None = None
    """DIFFSWEEP_QUOTA_GB: a run does not begin in a home that is larger, in 10^9 bytes. Unset: no limit."""
    private: bool = False
    """DIFFSWEEP_PRIVATE: whatever is written is for this user alone to read, and so is all that lies in the home."""
    price: Annotated[Price | None, NoDecode] = None
    """DIFFSWEEP_PRICE: money for an hour of a GPU, or of a CPU where trials have none: `2.5`, `2.5 EUR`, or
    `gpu=2.5,cpu=0.04 EUR` for both. Unset: plans and runs say no money."""
    webhook: SecretStr | None = None
    """DIFFSWEEP_WEBHOOK: an address that is sent a POST of JSON on a verdict, a failure and the end of a run."""
    notify_command: str | None = None
    """DIFFSWEEP_NOTIFY_COMMAND: a shell command on the same occasions: JSON on its input, a line for people as $1."""
    tracking_patience_s: NonNegativeFloat = 20.0
    """DIFFSWEEP_TRACKING_PATIENCE_S: how long the end of a run waits for an unreachable tracking server."""
    store_patience_s: NonNegativeFloat = 60.0
    """DIFFSWEEP_STORE_PATIENCE_S: how long a trial's end waits for a store that does not answer."""

    @field_validator("home", mode="before")
    @classmethod
    def _mirrored(cls, home: Any) -> Any:
        """A store's URI becomes the folder that mirrors it; none with a password comes further."""
        is_address = isinstance(home, str | Path) and ADDRESS.match(str(home))
        return scratch_of(str(home)) if is_address else home

    silence_s: NonNegativeFloat = 60.0
    """DIFFSWEEP_SILENCE_S: a trial without a sign of life for so long, and for 20 times its own pace, is told of;
    after five times that its process is replaced. 0: neither."""

    @field_validator("home", "data", mode="after")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Absolute at once: Tune changes the working directory of its trials."""
        try:
            return path if path is None else Path(os.path.abspath(path.expanduser()))
        except RuntimeError:  # ~ of a user that this machine does not know
            raise ValueError(
                f"`{path}` begins with an unknown user: write the whole path"
            ) from None

    @field_validator(
        "tracking_uri", "mlflow_ui", "ray_address", "webhook", "notify_command", mode="before"
    )
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        return value or None

    @field_validator("price", mode="before")
    @classmethod
    def _parsed(cls, price: Any) -> Any:
        text = str(price) if isinstance(price, str | int | float) else price
        return Price.parse(text) if isinstance(text, str) and text.strip() else text or None

    @field_validator("webhook")
    @classmethod
    def _can_be_posted_to(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("it is no address: it begins with http:// or https://")
        return value

    @field_validator("mlflow_ui")
    @classmethod
    def _is_a_page(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"`{value}` is no address: write it as http://127.0.0.1:5000")
        return value

    @property
    def remote(self) -> str | None:
        """The URI of the store that `home` mirrors; None where `home` is the place itself."""
        return uri_of(self.home)

    @property
    def place(self) -> str:
        """Where results live, as a person gave it and would type it again."""
        return self.remote or str(self.home)

    def shown(self, path: Path) -> str:
        """A path for a person: below a mirroring home it is the address in the store."""
        if self.remote is None or not path.is_relative_to(self.home):
            return str(path)
        uri, question, options = self.remote.partition("?")
        return f"{uri}/{path.relative_to(self.home)}{question}{options}"

    @property
    def trials(self) -> Path:
        """One directory per trial key, shared by all experiments."""
        return self.home / "trials"

    @property
    def cache(self) -> Path:
        """Classifier weights, reference statistics, calibrations."""
        return self.home / "cache"

    @property
    def database(self) -> Path:
        """The default tracking database."""
        return self.home / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """Where the default tracking store keeps files."""
        return self.home / "mlartifacts"

    @property
    def store_uri(self) -> str:
        """The MLflow store to talk to: `tracking_uri`, else sqlite in `home`."""
        return self.tracking_uri or sqlite(self.database)

    def prepare(self) -> None:
        """Make `home`; ServiceError when it cannot be written."""
        self.keep_private()
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            if self.private:
                self.home.chmod(0o700)
            with tempfile.NamedTemporaryFile(dir=self.home):
                pass
        except OSError as error:
            raise ServiceError(
                f"results cannot be written to {self.home}: {error.strerror}",
                "set DIFFSWEEP_HOME, or --home, to a folder of yours with room in it",
            ) from None

    def keep_private(self) -> None:
        """Where that is asked for, nobody else may read what this process writes from now on."""
        if self.private:
            for_owner_alone()

    def experiment(self, name: str) -> Path:
        """The directory of one experiment: its resolved spec, outbox and report."""
        return self.home / "experiments" / name

    def trial(self, key: str) -> Path:
        """The directory of one trial."""
        return self.trials / key


def load(**given: Any) -> Settings:
    """The settings of this process; a bad environment variable is an InputError that names it."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise InputError([_problem({**detail}) for detail in details]) from None
    except FileNotFoundError:
        raise ServiceError(
            "the working directory does not exist any more", "cd to another"
        ) from None


def sqlite(database: Path) -> str:
    """SQLAlchemy's address of a file, in which `?` and `%` mean something unless they are quoted.

    Quoted, it names the dialect too: of `sqlite:///` MLflow makes the folder that is written there, quotes and all.
    """
    path = str(database)
    is_plain = not any(sign in path for sign in "?%")
    return f"sqlite:///{path}" if is_plain else f"sqlite+pysqlite:///{quote(path)}"


def _problem(detail: dict[str, Any]) -> Problem:
    from trainer.yaml.scalar import scalar
    from trainer.yaml.wording import plain_message

    if detail["loc"] and detail["loc"][0] == "webhook":  # a secret
        detail["input"] = "(not shown)"
    if isinstance(detail["input"], str):  # every variable is text: show what it says
        with contextlib.suppress(ValueError):  # endless digits stay text
            detail["input"] = scalar(detail["input"])
    return Problem("environment", None, _variable(detail["loc"]), plain_message(detail))


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0]) if location else ""
    return name if name.isupper() else f"DIFFSWEEP_{name.upper()}"

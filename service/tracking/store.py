"""What does diffsweep say to MLflow, and how does it read it back? With `client`, the only door to mlflow.

Every verb of `Store` may be repeated: a run is looked up by its `diffsweep.key` tag before it is
created, metric points carry their stored timestamps, images and files have names derived from what
they are. A delivery that was cut short and done again leaves no double.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.tracking.client import client, only_creator, refused
from service.tracking.keys import NOTE, SEARCH, TUNING
from service.tracking.notes import OURS, placed
from service.tracking.rows import Item, RunHeader, trial_row
from service.tracking.server import without_password
from trainer.report import Status

if TYPE_CHECKING:
    from mlflow.entities import Run

    from service.settings import Settings

RUN_STATUS = {
    Status.WAITING: "SCHEDULED",
    Status.RUNNING: "RUNNING",
    Status.FINISHED: "FINISHED",
    Status.DIVERGED: "FAILED",
    Status.FAILED: "FAILED",
    Status.STOPPED: "KILLED",
}
_KIND = "custom_model_development"  # the UI opens its training view
_NAMES = uuid.uuid5(uuid.NAMESPACE_URL, "diffsweep")


class Store:
    """One MLflow experiment. A server that does not answer raises at once; the caller retries."""

    def __init__(
        self, settings: Settings, experiment: str, create: bool = True, former: str = ""
    ) -> None:
        """`former` is the identity of the store that has what was delivered before, whatever it is named by now."""
        self._client = client(settings)
        known = self._renamed(settings, former)
        known = known or self._client.get_experiment_by_name(experiment)
        if create and (known is None or known.lifecycle_stage == "deleted"):
            with only_creator(settings):
                known = self._open(settings, experiment)
        self.exists = known is not None
        self._id = known.experiment_id if known is not None else ""
        created = known.creation_time if known is not None else 0
        self.identity = f"{without_password(settings.store_uri)} {self._id} {created}"
        """Changes when the store is another one, or was wiped: then it knows nothing of us."""

    def _renamed(self, settings: Settings, former: str) -> Any:
        """The experiment of a former delivery to this very store, if a person gave it another name."""
        uri, _, numbers = former.partition(" ")
        if uri != without_password(settings.store_uri) or " " not in numbers:
            return None
        number, created = numbers.split(" ")
        try:
            known = self._client.get_experiment(number)
        except Exception as error:
            if refused(error):
                return None
            raise
        is_it = known.lifecycle_stage == "active" and str(known.creation_time) == created
        return known if is_it else None

    def is_deleted(self, run_id: str) -> bool:
        """Whether a person put a run into the trash, or emptied that."""
        try:
            return str(self._client.get_run(run_id).info.lifecycle_stage) == "deleted"
        except Exception as error:
            if refused(error):
                return True
            raise

    def check_active(self) -> None:
        """Raise where the experiment itself is in the trash: its runs are then, too."""
        known = self._client.get_experiment(self._id)
        if known.lifecycle_stage == "deleted":
            raise RuntimeError(f"the experiment {known.name} was deleted there")

    def _open(self, settings: Settings, experiment: str) -> Any:
        known = self._client.get_experiment_by_name(experiment)
        if known is not None and known.lifecycle_stage == "deleted":
            self._client.restore_experiment(known.experiment_id)
        elif known is None:
            place = (settings.artifacts / experiment).as_uri()
            self._client.create_experiment(
                experiment,
                artifact_location=None if settings.tracking_uri else place,
                tags={"mlflow.experimentKind": _KIND},
            )
        return self._client.get_experiment_by_name(experiment)

    def find(self, key: str) -> str | None:
        """The id of the run that carries this key."""
        mine = f"tags.`diffsweep.key` = '{key}'"
        runs = self._client.search_runs([self._id], mine, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def create(self, header: RunHeader, parent_id: str | None, started_ms: int) -> str:
        """Make the run and return its id. Look first: MLflow cannot make a given id."""
        created = self._client.create_run(
            self._id, started_ms, tags=_tags(header, parent_id), run_name=header.name
        )
        return str(created.info.run_id)

    def describe(self, run_id: str, header: RunHeader, parent_id: str | None) -> None:
        """Bring name, place in the tree and tags of a known run up to date."""
        from mlflow.entities import RunTag

        described = (
            {NOTE: placed(header.tags[NOTE], self._id, run_id)} if NOTE in header.tags else {}
        )
        own = _tags(header, parent_id) | described
        tags = [RunTag(name, value) for name, value in own.items()]
        self._client.log_batch(run_id, tags=tags)
        self._client.update_run(run_id, name=header.name)

    def introduce(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment, of which this is the sweep's run. What a person wrote about it stays."""
        known = self._client.get_experiment(self._id).tags
        for name, value in tags.items():
            text, before = placed(value, self._id, run_id), known.get(name, "")
            if text != before and (name != NOTE or not before or OURS in before):
                self._client.set_experiment_tag(self._id, name, text)

    def params(self, run_id: str, header: RunHeader) -> None:
        """Log the params; the same values again are accepted, so a cut delivery can be repeated."""
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in header.params.items()]
        for first in range(0, len(params), 100):
            self._client.log_batch(run_id, params=params[first : first + 100])

    def points(self, run_id: str, items: Sequence[Item]) -> None:
        """Log metric points with their stored timestamps."""
        from mlflow.entities import Metric

        nan = float("nan")
        values = [(item, nan if item.number is None else item.number) for item in items]
        self._client.log_batch(
            run_id, metrics=[Metric(i.key, number, i.time_ms, i.step) for i, number in values]
        )

    def image(self, run_id: str, item: Item) -> None:
        """What `log_image` writes for a stepped image, under names equal at every attempt."""
        import PIL.Image
        from mlflow.tracking.multimedia import compress_image_size

        assert item.body is not None
        name = image_name(run_id, item)
        webp = io.BytesIO()
        compress_image_size(PIL.Image.open(io.BytesIO(item.body))).save(webp, "WEBP")
        self._put(run_id, f"images/{name}.png", item.body)
        self._put(run_id, f"images/{name}+compressed.webp", webp.getvalue())
        self._client.set_tag(run_id, "mlflow.loggedImages", "True")

    def file(self, run_id: str, item: Item) -> None:
        """Log an artifact; `item.key` is its path in the run."""
        self._put(run_id, item.key, item.body or b"")

    def model(
        self, run_key: str, name: str, key: str, folder: Path, metrics: Mapping[str, float]
    ) -> str:
        """Log a model's folder below the run of this key; returns its id, known already if the content is.

        `metrics` are shown with it. `mlflow.models.get_model_info` reads it; diffusers loads it.
        """
        content = _digest(folder)
        same = f"tags.`diffsweep.model` = '{content}'"
        known = self._client.search_logged_models([self._id], same, max_results=10)
        ready = [one.model_id for one in known if one.status == "READY"]
        if ready:
            return str(ready[0])
        run_id = self.find(run_key)
        tags = {"diffsweep.model": content, "diffsweep.trial": key}
        made = self._client.create_logged_model(
            self._id, _model_name(name), run_id, tags, model_type="diffusers pipeline"
        )
        self._client.log_model_artifacts(made.model_id, str(folder))
        self._describe_model(made.model_id, run_id)
        self._client.finalize_logged_model(made.model_id, "READY")
        if run_id is not None:
            from mlflow.entities import LoggedModelOutput

            self._client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])
            for metric, number in metrics.items():
                self._client.log_metric(run_id, f"winner/{metric}", number, model_id=made.model_id)
            self._client.set_tag(run_id, "winner.model", made.model_id)
        return str(made.model_id)

    def _describe_model(self, model_id: str, run_id: str | None) -> None:
        """MLflow's own file about a model: without it a folder is no model to `mlflow.models`."""
        from mlflow.models import Model

        flavors = {"diffusers": {"class": "DiffusionPipeline", "data": "."}}
        with tempfile.TemporaryDirectory(prefix="diffsweep-") as scratch:
            local = Path(scratch) / "MLmodel"
            Model(run_id=run_id, flavors=flavors, model_id=model_id).save(str(local))
            self._client.log_model_artifact(model_id, str(local))

    def _put(self, run_id: str, path: str, body: bytes) -> None:
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="diffsweep-") as scratch:
            local = Path(scratch) / name
            local.write_bytes(body)
            self._client.log_artifact(run_id, str(local), folder or None)

    def status(self, run_id: str, status: Status, ended_ms: int | None) -> None:
        """Set MLflow's status, and ours (which knows `diverged`) as the tag `outcome`."""
        self._client.set_tag(run_id, "outcome", status)
        if ended_ms is None:
            self._client.update_run(run_id, status=RUN_STATUS[status])
        else:
            self._client.set_terminated(run_id, RUN_STATUS[status], end_time=ended_ms)

    def trials(self) -> list[dict[str, Any]]:
        """One row per trial run: its tags, and the last value of each metric under `metrics`.

        Candidates of a search are none of them.
        """
        runs = self._search("trial")
        return [
            trial_row(run.info.run_id, run.info.start_time, run.data.tags, run.data.metrics)
            for run in runs
            if run.data.tags.get(SEARCH) != TUNING
        ]

    def curves(self, trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One row per metric point of these trials."""
        wanted = [
            (trial, metric)
            for trial in trials
            for metric in trial["metrics"]
            if metric.startswith(("eval/", "rung/", "train/"))
        ]
        with ThreadPoolExecutor(8) as pool:
            return [row for rows in pool.map(self._curve, wanted) for row in rows]

    def _curve(self, wanted: tuple[dict[str, Any], str]) -> list[dict[str, Any]]:
        trial, metric = wanted
        same = {name: trial[name] for name in ("cell", "seed", "trial_key")}
        same |= {"protocol": trial["protocols"].get(metric, ""), "metric": metric}
        history = self._client.get_metric_history(trial["run_id"], metric)
        return [
            {**same, "images": point.step, "kimg": point.step / 1000, "value": point.value}
            for point in sorted(history, key=lambda point: point.step)
        ]

    def _search(self, kind: str) -> Iterator[Run]:
        token = None
        while self.exists:
            page = self._client.search_runs(
                [self._id], f"tags.`diffsweep.kind` = '{kind}'", max_results=1000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


def _digest(folder: Path) -> str:
    """Of names and contents below a folder."""
    sha = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha.update(f"{file.relative_to(folder).as_posix()}\n".encode())
        sha.update(hashlib.sha256(file.read_bytes()).digest())
    return sha.hexdigest()[:32]


def _model_name(name: str) -> str:
    """What MLflow takes: some signs of our names mean something in its addresses."""
    return name.replace(".", "_").replace("+", "_")


def image_name(run_id: str, item: Item) -> str:
    """The file name, without suffix, under which MLflow's image grid finds a stepped image."""
    stamp = f"+step+{item.step}+timestamp+{item.time_ms}"
    unique = uuid.uuid5(_NAMES, f"{run_id} {item.key} {item.step}")
    return f"{item.key.replace('/', '~')}{stamp}+{unique}"


def _tags(header: RunHeader, parent_id: str | None) -> dict[str, str]:
    tags = {**header.tags, "diffsweep.key": header.key, "diffsweep.kind": header.kind}
    return tags | ({"mlflow.parentRunId": parent_id} if parent_id else {})

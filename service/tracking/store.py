"""What does diffsweep say to MLflow, and how does it read it back? With `client` and `logged_model`,
the only door to mlflow.

Every verb of `Store` may be repeated: a run is looked up by its `diffsweep.key` tag before it is
created, metric points carry their stored timestamps, images and files have names derived from what
they are. A delivery that was cut short and done again leaves no double.
"""

from __future__ import annotations

import io
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.tracking.client import client, has_ended, histories, only_creator, refused
from service.tracking.keys import NOTE, SEARCH, TUNING
from service.tracking.logged_model import log_model
from service.tracking.notes import OURS, placed
from service.tracking.rows import Item, RunHeader, trial_row
from service.tracking.server import is_server, without_password
from trainer.report import SHOWN, Status

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
_OUTCOME = "outcome"
_NAMES = uuid.uuid5(uuid.NAMESPACE_URL, "diffsweep")


class Store:
    """One MLflow experiment. A server that does not answer raises at once; the caller retries."""

    def __init__(
        self, settings: Settings, experiment: str, create: bool = True, former: str = ""
    ) -> None:
        """`former` is the identity of the store that has what was delivered before, whatever it is named by now."""
        self._client, self._uri = client(settings), settings.store_uri
        known = self._renamed(settings, former)
        known = known or self._client.get_experiment_by_name(experiment)
        if create and (known is None or known.lifecycle_stage == "deleted"):
            with only_creator(settings):
                known = self._open(settings, experiment)
        self.exists = known is not None
        self._id = known.experiment_id if known is not None else ""
        created = known.creation_time if known is not None else 0
        self._lock = threading.Lock()
        self._runs: dict[str, str] | None = None
        self._named: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._pictured: set[str] = set()
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
        """The id of the run that carries this key.

        All are asked for at once: a search for each run takes longer with each run that is there.
        """
        with self._lock:
            if self._runs is None:
                self._runs = {}
                for run in self._search():
                    run_id, tags = str(run.info.run_id), run.data.tags
                    self._runs.setdefault(tags.get("diffsweep.key", ""), run_id)
                    self._named[run_id] = run.info.run_name
            return self._runs.get(key)

    def create(self, header: RunHeader, parent_id: str | None, started_ms: int) -> str:
        """Make the run and return its id. Look first: MLflow cannot make a given id."""
        created = self._client.create_run(
            self._id, started_ms, tags=_tags(header, parent_id), run_name=header.name
        )
        run_id = str(created.info.run_id)
        self._named[run_id], self._states[run_id] = header.name, RUN_STATUS[Status.RUNNING]
        if self._runs is not None:
            self._runs[header.key] = run_id
        return run_id

    def describe(
        self, run_id: str, header: RunHeader, parent_id: str | None, outcome: Status
    ) -> None:
        """Bring name, place in the tree, tags and params of a known run up to date, and the tag `outcome`.

        The same params again are accepted, so a cut delivery can be repeated.
        """
        from mlflow.entities import Param, RunTag

        described = (
            {NOTE: placed(header.tags[NOTE], self._id, run_id)} if NOTE in header.tags else {}
        )
        own = _tags(header, parent_id) | described | {_OUTCOME: str(outcome)}
        tags = [RunTag(name, value) for name, value in own.items()]
        params = [Param(name, value) for name, value in header.params.items()]
        self._client.log_batch(run_id, params=params[:100], tags=tags)
        for first in range(100, len(params), 100):
            self._client.log_batch(run_id, params=params[first : first + 100])
        if self._named.get(run_id) != header.name:
            self._client.update_run(run_id, name=header.name)
            self._named[run_id] = header.name

    def introduce(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment, of which this is the sweep's run. What a person wrote about it stays."""
        known = self._client.get_experiment(self._id).tags
        for name, value in tags.items():
            text, before = placed(value, self._id, run_id), known.get(name, "")
            if text != before and (name != NOTE or not before or OURS in before):
                self._client.set_experiment_tag(self._id, name, text)

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
        if run_id not in self._pictured:
            self._client.set_tag(run_id, "mlflow.loggedImages", "True")
            self._pictured.add(run_id)

    def file(self, run_id: str, item: Item) -> None:
        """Log an artifact; `item.key` is its path in the run."""
        self._put(run_id, item.key, item.body or b"")

    def model(
        self, run_key: str, name: str, key: str, folder: Path, metrics: Mapping[str, float]
    ) -> str:
        """Log a model's folder below the run of this key (see `logged_model`)."""
        return log_model(self._client, self._id, self.find(run_key), name, key, folder, metrics)

    def _put(self, run_id: str, path: str, body: bytes) -> None:
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="diffsweep-") as scratch:
            local = Path(scratch) / name
            local.write_bytes(body)
            self._client.log_artifact(run_id, str(local), folder or None)

    def status(self, run_id: str, status: Status, ended_ms: int | None) -> None:
        """Set MLflow's status; ours, which knows `diverged`, is the tag `outcome`."""
        state = RUN_STATUS[status]
        if ended_ms is not None:
            self._client.set_terminated(run_id, state, end_time=ended_ms)
            has_ended(run_id)
        elif self._states.get(run_id) != state:
            self._client.update_run(run_id, status=state)
        self._states[run_id] = state

    def trials(self) -> list[dict[str, Any]]:
        """One row per trial run: its tags, and the last value of each metric under `metrics`.

        Candidates of a search are none of them.
        """
        runs = self._search("tags.`diffsweep.kind` = 'trial'")
        return [
            trial_row(run.info.run_id, run.info.start_time, run.data.tags, run.data.metrics)
            | {"kimg": _reached(run) / 1000}
            for run in runs
            if run.data.tags.get(SEARCH) != TUNING
        ]

    def curves(self, trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One row per metric point of these trials."""
        having: dict[str, list[dict[str, Any]]] = {}
        for trial in trials:
            for metric in trial["metrics"]:
                if metric.startswith(SHOWN):
                    having.setdefault(metric, []).append(trial)
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(self._curves, having, having.values())
            return [row for rows in found for row in rows]

    def _curves(self, metric: str, trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of one metric, by as few requests as the server allows."""
        ids = [trial["run_id"] for trial in trials]
        many = histories(self._uri, ids, metric) if is_server(self._uri) else None
        if many is None:
            every = ((run, self._client.get_metric_history(run, metric)) for run in ids)
            many = [(run, point.step, point.value) for run, points in every for point in points]
        place = {run: number for number, run in enumerate(ids)}
        rows = []
        for run, step, value in sorted(many, key=lambda point: (place[point[0]], point[1])):
            trial = trials[place[run]]
            same = {name: trial[name] for name in ("cell", "seed", "trial_key")}
            same |= {"protocol": trial["protocols"].get(metric, ""), "metric": metric}
            rows.append({**same, "images": step, "kimg": step / 1000, "value": value})
        return rows

    def _search(self, mine: str = "") -> Iterator[Run]:
        token = None
        while self.exists:
            page = self._client.search_runs([self._id], mine, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _reached(run: Run) -> int:
    """Images that a trial has seen: the last step of what has a curve."""
    last = run.data.to_proto().metrics  # the public values are without their steps
    return max((metric.step for metric in last if metric.key.startswith(SHOWN)), default=0)


def image_name(run_id: str, item: Item) -> str:
    """The file name, without suffix, under which MLflow's image grid finds a stepped image."""
    stamp = f"+step+{item.step}+timestamp+{item.time_ms}"
    unique = uuid.uuid5(_NAMES, f"{run_id} {item.key} {item.step}")
    return f"{item.key.replace('/', '~')}{stamp}+{unique}"


def _tags(header: RunHeader, parent_id: str | None) -> dict[str, str]:
    tags = {**header.tags, "diffsweep.key": header.key, "diffsweep.kind": header.kind}
    return tags | ({"mlflow.parentRunId": parent_id} if parent_id else {})

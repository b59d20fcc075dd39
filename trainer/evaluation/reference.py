"""What do the metrics know of the real images? Streamed once per data set and feature space, cached for all trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.data import Source
from trainer.distributed import World
from trainer.evaluation import METRIC_VERSION
from trainer.evaluation.enough import check_real
from trainer.evaluation.features import Extractor
from trainer.evaluation.metric import Metric, Moments, Statistics
from trainer.evaluation.metric.base import Prepared, Real
from trainer.files import cache_lock, keep_streamed, kept_file

_BATCH = 500
"""Images of one pass of the extractor."""
_FEATURES = f"features-{METRIC_VERSION}"


class Gathered:
    """Statistics in the making: features come in batches.

    They are kept if some metric looks at them, and where they are fewer than their dimensions: then they are
    smaller than their covariance, and say more.
    """

    def __init__(
        self,
        extractor: Extractor,
        metrics: Iterable[Metric],
        count: int,
        *,
        of: int | None = None,
        keep: bool = False,
    ) -> None:
        """Of `count` images, for which room is made once: features are never in memory twice.

        `of` so many on all workers, if there are others; `keep` them even if no metric asks.
        """
        self._extractor, self._count = extractor, count
        self._of = count if of is None else of
        self._keep = keep or any(metric.needs != "moments" for metric in metrics)
        self._rows: Tensor | None = None
        self._seen = 0
        self._moments: Moments | None = None

    def add(self, x: Tensor) -> None:
        """Take images [B, ...] in [-1, 1]."""
        features = self._extractor.features(x)
        if self._moments is None:
            self._moments = Moments.empty(features.shape[1], features.device)
            self._keep |= self._of < features.shape[1]
        self._moments.add(features)
        if self._keep:
            if self._rows is None:
                self._rows = features.new_empty(self._count, features.shape[1])
            self._rows[self._seen : self._seen + len(features)] = features
        self._seen += len(features)

    def of_all(self, world: World) -> Statistics:
        """Of the images of all workers, features in their order; every worker gets it."""
        assert self._moments is not None, "no images yet"
        world.sum_(self._moments.count, self._moments.total, self._moments.outer)
        rows = None if self._rows is None else world.gather(self._rows[: self._seen])
        return Statistics(self._moments, rows, self._extractor.classify)


def reference(
    source: Source, space: str, extractor: Extractor, metrics: Sequence[Metric], cache: Path
) -> dict[str, Real]:
    """What each of the metrics knows of the real images, by its name; `space` identifies extractor and data.

    The first process that asks passes through the data, others wait for it. A source without examples will do
    where the cache has everything; DataError where it has not.
    """
    stem = cache / f"reference-{space}"
    needed = {_identity(metric): metric for metric in metrics}
    with_features = any(metric.needs != "moments" for metric in metrics)
    with cache_lock(stem):
        tensors = {name: _read(stem, name, source.device) for name in needed}
        features = _read(stem, _FEATURES, source.device) if with_features else {}
        missing = {name: metric for name, metric in needed.items() if tensors[name] is None}
        if missing or features is None:
            check_real(source, metrics)
            real = _statistics(source, extractor, metrics)
            for name, metric in missing.items():
                tensors[name] = _write(stem, name, metric.prepare(real), source.device)
            if with_features:
                features = _write(stem, _FEATURES, {"rows": real.kept()}, source.device)
    rows = features["rows"] if features else None
    return {metric.name: Real(tensors[_identity(metric)] or {}, rows) for metric in metrics}


def _statistics(source: Source, extractor: Extractor, metrics: Sequence[Metric]) -> Statistics:
    gathered = Gathered(extractor, metrics, len(source))
    for x in source.passage(_BATCH):
        gathered.add(x)
    return gathered.of_all(World(0, 1))  # every worker looks at all of them


def _identity(metric: Metric) -> str:
    """Of what a metric keeps: its feature space is named apart."""
    return f"{metric.keeps or f'{metric.kind}-{metric.plain().digest()[:8]}'}-{METRIC_VERSION}"


def _write(stem: Path, name: str, tensors: Prepared, device: torch.device) -> Prepared:
    """Kept on disk, and read from there: rows of features are then the file's pages, not the process's memory."""
    plain = {key: value.cpu() for key, value in tensors.items()}
    keep_streamed(stem.with_name(f"{stem.name}-{name}.pt"), lambda file: torch.save(plain, file))
    read = _read(stem, name, device)
    return tensors if read is None else read


def _read(stem: Path, name: str, device: torch.device) -> Prepared | None:
    """None where there is no such file, or a damaged one. On the processor it is mapped, so that trials share it."""
    file = kept_file(stem.with_name(f"{stem.name}-{name}.pt"))
    if file is None:
        return None
    tensors: Prepared = torch.load(file, weights_only=True, map_location=device, mmap=True)
    return tensors

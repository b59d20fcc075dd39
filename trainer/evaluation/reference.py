"""What do the metrics know of the real images? Streamed once per data set and feature space, cached for all trials."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.data import Source
from trainer.evaluation import METRIC_VERSION
from trainer.evaluation.features import Extractor
from trainer.evaluation.metric import Metric, Moments, Statistics
from trainer.evaluation.metric.base import Prepared, Real
from trainer.files import cache_lock, keep, kept

_BATCH = 500
"""Images of one pass of the extractor."""
_FEATURES = f"features-{METRIC_VERSION}"


class Gathered:
    """Statistics in the making: features come in batches, and are kept only if some metric looks at them."""

    def __init__(self, extractor: Extractor, metrics: Iterable[Metric]) -> None:
        self._extractor = extractor
        self._keep = any(metric.needs != "moments" for metric in metrics)
        self._features: list[Tensor] = []
        self._moments: Moments | None = None

    def add(self, x: Tensor) -> None:
        """Take images [B, ...] in [-1, 1]."""
        features = self._extractor.features(x)
        if self._moments is None:
            self._moments = Moments.empty(features.shape[1], features.device)
        self._moments.add(features)
        if self._keep:
            self._features.append(features)

    @property
    def moments(self) -> Moments:
        """Of everything so far."""
        assert self._moments is not None, "no images yet"
        return self._moments

    def rows(self) -> Tensor | None:
        """Features of everything so far [N, D], if they are kept."""
        return torch.cat(self._features) if self._keep else None

    def statistics(self, rows: Tensor | None) -> Statistics:
        """With `rows` as the features: those of all workers, in their order."""
        return Statistics(self.moments, rows, self._extractor.classify)


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
            real = _statistics(source, extractor, metrics)
            for name, metric in missing.items():
                tensors[name] = _write(stem, name, metric.prepare(real), source.device)
            if with_features:
                features = _write(stem, _FEATURES, {"rows": real.kept()}, source.device)
    rows = features["rows"] if features else None
    return {metric.name: Real(tensors[_identity(metric)] or {}, rows) for metric in metrics}


def _statistics(source: Source, extractor: Extractor, metrics: Sequence[Metric]) -> Statistics:
    gathered = Gathered(extractor, metrics)
    for x in source.passage(_BATCH):
        gathered.add(x)
    return gathered.statistics(gathered.rows())


def _identity(metric: Metric) -> str:
    """Of what a metric keeps: its feature space is named apart."""
    plain = metric.model_copy(update={"features": None})
    return f"{metric.keeps or f'{metric.kind}-{plain.digest()[:8]}'}-{METRIC_VERSION}"


def _write(stem: Path, name: str, tensors: Prepared, device: torch.device) -> Prepared:
    written = io.BytesIO()
    torch.save({key: value.cpu() for key, value in tensors.items()}, written)
    keep(stem.with_name(f"{stem.name}-{name}.pt"), written.getvalue())
    return {key: value.to(device) for key, value in tensors.items()}


def _read(stem: Path, name: str, device: torch.device) -> Prepared | None:
    """None where there is no such file, or a damaged one."""
    content = kept(stem.with_name(f"{stem.name}-{name}.pt"))
    if content is None:
        return None
    tensors: Prepared = torch.load(io.BytesIO(content), weights_only=True, map_location=device)
    return tensors

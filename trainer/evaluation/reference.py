"""What do the metrics know of the real images? Streamed once per data set and feature space, cached for all trials."""

import io
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.data import Source
from trainer.evaluation import METRIC_VERSION
from trainer.evaluation.features import Extractor
from trainer.evaluation.metric import Metric, Moments, Statistics
from trainer.evaluation.metric.base import Prepared
from trainer.files import FileLock, write_whole

_PATIENCE_S = 3600.0
"""How long to wait for another process that passes through the same data."""
_BATCH = 500
"""Images of one pass of the extractor."""


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
) -> dict[str, Prepared]:
    """What each of the metrics keeps of the real images, by its name; `space` identifies extractor and data.

    The first process that asks passes through the data, others wait for it. A source without examples will do
    where the cache has everything; DataError where it has not.
    """
    files = {metric.name: cache / f"reference-{space}-{_identity(metric)}.pt" for metric in metrics}
    with FileLock(cache / f"reference-{space}.lock", wait_s=_PATIENCE_S):
        prepared = {name: _read(file, source.device) for name, file in files.items()}
        missing = [metric for metric in metrics if prepared[metric.name] is None]
        if missing:
            real = _statistics(source, extractor, missing)
            for metric in missing:
                written = io.BytesIO()
                torch.save({k: v.cpu() for k, v in metric.prepare(real).items()}, written)
                write_whole(files[metric.name], written.getvalue())
                prepared[metric.name] = _read(files[metric.name], source.device)
    return {name: values for name, values in prepared.items() if values is not None}


def _statistics(source: Source, extractor: Extractor, metrics: Sequence[Metric]) -> Statistics:
    gathered = Gathered(extractor, metrics)
    for x in source.passage(_BATCH):
        gathered.add(x)
    return gathered.statistics(gathered.rows())


def _identity(metric: Metric) -> str:
    """Of the metric itself: its feature space is named apart."""
    plain = metric.model_copy(update={"features": None})
    return f"{metric.kind}-{plain.digest()[:8]}-{METRIC_VERSION}"


def _read(file: Path, device: torch.device) -> Prepared | None:
    """None where there is no such file, or one that was cut short."""
    try:
        prepared: Prepared = torch.load(file, weights_only=True, map_location=device)
    except (FileNotFoundError, EOFError, RuntimeError, pickle.UnpicklingError):
        return None
    return prepared

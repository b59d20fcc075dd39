"""Are there images enough for what is measured? Said before anything is trained."""

from collections.abc import Iterable

from trainer.data import Source
from trainer.errors import DataError
from trainer.evaluation.metric import Metric
from trainer.evaluation.metric.frechet import FID, FIDInfinity
from trainer.evaluation.protocol import Evaluation


def few_images(evaluation: Evaluation, shape: tuple[int, ...]) -> list[str]:
    """Sentences about Frechet distances of fewer images than dimensions, for data of `shape`."""
    lines = []
    for part, generation in (("full", evaluation.full), ("rung", evaluation.rung)):
        for metric in evaluation.comparisons if generation is not None else ():
            space = evaluation.space_of(metric)
            width = space.dimensions(shape)
            images = _fewest_together(metric, generation.images) if generation is not None else None
            if width is None or images is None or images >= width:
                continue
            lines.append(
                f"evaluation.{part}: {metric.name} of {images:,} images in {width:,} dimensions ({space.kind}): with "
                "fewer images than dimensions the covariance is singular and the number mostly bias, which ranks cells "
                f"but equals no published one; generate more than {width:,}, or measure kid or mind"
            )
    return lines


def fewest_images(evaluation: Evaluation, shape: tuple[int, ...]) -> int:
    """Images of the reported number without which a metric is impossible, or a covariance singular."""
    fewest = 1
    for metric in evaluation.comparisons:
        width = evaluation.space_of(metric).dimensions(shape)
        fewest = max(fewest, metric.fewest_images)
        if isinstance(metric, FID | FIDInfinity):
            fewest = max(fewest, (width or 0) + 1)
    return fewest


def _fewest_together(metric: Metric, images: int) -> int | None:
    """Images in the smallest set whose covariance the metric takes; None if it takes none."""
    if isinstance(metric, FIDInfinity):
        return metric.sizes(images)[0]
    return images if isinstance(metric, FID) else None


def check_real(source: Source, metrics: Iterable[Metric]) -> None:
    """Raise DataError if there are fewer real images than some metric needs."""
    for metric in metrics:
        if len(source) < metric.fewest_real:
            count = f"{len(source)} image{'s are' if len(source) != 1 else ' is'}"
            raise DataError(
                f"data: {count} too few: {metric.kind} compares with {metric.fewest_real} real ones or more: "
                "add images, or leave it out of evaluation.metrics"
            )

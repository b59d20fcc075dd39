"""Under which protocol was a number measured? The spec of an evaluation, and the id of each number.

Two numbers may stand on one axis only when their protocol ids are equal.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trainer.bounds import Count, Draws, Evaluations, Kimg, NoiseSeed
from trainer.data import Split
from trainer.evaluation import METRIC_VERSION
from trainer.evaluation.features import AnyFeatures, Classifier, FeatureSpace
from trainer.evaluation.generation import Also, Generation
from trainer.evaluation.metric import AnyMeasure, AnyMetric, Metric, ModelMetric
from trainer.evaluation.metric.frechet import FID
from trainer.randomness import derive
from trainer.spec import Neutral, Spec


class Evaluation(Spec):
    """When, how and with what a trial is measured. Evaluation never advances the training's random streams."""

    evaluations: Evaluations = 8
    """How many points the convergence curve has; the last is the end of the budget."""
    spacing: Literal["even", "doubling"] = "even"
    """`even`: equal intervals. `doubling`: at 1, 1/2, 1/4 ... of the budget, for a logarithmic axis."""
    every_kimg: Kimg | None = None
    """Interval in thousands of training images; if given, it replaces `evaluations` and `spacing`."""
    features: AnyFeatures = Classifier()
    """Feature space of the metrics."""
    reference: Annotated[str, Field(pattern=r"^(train|test)$|\.npz$"), Neutral("train")] = "train"
    """Which real images count: `train`, the training data; `test`, those of the set that training does not see; or a
    .npz file with `mu` and `sigma` of features, as ADM and EDM publish them for Inception (it holds no images: `fid`
    alone can be measured). A metric may name a `split` of its own: {kind: bpd, split: test}."""
    metrics: Annotated[tuple[AnyMetric, ...], Field(min_length=1)] = (FID(),)
    """What is measured: kinds such as `fid`, or mappings such as {kind: kid, features: {kind: inception}}."""
    full: Generation
    """The reported protocol (`eval/...`): at the end, or at every evaluation if there is no `rung`."""
    rung: Generation | None = None
    """The cheap protocol of the convergence curve (`rung/...`), at every evaluation including the last."""
    also: Annotated[tuple[Also, ...], Neutral(())] = ()
    """Further protocols, measured once on the finished weights instead of by a training for each: guidance scales,
    solvers, numbers of steps. Each compares as often and from the same noises as `full`."""
    draws: Annotated[Draws, Neutral(1)] = 3
    """How many sets of images `full` generates, each from starting noise of its own: the reported number is the
    mean of theirs, and every cell meets the same noises. The curve's `rung` has one set, that of the first noise.
    Where there is no `rung`, curve and reported number are one protocol, so every evaluation takes all of them."""
    error_groups: Annotated[int, Field(ge=0, le=1000), Neutral(0)] = 0
    """Groups of the jackknife that gives each reported number a standard error (`se/fid`), from the images alone;
    0: none. Each group takes as long as measuring, not generating, once; 16 are usual. No part of any number's name:
    a trial that is finished stays so."""
    noise_seed: NoiseSeed = 0
    """Seed of the starting noises, the same for every trial of an experiment."""
    batch_size: Count = 500
    """Images generated together on one worker; no part of any result."""

    @field_validator("metrics")
    @classmethod
    def _in_short(
        cls, metrics: tuple[AnyMeasure, ...], info: ValidationInfo
    ) -> tuple[AnyMeasure, ...]:
        """A metric that names the feature space or the split of all is the metric without one."""
        space, reference = info.data.get("features"), info.data.get("reference", "train")
        short = []
        for metric in metrics:
            if isinstance(metric, Metric) and metric.features == space:
                metric = metric.model_copy(update={"features": None})
            published = reference not in ("train", "test")
            usual = "train" if published and isinstance(metric, ModelMetric) else reference
            if metric.split == usual:
                metric = metric.model_copy(update={"split": None})
            short.append(metric)
        return tuple(short)

    @model_validator(mode="after")
    def _told_apart(self) -> "Evaluation":
        names = [one.name for one in self.also]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"also: two are called `{twice}`: give each a name of its own")
        seen = {self.full.digest(): "full"}
        for one in self.also:
            before = seen.setdefault(one.of(self.full).digest(), one.name)
            if before != one.name:
                raise ValueError(f"also: `{one.name}` is the same as `{before}`: leave it out")
        return self

    @model_validator(mode="after")
    def _measurable(self) -> "Evaluation":
        names = [metric.name for metric in self.metrics]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"metrics: two are called `{twice}`: list each once, in one feature space of a kind"
            )
        if self.is_published:
            self._only_moments()
        if self.error_groups == 1 or self.error_groups > self.full.images // 2:
            raise ValueError(
                f"error_groups: {self.error_groups} for {self.full.images} images: write 0 (no standard errors), "
                "or from 2 to half as many as images"
            )
        self._groups_leave_enough()
        if self.rung is None and self.spaces("rung") != self.spaces():
            raise ValueError(
                "rung_precision: is of the curve's cheap protocol, and there is no `rung`: add one, or leave it out"
            )
        for metric in self.comparisons:
            space = self.space_of(metric)
            if metric.needs == "probabilities" and not space.classifies:
                raise ValueError(
                    f"metrics: {metric.kind} needs class probabilities, features {space.kind} has none: "
                    "use features classifier or inception"
                )
        for name, generation in self.generations():
            for metric in self.comparisons:
                least = metric.fewest
                if generation.images < least:
                    raise ValueError(
                        f"{name}.images: {generation.images} is too few, "
                        f"{metric.kind} needs more than {least - 1}: raise it, or leave the metric out"
                    )
        return self

    def _groups_leave_enough(self) -> None:
        for name, generation in [
            ("full", self.full),
            *((one.name, one.of(self.full)) for one in self.also),
        ]:
            groups = min(self.error_groups, generation.images // 2)
            for metric in self.comparisons if groups else ():
                left = generation.images - -(-generation.images // groups)
                if left < metric.fewest:
                    raise ValueError(
                        f"error_groups: {self.error_groups} of {generation.images} images ({name}) leave {left} when "
                        f"one is taken away, {metric.kind} needs {metric.fewest}: use more images, or more groups"
                    )

    def generations(self) -> list[tuple[str, Generation]]:
        """Every way in which images are generated, by its path in the spec."""
        rung = [] if self.rung is None else [("rung", self.rung)]
        more = [(f"also.{i}", one.of(self.full)) for i, one in enumerate(self.also)]
        return [("full", self.full), *rung, *more]

    @property
    def comparisons(self) -> list[Metric]:
        """The metrics that compare generated images with real ones."""
        return [metric for metric in self.metrics if isinstance(metric, Metric)]

    @property
    def questions(self) -> list[ModelMetric]:
        """The metrics that ask the network about real images."""
        return [metric for metric in self.metrics if isinstance(metric, ModelMetric)]

    @property
    def is_published(self) -> bool:
        """Whether the reference is a file of statistics, and no images."""
        return self.reference not in ("train", "test")

    def split_of(self, metric: AnyMeasure) -> Split:
        """Which real images it looks at, unless it is compared with published statistics."""
        return metric.split or ("test" if self.reference == "test" else "train")

    def comparisons_with(self, split: Split) -> list[Metric]:
        """Those that compare generated images with images of this split."""
        return [
            one
            for one in self.comparisons
            if self.split_of(one) == split and (one.split is not None or not self.is_published)
        ]

    @property
    def looks_at_test(self) -> bool:
        """Whether something is measured on images that training does not see."""
        return any(self.split_of(metric) == "test" for metric in self.metrics)

    def space_of(self, metric: Metric, part: Literal["full", "rung"] = "full") -> FeatureSpace:
        """Its own, or that of all, as it is under one of the two protocols."""
        space: FeatureSpace = metric.features or self.features
        return space if part == "rung" else space.reported()

    def spaces(self, part: Literal["full", "rung"] = "full") -> list[FeatureSpace]:
        """Every feature space that some metric asks for under this protocol, in their order."""
        asked = [self.space_of(metric, part) for metric in self.comparisons]
        return list({space.digest(): space for space in asked}.values())

    def _only_moments(self) -> None:
        met = [metric for metric in self.comparisons if metric.split is None]
        others = [metric.kind for metric in met if metric.kind != "fid"]
        own = [metric.name for metric in met if metric.features is not None]
        if others or own:
            raise ValueError(
                f"reference: {self.reference} holds mean and covariance in one feature space: it serves fid in "
                f"`features`, not {(others + own)[0]}: leave that out, give it split: train, or use reference: train"
            )

    def points(self, total: int, batch_size: int) -> list[int]:
        """Images seen at each evaluation, rising, the last being `total`; multiples of the training batch."""
        steps = total // batch_size
        if self.every_kimg is not None:
            every = max(1, round(1000 * self.every_kimg / batch_size))
            marks = [*range(every, steps - every // 2, every), steps]
        elif self.spacing == "even":
            marks = [round(steps * (i + 1) / self.evaluations) for i in range(self.evaluations)]
        else:
            marks = [
                round(steps * 0.5 ** (self.evaluations - 1 - i)) for i in range(self.evaluations)
            ]
        return [mark * batch_size for mark in sorted({max(1, mark) for mark in marks})]

    def noises(self, part: Literal["full", "rung"]) -> tuple[int, ...]:
        """The noise seed of every draw. The first is `noise_seed`: more draws leave it as it was."""
        more = range(1, self.draws if part == "full" else 1)
        return (self.noise_seed, *(derive(self.noise_seed, f"evaluate/draw/{k}") for k in more))

    def protocol_id(
        self, metric: AnyMeasure, part: Literal["full", "rung"] | Also, reference: str
    ) -> str:
        """12 hex digits over everything that makes numbers of one metric comparable.

        `reference` identifies the reference statistics: data set, extractor and its weights. The trial's own
        schedule enters only as the answer to `grid: null` ("the trained schedule"), so trials on different
        schedules stay comparable under one rule.
        """
        generation = part.of(self.full) if isinstance(part, Also) else getattr(self, part)
        if isinstance(metric, ModelMetric):
            return self._id_of_question(metric, metric.images or generation.images, reference)
        assert isinstance(metric, Metric)
        parts = {
            "metric": metric.plain().identity(),
            "generation": generation.identity(),
            "reference": reference,
            "noise_seed": self.noise_seed,
            "version": METRIC_VERSION,
        }
        if part != "rung" and self.draws > 1:
            parts["draws"] = self.draws
        return _id(parts)

    def _id_of_question(self, metric: ModelMetric, images: int, reference: str) -> str:
        """Of metrics that generate nothing; `reference` is the data set."""
        return _id(
            {
                "metric": metric.plain().identity(),
                "images": images,
                "reference": reference,
                "noise_seed": self.noise_seed,
                "version": METRIC_VERSION,
            }
        )


def _id(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

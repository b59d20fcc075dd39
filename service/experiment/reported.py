"""Which numbers does a trial report?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.evaluation.averages import ending

if TYPE_CHECKING:
    from trainer.trial import TrialSpec


def metrics(trial: TrialSpec) -> list[str]:
    """Names of the metrics that a trial reports: the full protocol's, of every average, then the cheap one's."""
    names = [metric.name for metric in trial.evaluation.metrics]
    further = [ending(average.called()) for average in trial.averages()[1:]]
    rung = [f"rung/{name}" for name in names] if trial.evaluation.rung is not None else []
    also = [
        f"eval/{metric.name}.{one.name}"
        for one in trial.evaluation.also
        for metric in trial.evaluation.comparisons
    ]
    full = [f"eval/{name}{end}" for end in ("", *further) for name in names]
    return full + rung + also

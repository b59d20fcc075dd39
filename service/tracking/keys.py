"""Which run is meant? Identities that hold over restarts; MLflow's own ids are found by them."""

from __future__ import annotations

PROTOCOL_OF = "protocol."
"""Beginning of the tags that hold a metric's protocol id: `protocol.eval/fid`."""
SEARCH, TUNING = "search", "tuning"
"""The tag of runs that were trained to find a setting, and are no part of a comparison; its value."""
TUNED_BY = "tuned_by"
"""The tag of a compared trial whose setting a search found: the search's id."""
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment, in Markdown."""
VERDICT = "verdict/"
"""Beginning of the metrics of a verdict."""
TRAINING_S, EVALUATION_S = "system/total_training_s", "system/total_evaluation_s"
"""Wall seconds of a trial that ended, over all its attempts."""
FORMER_TOTALS = {TRAINING_S: "sys/seconds", EVALUATION_S: "sys/eval_seconds"}
"""What earlier versions called them."""
_SYSTEM = {"sys/eval_s": "system/evaluation_s"}
"""What a report calls otherwise, apart from the beginning."""


def tracked_name(metric: str) -> str:
    """What MLflow calls a report's metric: it shows `system/...` on a page of its own, beside what was learned."""
    if metric in _SYSTEM:
        return _SYSTEM[metric]
    return f"system/{metric[4:]}" if metric.startswith("sys/") else metric


def reported_name(tracked: str) -> str:
    """The inverse of `tracked_name`."""
    for metric, name in _SYSTEM.items():
        if tracked == name:
            return metric
    return f"sys/{tracked[7:]}" if tracked.startswith("system/") else tracked


def sweep_key(name: str) -> str:
    """The identity of an experiment's sweep run."""
    return f"sweep:{name}"


def trial_run_key(trial_key: str) -> str:
    """The identity of a trial's run inside its experiment."""
    return f"trial:{trial_key}"

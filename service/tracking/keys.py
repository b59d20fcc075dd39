"""Which run is meant? Identities that hold over restarts; MLflow's own ids are found by them."""

from __future__ import annotations

PROTOCOL_OF = "protocol."
"""Beginning of the tags that hold a metric's protocol id: `protocol.eval/fid`."""
SEARCH, TUNING = "search", "tuning"
"""The tag of runs that were trained to find a setting, and are no part of a comparison; its value."""
TUNED_BY = "tuned_by"
"""The tag of a compared trial whose setting a search found: the search's id."""


def sweep_key(name: str) -> str:
    """The identity of an experiment's sweep run."""
    return f"sweep:{name}"


def trial_run_key(trial_key: str) -> str:
    """The identity of a trial's run inside its experiment."""
    return f"trial:{trial_key}"

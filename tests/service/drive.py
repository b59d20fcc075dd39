"""A driver to be killed: runs a sweep and prints its events, one line each, then the outcome."""

import json
import sys
from pathlib import Path

from service import launch
from service.experiment import Experiment
from service.progress import Event, describe
from service.settings import Settings
from tests.service import policies


def main(home: str, yaml: str, policy: str = "") -> int:
    """Run the YAML's experiment in `home`, under a policy of the tests if one is named; its exit code."""
    experiment = Experiment.from_yaml(yaml)
    if policy:
        experiment = policies.with_policy(experiment, getattr(policies, policy)())

    def show(event: Event) -> None:
        print(describe(event, experiment.shown_metrics), flush=True)

    outcome = launch.run(experiment, Settings(home=Path(home), tracking_uri=None), show)
    print(json.dumps(outcome.summary()), flush=True)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

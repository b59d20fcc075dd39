"""Which environment do the processes that train have? Nothing heavy is imported to know it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.resources import Resources

TRAIN_ENVIRONMENT = {
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # 2 s by default for a stopped trial to let its actor go
    "PL_DISABLE_FORK": "1",  # Tune adds it: with the job's environment equal, processes are pooled
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # 2 s by default, and every report waits for it
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",  # for what was on a lost node to be had on another one
    "RAY_TRAIN_V2_ENABLED": "1",
}
"""What Ray Train reads in the driver, in the trial's actor and in its workers."""
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # idle workers that no trial can use
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""What Ray reads in the driver."""


def worker_environment(shapes: Sequence[Resources]) -> dict[str, str]:
    """Variables of the processes that train; where their threads differ, each trial sets its own."""
    return with_threads(min(one.threads for one in shapes))


def with_threads(threads: int) -> dict[str, str]:
    """The same for so many threads a process."""
    own = {name: value for name, value in os.environ.items() if name.startswith("DIFFSWEEP_")}
    return {
        **own,
        **TRAIN_ENVIRONMENT,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads of neighbours cost a factor of 15
    }

"""Which trials may train as one program, as far as their specs say?"""

from __future__ import annotations

from collections.abc import Hashable

from trainer.trial import TrialSpec


def refusal(trial: TrialSpec) -> str | None:
    """Why a trial takes its steps alone; None: it may share a program with others that are `alike`."""
    train, model = trial.train, trial.model.model_dump()
    reasons = {
        "fp16 skips steps of its own": train.precision == "fp16",
        "its network has dropout, drawn from torch's generator": model.get("dropout", 0.0) > 0.0,
        "it computes features again (train.checkpointing)": train.checkpointing,
        "it measures the noise of its gradient (train.gns)": train.gns,
        "its schedule learns, and asks the network, too": trial.diffusion.schedule.learns,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def kind(trial: TrialSpec) -> Hashable:
    """What is equal in the specs of trials that are `alike`, as far as nothing has to be built for it."""
    parts = (trial.model, trial.data, *trial.inputs)
    train = trial.train
    how = (train.batch_size, train.microbatch, train.precision, train.compile)
    heads = trial.diffusion.output_channels(1)
    return (*(one.model_dump_json() for one in parts), heads, how)

"""What a trial takes at its largest is found by doing it: with its own passes, once, in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import gpu_memory
from trainer.data import Drawn
from trainer.distributed import World
from trainer.gpu_memory import exercise, most_bytes
from trainer.step import Step
from trainer.training import Training
from trainer.trial import TrialSpec


def trial(toy: dict[str, Any], **changes: Any) -> TrialSpec:
    return TrialSpec.model_validate({**toy, **changes})


def test_a_batch_in_the_trials_own_passes_and_one_of_an_evaluation(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[int, int]] = []

    accumulate = Step._accumulate

    def watched(self: Step, drawn: Drawn, *, last: bool) -> torch.Tensor:
        passes.append((int(drawn.index[0]), len(drawn.index)))
        return accumulate(self, drawn, last=last)

    monkeypatch.setattr(Step, "_accumulate", watched)
    train = {**toy["train"], "batch_size": 64, "microbatch": 8}
    spec = trial(toy, train=train)
    source = spec.data.load(Path(), tmp_path)

    assert exercise(spec, source, cache=tmp_path) == 0
    count = 2 * gpu_memory._BATCHES
    assert passes == [(8 * i, 8) for i in range(count)], "batches of two passes each"

    passes.clear()
    whole = trial(toy, train={**toy["train"], "batch_size": 64})
    more = exercise(whole, source, cache=tmp_path, workers=2)
    assert passes[:2] == [(0, 32), (32, 32)], "a worker's share"
    network = Training(whole, source, World(0, 1)).learner
    assert more == 4 * sum(p.numel() for p in network.parameters()), "the buckets of DDP"


def test_features_that_are_kept_are_counted_and_likelihoods_are_tried(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    measured = {**toy["evaluation"], "metrics": ["fid", "kid", "nll", "bpd"], "batch_size": 32}
    spec = trial(toy, evaluation=measured)
    width = spec.evaluation.spaces()[0].dimensions(spec.data.shape)
    assert width is not None
    left = spec.evaluation.full.images - 32
    source = spec.data.load(Path(), tmp_path)
    assert exercise(spec, source, cache=tmp_path) == 4 * left * width


def test_a_processor_does_not_tell(toy: dict[str, Any], tmp_path: Path) -> None:
    spec = trial(toy)
    source = spec.data.load(Path(), tmp_path)
    with pytest.raises(ValueError, match="measured on a GPU"):
        most_bytes(spec, source, torch.device("cpu"), cache=tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_tells_what_the_trial_then_takes(toy: dict[str, Any], tmp_path: Path) -> None:
    spec, device = trial(toy), torch.device("cuda")
    source = spec.data.load(Path(), tmp_path)
    most = most_bytes(spec, source, device, cache=tmp_path)
    assert 0 < most < torch.cuda.get_device_properties(device).total_memory
    wide = trial(toy, train={**toy["train"], "batch_size": 4096, "kimg": 40.96})
    assert most_bytes(wide, source, device, cache=tmp_path) >= most

"""Proves that our metrics are torch-fidelity's on the same features, on one worker and spread over two."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from trainer.distributed import World
from trainer.evaluation.features import Extractor
from trainer.evaluation.metric import KINDS
from trainer.evaluation.metric.base import Real
from trainer.evaluation.reference import Gathered

COUNT, WIDTH = 603, 24
HEAD = torch.linspace(-2.0, 2.0, 10 * WIDTH, dtype=torch.float64).sin().reshape(10, WIDTH)
"""The last layer of a made-up classifier."""
SPACE = Extractor(lambda x: x, "none", lambda features: (features.double() @ HEAD.T).softmax(1))
METRICS = [KINDS[kind]() for kind in ("is", "fid", "kid", "precision", "recall")]


def features(seed: int) -> torch.Tensor:
    """float32, correlated, some shared by both sets."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(99))
    return torch.randn(COUNT, WIDTH, generator=generator) @ mixing * (1.0 + 0.2 * seed)


def ours(world: World) -> dict[str, float]:
    """This worker adds its share of the generated features, in batches of 100."""
    real = Gathered(SPACE, METRICS, COUNT)
    real.add(features(1))
    known = real.of_all(World(0, 1))
    share = world.share(COUNT)
    generated = Gathered(SPACE, METRICS, len(share), of=COUNT)
    for rows in features(0)[share.start : share.stop].split(100):
        generated.add(rows)
    found = generated.of_all(world)
    return {
        metric.kind: metric.measure(found, Real(metric.prepare(known), known.features))
        for metric in METRICS
    }


@pytest.fixture(scope="module")
def theirs() -> dict[str, float]:
    """In float64, with all rows as the one subset of KID and without shuffling before the splits of IS.

    As delivered, KID is the mean over 100 random subsets of 1,000 images, each with that bias-free estimate (ours
    is the estimate itself, of less variance), and IS shuffles first.
    """
    x, y = features(0).double(), features(1).double()
    options: dict[str, Any] = {"verbose": False}
    kid = kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=COUNT, **options)
    prc = prc_features_to_metric(x, y, **options)
    fid = fid_statistics_to_metric(
        fid_features_to_statistics(x), fid_features_to_statistics(y), False
    )
    return {
        "is": isc_features_to_metric(x @ HEAD.T, shuffle=False)["inception_score_mean"],
        "fid": fid["frechet_inception_distance"],
        "kid": kid["kernel_inception_distance_mean"],
        "precision": prc["precision"],
        "recall": prc["recall"],
    }


def test_all_four_are_equal_on_the_same_features(theirs: dict[str, float]) -> None:
    assert ours(World(0, 1)) == pytest.approx(theirs, rel=1e-6)
    assert 0.1 < theirs["precision"] < 0.999, "a share that says something"
    assert theirs["is"] > 1.5


def _worker(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    values = ours(World.current())
    np.save(f"{folder}/{rank}.npy", [values[metric.kind] for metric in METRICS])
    dist.destroy_process_group()


def test_they_are_when_features_are_spread_over_two_workers(
    theirs: dict[str, float], tmp_path: Path
) -> None:
    mp.spawn(_worker, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    for rank in range(2):
        found = dict(zip([m.kind for m in METRICS], np.load(tmp_path / f"{rank}.npy"), strict=True))
        assert found == pytest.approx(theirs, rel=1e-6)

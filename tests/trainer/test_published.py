"""Proves that published statistics serve FID as the data would, under an id of their own, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.data import Absent, Gaussians
from trainer.diffusion.process import Diffusion
from trainer.distributed import World
from trainer.errors import UserError
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.protocol import Evaluation
from trainer.evaluation.published import published
from trainer.models import MLP
from trainer.trial import TrialSpec

SOURCE = Gaussians(examples=256).load(Path())


def evaluation(**values: Any) -> Evaluation:
    full = {"images": 64, "steps": 3}
    return Evaluation.model_validate(
        {"full": full, "features": {"kind": "pixels"}, "draws": 1, **values}
    )


def saved(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_they_give_the_number_of_the_data_they_are_of(tmp_path: Path) -> None:
    x = SOURCE.codec.scale(SOURCE.read(torch.arange(256))).double().numpy()
    file = saved(tmp_path / "ref.npz", mu=x.mean(0), sigma=np.cov(x.T))
    torch.manual_seed(0)
    network = MLP(width=16).build((2,))
    data = Evaluator(evaluation(), Diffusion(), SOURCE, tmp_path)
    absent = Absent(SOURCE.codec, "elsewhere", torch.device("cpu"))
    theirs = Evaluator(evaluation(reference=file), Diffusion(), absent, tmp_path)
    one, other = (each.measure(network, "full", World(0, 1)) for each in (data, theirs))
    # moments summed otherwise
    assert other.metrics["eval/fid"] == pytest.approx(one.metrics["eval/fid"], rel=1e-9)
    assert other.protocol["eval/fid"] != one.protocol["eval/fid"]


def test_they_serve_fid_alone() -> None:
    for metric in ("kid", "fid_infinity", {"kind": "fid", "features": {"kind": "inception"}}):
        with pytest.raises(ValueError, match=r"reference: ref\.npz holds mean and covariance"):
            evaluation(reference="ref.npz", metrics=[metric])
    assert "reference" not in evaluation().identity()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, "is of 3 dimensions, `features` has 2"),
        ({"mu": np.zeros(2)}, "lacks mu or sigma"),
        ({"mu": np.zeros(2), "sigma": np.eye(3)}, r"has mu \(2,\) and sigma \(3, 3\)"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 5.0], [0.0, 1.0]])}, "no covariance"),
        ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "no covariance"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [2.0, 1.0]])}, "no covariance"),
        ({"mu": np.zeros(2), "sigma": np.eye(2) * 1j}, "not a .npz file of numbers"),
        ({"mu": np.array([{}, {}]), "sigma": np.eye(2)}, "not a .npz file of numbers"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, arrays: Any, said: str) -> None:
    file = saved(tmp_path / "r.npz", **arrays)
    with pytest.raises(UserError, match=rf"evaluation\.reference: .*{said}"):
        Evaluator(evaluation(reference=file), Diffusion(), SOURCE, tmp_path)


def test_no_file_and_no_archive_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    for name, said in (("none.npz", "No such file"), ("cut.npz", "not a .npz file of numbers")):
        with pytest.raises(UserError, match=said):
            Evaluator(evaluation(reference=str(tmp_path / name)), Diffusion(), SOURCE, tmp_path)


def test_a_trial_is_known_by_their_numbers_not_by_their_place(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    def key(file: str, fingerprint: str = "data") -> str:
        measured = {**toy["evaluation"], "metrics": ["fid"], "reference": file}
        return TrialSpec.model_validate({**toy, "evaluation": measured}).key(fingerprint)

    one = saved(tmp_path / "one.npz", mu=np.zeros(2), sigma=np.eye(2))
    copied = saved(tmp_path / "copy.npz", mu=np.zeros(2), sigma=np.eye(2), more=np.ones(3))
    other = saved(tmp_path / "other.npz", mu=np.zeros(2), sigma=2.0 * np.eye(2))
    assert key(one) == key(copied) != key(other)
    before = key(one)
    saved(tmp_path / "one.npz", mu=np.ones(2), sigma=np.eye(2))
    assert key(one) != before, "new content in the same place"
    assert key(one, "") != key(copied, ""), "nobody has read anything yet"
    assert key(str(tmp_path / "none.npz")), "an absent file is told where it is needed"


def test_float32_statistics_of_fewer_images_than_dimensions_are_a_covariance(
    tmp_path: Path,
) -> None:
    x = np.random.default_rng(0).normal(size=(30, 64))
    file = saved(tmp_path / "r.npz", mu=x.mean(0), sigma=np.cov(x.T).astype(np.float32))
    published(file, 64, torch.device("cpu"))

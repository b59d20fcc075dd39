"""Can a file run code when it is loaded? A pickle is planted where one is read, and every load says no."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_house import ROOT, files
from trainer.data.stored import stored_array
from trainer.evaluation.published import content
from trainer.exchange.openai import read_weights
from trainer.made import MadeAverages
from trainer.record import Record
from trainer.snapshots import Snapshots

CPU = torch.device("cpu")


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def _checkpoint(place: Path, tensors: bytes, _: bytes) -> None:
    folder = place / "checkpoint-000000000064"
    folder.mkdir()
    (folder / "state.pt").write_bytes(tensors)
    manifest = {"images": 64, "sha256": hashlib.sha256(tensors).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    Record(place).newest_state(CPU)


def _snapshot(place: Path, tensors: bytes, _: bytes) -> None:
    (place / "0000000001-ramp.pt").write_bytes(tensors)
    (found,) = Snapshots(place).all()
    found.load(CPU)


def _average(place: Path, tensors: bytes, _: bytes) -> None:
    (place / "mine.pt").write_bytes(tensors)
    MadeAverages(place).load("mine", CPU)


def _weights(place: Path, tensors: bytes, _: bytes) -> None:
    (place / "weights.pt").write_bytes(tensors)
    read_weights(place / "weights.pt")


def _plain_pickle_as_weights(place: Path, _: bytes, plain: bytes) -> None:
    (place / "weights.pt").write_bytes(plain)
    read_weights(place / "weights.pt")


def _published_statistics(place: Path, _: bytes, plain: bytes) -> None:
    (place / "stats.npz").write_bytes(plain)
    content(str(place / "stats.npz"))


def _kept_array(place: Path, _: bytes, plain: bytes) -> None:
    (place / "kept.npy").write_bytes(plain)
    stored_array(place / "kept.npy", (1,))


@pytest.mark.parametrize(
    "load",
    [
        _checkpoint, _snapshot, _average, _weights, _plain_pickle_as_weights, _published_statistics, _kept_array,
    ],
    ids=lambda load: load.__name__.strip("_"),
)  # fmt: skip
@pytest.mark.parametrize("form", ["pickle", "numpy"])
def test_a_planted_pickle_runs_nowhere(
    tmp_path: Path, load: Callable[[Path, bytes, bytes], None], form: str
) -> None:
    trace = tmp_path / "ran"
    tensors, array = io.BytesIO(), io.BytesIO()
    torch.save({"x": Planted(trace)}, tensors)
    np.save(array, np.array([Planted(trace)], dtype=object), allow_pickle=True)
    plain = pickle.dumps(Planted(trace)) if form == "pickle" else array.getvalue()
    place = tmp_path / "place"
    place.mkdir()
    with suppress(Exception):  # how each of them refuses is told by its own tests
        load(place, tensors.getvalue(), plain)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Planted(trace)))
    assert trace.exists(), "the pickle would have left its trace"


LOADERS = {"torch.load": "weights_only", "np.load": "allow_pickle", "read_array": "allow_pickle"}
"""What reads files, and the argument that says whether code may run."""
NEVER = ("pickle.load", "pickle.loads", "joblib.load", "shelve.open", "marshal.load", "marshal.loads", "dill.load",
         "cloudpickle.load", "cloudpickle.loads", "yaml.load", "pd.read_pickle", "eval", "exec")  # fmt: skip
SAFE = {"weights_only": True, "allow_pickle": False}


def unsafe(code: str) -> Iterator[str]:
    """Calls that read what may be somebody else's, and do not say that no code runs."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in NEVER:
            yield name
        asked = [a for loader, a in LOADERS.items() if name.endswith(loader)]
        if not asked:
            continue
        argument, constants = (
            asked[0],
            [w for w in node.keywords if isinstance(w.value, ast.Constant)],
        )
        given = {word.arg: ast.literal_eval(word.value) for word in constants}
        if given.get(argument) is not SAFE[argument]:
            yield name


def test_every_load_says_that_no_code_runs() -> None:
    found = {str(file.relative_to(ROOT)): list(unsafe(file.read_text())) for file in files()}
    assert {file: calls for file, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "code",
    ["torch.load(f)", "np.load(f, allow_pickle=True)", "pickle.loads(b)", "np.lib.format.read_array(f)"],
)  # fmt: skip
def test_a_careless_load_is_seen(code: str) -> None:
    assert list(unsafe(code))

"""Proves that `experiments/README.md` names tests that exist beside what hurt in the ancestors."""

import re
from pathlib import Path

import pytest
import torch

from tests.trainer.exchange.models import spec, trained
from trainer.trained import Trained

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "experiments" / "README.md").read_text().split("\n## What hurt there", 1)[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith("| there ")
]


def test_every_entry_is_a_row_of_three() -> None:
    assert len(ROWS) > 60
    assert [row for row in ROWS if len(row) != 3 or not all(row)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_its_test_exists(row: list[str]) -> None:
    if row[2] == "no test":
        assert row[1].startswith("not here"), "what is here has a test"
        return
    file, _, name = row[2].partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), row[2]


def test_dropout_is_off_in_samples(tmp_path: Path) -> None:
    trial = spec(model={"dropout": 0.5})
    model = Trained.load(trained(trial, tmp_path / "trial"), "cpu")
    first = model.sample(2)
    torch.manual_seed(1)
    assert torch.equal(model.sample(2), first)
    model.network.train()  # then it would not be
    assert not torch.equal(model.sample(2), first)

"""Every kind of every family is found at its path, and every slip of its name is understood."""

from __future__ import annotations

from typing import Any

from trainer.errors import closest
from trainer.evaluation.metric.kernel import KID
from trainer.evaluation.protocol import Evaluation
from trainer.inputs.mirrored import Mirrored
from trainer.trial import TrialSpec
from trainer.yaml.spec_paths import choose, entry, has_short_form, kinds, members, model_at, paths


def all_kinds() -> list[tuple[str, list[str]]]:
    """Every union of the trial with its kinds."""
    found = []
    for path in paths(TrialSpec):
        candidates: list[Any] = [TrialSpec]
        for part in path.split("."):
            candidates = [
                member
                for model in candidates
                if part in model.model_fields
                for member in members(model.model_fields[part].annotation)
            ]
        if len(known := kinds(candidates)) > 1:
            found.append((path, known))
    return found


def test_every_slip_of_a_kind_is_understood() -> None:
    seen = 0
    for _, known in all_kinds():
        for kind in known:
            for at in range(len(kind)):
                for slip in (kind[:at] + kind[at + 1 :], kind[:at] + "x" + kind[at + 1 :]):
                    if len(kind) < 4 or slip in known:
                        continue
                    seen += 1
                    meant = closest(slip, known)
                    assert meant is not None
                    assert meant == kind or _distance(slip, meant) <= _distance(slip, kind)
    assert seen > 100


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y)))
    return row[-1]


def test_choose_finds_the_member_of_a_kind() -> None:
    found = members(TrialSpec.model_fields["data"].annotation)

    assert choose(found, {"kind": "digits"}) is not None
    assert choose(found, {"kind": "digit"}) is None
    assert choose(found, {}) is None


def test_lists_are_looked_into_by_position_and_hold_no_dotted_path() -> None:
    metrics = Evaluation.model_fields["metrics"].annotation
    assert members(metrics) == []
    assert "kid" in kinds(members(entry(metrics)))
    assert has_short_form(entry(metrics))
    assert not has_short_form(entry(TrialSpec.model_fields["inputs"].annotation))
    assert entry(list[int] | None) is int
    assert entry(int | None) is None
    data = {"evaluation": {"metrics": ["fid", {"kind": "kid"}]}, "inputs": [{"kind": "mirrored"}]}
    assert model_at(TrialSpec, data, ("evaluation", "metrics", 1)) is KID
    assert model_at(TrialSpec, data, ("evaluation", "metrics", 0)) is None
    assert model_at(TrialSpec, data, ("evaluation", "metrics")) is None
    assert model_at(TrialSpec, data, ("inputs", 0)) is Mirrored
    known = paths(TrialSpec)
    assert "evaluation.metrics" in known
    assert not [path for path in known if path.startswith(("evaluation.metrics.", "inputs."))]

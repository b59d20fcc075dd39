"""One rule for overrides: a mapping changes the keys it has; one that names its kind replaces the whole value."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.trial import TrialSpec
from trainer.yaml.faults import Fault
from trainer.yaml.keys import covers, split
from trainer.yaml.overrides import Layered, Origin, read_option
from trainer.yaml.source import Source, parse

TRIAL: dict[str, Any] = {
    "data": {"kind": "gaussians", "examples": 512},
    "model": {"kind": "mlp", "width": 32, "depth": 1},
    "diffusion": {
        "schedule": {"kind": "cosine", "steps": 100},
        "timesteps": {"kind": "p2", "gamma": 2.0, "k": 3.0},
        "prediction": {"kind": "velocity"},
    },
    "optimizer": {"lr": 4e-3, "betas": [0.9, 0.99], "weight_decay": 0.05},
    "train": {"kimg": 2.56, "batch_size": 64},
    "evaluation": {"features": {"kind": "pixels"}, "full": {"images": 64, "steps": 4}},
}


def tree(data: dict[str, Any] = TRIAL) -> Layered:
    return Layered(data, Origin(Source("base.yaml", data), ()), TrialSpec)


def merged(path: str, value: Any, on: Layered) -> Layered:
    result = on.merge(split(path), value, Origin(Source("x.yaml", {}), ("arms", "b", path)))
    assert result.problems == []
    return on


def trial(built: Layered) -> TrialSpec:
    model = built.model_or_raise()
    assert isinstance(model, TrialSpec)
    return model


def test_a_mapping_changes_the_keys_it_has() -> None:
    changed = trial(merged("optimizer", {"lr": 1e-3}, tree()))

    assert changed.optimizer.lr == 1e-3
    assert changed.optimizer.betas == (0.9, 0.99)
    assert changed.optimizer.weight_decay == 0.05


def test_a_path_leads_into_an_entry_of_a_default() -> None:
    images = tree({**copy.deepcopy(TRIAL), "data": {"kind": "digits"}})
    changed = trial(merged("evaluation.metrics.0.features", {"kind": "inception"}, images))

    assert [metric.name for metric in changed.evaluation.metrics] == ["fid-inception"]


def test_a_path_leads_into_an_entry_that_is_written() -> None:
    data = {**copy.deepcopy(TRIAL), "data": {"kind": "digits"}}
    data["evaluation"]["metrics"] = ["fid", {"kind": "kid", "features": {"kind": "classifier"}}]
    built = merged("evaluation.metrics.1.features", {"width": 32}, tree(data))
    features = trial(built).evaluation.metrics[1].features

    assert features is not None
    assert features.label() == "classifier(width=32)"


def test_a_mapping_in_a_mapping_does_so_too_and_stops_at_a_kind() -> None:
    value = {"schedule": {"kind": "linear_beta"}, "timesteps": {"gamma": 1.0}}
    changed = trial(merged("diffusion", value, tree())).diffusion

    assert (changed.schedule.kind, changed.schedule.steps) == ("linear_beta", None)
    assert changed.timesteps.model_dump(include={"kind", "gamma", "k"}) == {
        "kind": "p2", "gamma": 1.0, "k": 3.0,
    }  # fmt: skip
    assert changed.prediction.kind == "velocity"


@pytest.mark.parametrize(
    "value", [{"kind": "p2"}, {"kind": "p2", "gamma": 0.5}, {"kind": "uniform"}]
)
def test_a_mapping_with_a_kind_is_the_whole_value(value: dict[str, Any]) -> None:
    """The same trial as one whose preset has that value, whatever was there before."""
    written = json.loads(json.dumps(TRIAL))
    written["diffusion"]["timesteps"] = value

    assert trial(merged("diffusion.timesteps", value, tree())) == trial(tree(written))


def test_what_a_kind_resets_is_told_where_it_is_named() -> None:
    source = parse("arms:\n  b:\n    optimizer: {kind: adamw, lr: 1}\n", "x.yaml")
    result = tree().merge(
        ("optimizer",), {"kind": "adamw", "lr": 1}, Origin(source, ("arms", "b", "optimizer"))
    )

    assert [str(reset) for reset in result.resets] == [
        "x.yaml:3: arms.b.optimizer: names its `kind` and so replaces the whole value: "
        "`weight_decay`, `betas` fall back to the default; leave `kind` out to keep them"
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("diffusion.timesteps", {"kind": "uniform"}),  # another kind: nothing of it can be kept
        ("diffusion.timesteps", {"kind": "p2", "gamma": 1.0, "k": 1.0}),  # all is given again
        ("diffusion.schedule", {"kind": "cosine", "steps": 50}),
        ("diffusion.weighting", {"kind": "p2"}),  # was left to the default
        ("optimizer", {"lr": 1.0}),
        ("optimizer.betas", [0.5, 0.5]),
    ],
)
def test_nothing_is_told_when_nothing_is_reset(path: str, value: Any) -> None:
    result = tree().merge(split(path), value, Origin(Source("x", {}), ()))

    assert result.resets == []
    assert result.problems == []


def test_a_mapping_where_there_is_nothing_is_placed_whole() -> None:
    changed = merged("evaluation.rung", {"images": 32, "steps": 2}, tree())

    assert trial(changed).evaluation.rung is not None


def test_a_mapping_reaches_into_a_default() -> None:
    changed = trial(merged("ema", {"decay": 0.5}, tree()))

    assert changed.ema == trial(tree()).ema.model_copy(update={"decay": 0.5})


def test_an_empty_mapping_changes_nothing() -> None:
    assert trial(merged("optimizer", {}, tree())) == trial(tree())


def test_put_replaces_the_whole_value() -> None:
    changed = tree()
    assert changed.put(("optimizer",), {"lr": 1.0}, Origin(Source("x", {}), ())) is None

    assert trial(changed).optimizer.weight_decay != 0.05


def test_every_wrong_key_of_a_mapping_is_told() -> None:
    origin = Origin(parse("optimizer:\n  lrr: 1\n  bets: 2\n", "x.yaml"), ("optimizer",))
    result = tree().merge(("optimizer",), {"lrr": 1, "bets": 2}, origin)

    assert [str(problem) for problem in result.problems] == [
        "x.yaml:2: optimizer.lrr: unknown key of `adamw`, did you mean `optimizer.lr`?",
        "x.yaml:3: optimizer.bets: unknown key of `adamw`, did you mean `optimizer.betas`?",
    ]


LEAVES = ["optimizer.lr", "optimizer.eps", "train.kimg", "model.width", "diffusion.schedule.offset"]


def nested(paths: dict[str, Any]) -> dict[str, Any]:
    """Dotted paths as mappings in mappings."""
    data: dict[str, Any] = {}
    for path, value in paths.items():
        *above, last = path.split(".")
        holder = data
        for part in above:
            holder = holder.setdefault(part, {})
        holder[last] = value
    return data


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(LEAVES), st.floats(0.01, 0.9), min_size=1))
def test_nested_and_dotted_say_the_same(values: dict[str, float]) -> None:
    dotted_tree, nested_tree = tree(), tree()
    for path, value in values.items():
        merged(path, value, dotted_tree)
    for key, value in nested(values).items():
        merged(key, value, nested_tree)

    assert nested_tree.data == dotted_tree.data


def test_keys() -> None:
    assert split("optimizer.betas.0") == ("optimizer", "betas", 0)
    assert split("betas.²") == ("betas", "²"), "a digit of Unicode is no position"
    assert split("a." + "9" * 5000)[1] == "9" * 5000
    assert covers(("a",), ("a", "b"))
    assert not covers(("a", "b"), ("a",))


def test_an_option_is_a_path_and_a_value_of_yaml() -> None:
    path, source = read_option("optimizer.betas=[0.9, 0.99]")

    assert (path, source.data) == ("optimizer.betas", [0.9, 0.99])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"optimizer": {"lr": 10**30}}, "`" + "1" + "0" * 30 + "` is too large"),
        ({"train": {"kimg": 1e300}}, "must be 1,000,000,000 or less, not `1e+300`"),
        ({"diffusion": {"schedule": {"steps": 10**12}}}, "must be 1,000,000 or less"),
        ({"model": {"depth": 10**9}}, "must be 1,000 or less"),
        ({"evaluation": {"every_kimg": 1e-9}}, "must be 0.001 or more"),
        ({"evaluation": {"evaluations": 10**12}}, "must be 10,000 or less"),
    ],
)
def test_a_number_with_too_many_zeros_is_told_before_it_fills_the_memory(
    value: dict[str, Any], said: str
) -> None:
    built = tree()
    for key, item in value.items():
        merged(key, item, built)

    faults = built.faults()

    assert isinstance(faults, list)
    assert isinstance(faults[0], Fault)
    assert said in faults[0].message

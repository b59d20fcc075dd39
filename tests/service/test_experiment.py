"""A YAML becomes the cells it says: every combination once, every path replaced, every digest stable."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.dispatch import Dispatch
from service.experiment import Experiment
from service.experiment.comparison import common_kimg
from service.experiment.occupying import shapes_lines
from service.experiment.saved import SAVED, read_saved, save
from service.ledger import Ledger
from service.resources import Capacity, Resources
from service.search.study import studies
from service.settings import Settings
from service.tracking.outbox import Outbox
from trainer.diffusion.passport import total_variation
from trainer.errors import InputError, Problem
from trainer.inputs.mirrored import Mirrored
from trainer.trial import TrialSpec
from trainer.yaml.keys import split
from trainer.yaml.overrides import Layered, Origin
from trainer.yaml.source import Source, parse

ROOT = Path(__file__).parents[2]
TOY: dict[str, Any] = {
    "data": {"kind": "gaussians", "examples": 512},
    "model": {"kind": "mlp", "width": 32, "depth": 1},
    "train": {"kimg": 2.56, "batch_size": 64},
    "evaluation": {
        "evaluations": 4,
        "features": {"kind": "pixels"},
        "full": {"images": 256, "steps": 8},
        "rung": {"images": 64, "steps": 4},
    },
}
P2 = {"kind": "p2", "gamma": 0.5, "k": 1.0}


def experiment(data_root: Path | None = None, **parts: Any) -> Experiment:
    return Experiment.from_mapping({"name": "x", "base": TOY, **parts}, data_root=data_root)


def tree(data: dict[str, Any] = TOY) -> Layered:
    return Layered(data, Origin(Source("f", data), ()), TrialSpec)


def put(on: Layered, path: str, value: Any) -> Problem | None:
    return on.put(split(path), value, Origin(Source("o", value), ()))


# --- what is combined ---------------------------------------------------------


def test_arms_axes_and_zip_combine_in_order() -> None:
    found = experiment(
        arms={"uniform": {}, "under": {"diffusion.timesteps": P2}},
        axes={"optimizer.lr": [1e-3, 2e-3]},
        zip={"train.kimg": [2.56, 5.12], "train.batch_size": [64, 128]},
    )

    assert [cell.name for cell in found.cells] == [
        f"{arm},lr={lr},kimg={kimg},batch_size={batch}"
        for arm, lr, (kimg, batch) in itertools.product(
            ("uniform", "under"), ("0.001", "0.002"), (("2.56", 64), ("5.12", 128))
        )
    ]
    last = found.cells[-1].trial
    assert (last.diffusion.timesteps.kind, last.optimizer.lr) == ("p2", 2e-3)
    assert (last.train.kimg, last.train.batch_size) == (5.12, 128)
    assert found.cells[-1].overrides == {
        "diffusion.timesteps": P2,
        "optimizer.lr": 2e-3,
        "train.kimg": 5.12,
        "train.batch_size": 128,
    }


def test_an_axis_may_set_what_the_members_of_an_arm_leave_to_their_defaults() -> None:
    found = experiment(
        arms={"sgd": {"optimizer": {"kind": "sgd", "momentum": 0.5}}, "adam": {}},
        axes={"optimizer.lr": [1e-3, 2e-3]},
    )

    moved = [(cell.trial.optimizer.kind, cell.trial.optimizer.lr) for cell in found.cells]
    assert moved == [("sgd", 1e-3), ("sgd", 2e-3), ("adamw", 1e-3), ("adamw", 2e-3)]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lr=st.lists(st.floats(1e-5, 1e-1), min_size=1, max_size=3, unique=True),
    depth=st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True),
    seeds=st.lists(st.integers(0, 2**31), min_size=1, max_size=3, unique=True),
)
def test_axes_expand_to_every_point_once(
    lr: list[float], depth: list[int], seeds: list[int]
) -> None:
    found = experiment(axes={"optimizer.lr": lr, "model.depth": depth}, seeds=seeds)

    points = [(cell.trial.optimizer.lr, cell.trial.model.depth) for cell in found.cells]  # type: ignore[union-attr]
    assert points == list(itertools.product(lr, depth))
    assert len({cell.name for cell in found.cells}) == len(found.cells)
    assert sorted((t.cell, t.seed) for t in found.trials) == sorted(
        (cell.name, seed) for cell in found.cells for seed in seeds
    )
    assert len({t.key for t in found.trials}) == len(found.trials)
    assert all(t.spec.seed == t.seed for t in found.trials)


def test_seeds_alternate_slowest_so_that_pairs_finish_together() -> None:
    found = experiment(arms={"a": {}, "b": {"optimizer.lr": 1e-3}}, seeds=[5, 3])

    assert [(t.cell, t.seed) for t in found.trials] == [("a", 5), ("b", 5), ("a", 3), ("b", 3)]


def test_nothing_varied_is_one_cell() -> None:
    found = experiment()

    assert [cell.name for cell in found.cells] == ["base"]
    assert found.baseline is None
    assert found.seeds == [0, 1, 2, 3, 4, 5], "the fewest that can decide"


def test_an_arm_without_anything_after_it_is_the_base() -> None:
    text = json.dumps({"name": "x", "base": TOY})[:-1] + ", arms: {a: , b: {optimizer.lr: 1e-3}}}"

    found = Experiment.from_mapping(parse(text, "f").data)

    assert found.cells[0].overrides == {}
    assert found.cells[1].trial.optimizer.lr == 1e-3


@pytest.mark.parametrize(
    ("parts", "baseline"),
    [
        ({"arms": {"b": {"optimizer.lr": 1e-3}, "a": {}}}, "a"),
        ({"axes": {"optimizer.lr": [1e-3, 2e-3]}}, "lr=0.001"),
        ({"arms": {"a": {}, "b": {"optimizer.lr": 1e-3}}, "compare": {"baseline": "b"}}, "b"),
    ],
)
def test_the_baseline_is_the_named_cell_else_the_base_else_the_first(
    parts: dict[str, Any], baseline: str
) -> None:
    assert experiment(**parts).baseline == baseline


def test_a_baseline_arm_may_say_what_the_base_says() -> None:
    arms = {"plain": {"diffusion.timesteps": {"kind": "uniform"}}, "b": {"optimizer.lr": 1e-3}}

    found = experiment(arms=arms, compare={"baseline": "plain"})

    assert [cell.name for cell in found.cells] == ["plain", "b"]


# --- what overrides do ----------------------------------------------------------


def test_a_value_at_a_path_replaces_what_is_there() -> None:
    base = {**TOY, "diffusion": {"timesteps": {"kind": "lognormal", "mean": -1.0, "std": 2.0}}}

    found = Experiment.from_mapping(
        {"name": "x", "base": base, "set": {"diffusion.timesteps": {"kind": "p2"}}}
    )

    assert found.cells[0].trial.diffusion.timesteps.kind == "p2"


def test_setting_inside_a_union_member_keeps_the_rest_of_it() -> None:
    base = {**TOY, "diffusion": {"timesteps": {"kind": "p2", "gamma": 2.0}}}

    found = Experiment.from_mapping(
        {"name": "x", "base": base, "set": {"diffusion.timesteps.k": 3.0}}
    )

    timesteps = found.cells[0].trial.diffusion.timesteps
    assert timesteps.model_dump(include={"kind", "gamma", "k"}) == {
        "kind": "p2",
        "gamma": 2.0,
        "k": 3.0,
    }


def test_a_path_reaches_into_what_is_left_to_the_default() -> None:
    found = experiment(
        set={"ema.decay": 0.5, "diffusion.schedule.steps": 50, "optimizer.betas.1": 0.5}
    )

    trial = found.cells[0].trial
    assert trial.ema.decay == 0.5
    assert trial.diffusion.schedule.kind == "cosine"
    assert trial.diffusion.schedule.steps == 50
    assert trial.optimizer.betas == (0.9, 0.5)


def in_yaml(tmp_path: Path, text: str, overrides: tuple[str, ...] = ()) -> Experiment:
    """An experiment on a preset that sets more than one thing of optimizer and diffusion."""
    optimizer = {"lr": 4e-3, "betas": [0.9, 0.99], "weight_decay": 0.05}
    diffusion = {"schedule": {"kind": "cosine", "steps": 100}, "prediction": {"kind": "velocity"}}
    preset = {**TOY, "optimizer": optimizer, "diffusion": diffusion}
    (tmp_path / "preset.yaml").write_text(json.dumps(preset))
    (tmp_path / "x.yaml").write_text("name: x\nbase: preset.yaml\n" + text)
    return Experiment.from_yaml(tmp_path / "x.yaml", overrides)


NESTED = """\
arms:
  plain: {}
  slow:
    optimizer:
      lr: 1e-3
  other:
    diffusion:
      schedule: {kind: linear_beta, steps: 100}
    train: {kimg: 5.12}
"""


def test_an_arm_of_nested_mappings_changes_what_it_names(tmp_path: Path) -> None:
    plain, slow, other = (cell.trial for cell in in_yaml(tmp_path, NESTED).cells)

    assert slow == plain.model_copy(
        update={"optimizer": plain.optimizer.model_copy(update={"lr": 1e-3})}
    )
    assert (other.diffusion.schedule.kind, other.diffusion.schedule.steps) == ("linear_beta", 100)
    assert other.diffusion.prediction == plain.diffusion.prediction
    assert (other.train.kimg, other.train.batch_size) == (5.12, plain.train.batch_size)


def test_overrides_are_named_by_their_dotted_paths(tmp_path: Path) -> None:
    found = in_yaml(tmp_path, NESTED)

    assert found.cells[1].overrides == {"optimizer.lr": 1e-3}
    assert found.cells[2].overrides == {
        "diffusion.schedule": {"kind": "linear_beta", "steps": 100},
        "train.kimg": 5.12,
    }


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("set: {optimizer: {lr: 1e-3}}", ()),
        ("axes: {optimizer: [{lr: 1e-3}]}", ()),
        ("zip: {optimizer: [{lr: 1e-3}]}", ()),
        ("", ("optimizer={lr: 1e-3}",)),
        ("arms: {a: {optimizer: {lr: 2}}}", ("arms.a.optimizer.lr=1e-3",)),
        ("arms: {a: {optimizer: {lr: 2}}}", ("arms.a.optimizer={lr: 1e-3}",)),
        ("arms:\n  a:\n", ("arms.a.optimizer.lr=1e-3",)),
    ],
)
def test_the_rule_of_mappings_holds_wherever_a_trial_is_changed(
    tmp_path: Path, text: str, overrides: tuple[str, ...]
) -> None:
    optimizer = in_yaml(tmp_path, text, overrides).cells[0].trial.optimizer

    assert optimizer.lr == 1e-3
    assert (optimizer.betas, optimizer.weight_decay) == ((0.9, 0.99), 0.05)


def test_a_mapping_in_an_option_keeps_the_rest_of_the_experiments_parts(tmp_path: Path) -> None:
    found = in_yaml(
        tmp_path, "compare: {metric: rung/fid, margin: 0.1}", ("compare={margin: 0.2}",)
    )

    assert (found.spec.compare.metric, found.spec.compare.margin) == ("rung/fid", 0.2)


def test_what_a_kind_resets_is_noted(tmp_path: Path) -> None:
    found = in_yaml(tmp_path, "arms: {a: {}, b: {optimizer: {kind: adamw, lr: 1e-3}}}")

    assert found.cells[1].trial.optimizer.weight_decay == 0.0
    (note,) = found.notes
    assert note.endswith(
        "x.yaml:3: arms.b.optimizer: names its `kind` and so replaces the whole value: "
        "`weight_decay`, `betas` fall back to the default; leave `kind` out to keep them"
    )


def test_the_twin_of_a_nested_arm_takes_its_place(tmp_path: Path) -> None:
    nested = "    diffusion:\n      timesteps: {kind: p2, gamma: 0.5}\n"
    dotted = "    diffusion.timesteps: {kind: p2, gamma: 0.5}\n"
    head = "controls: equal_objective\narms:\n  a: {}\n  b:\n"

    one, other = (in_yaml(tmp_path, head + arm).cells for arm in (nested, dotted))

    assert [cell.name for cell in one] == ["a", "b", "b~equal"]
    assert one == other


LEAVES = [
    ("optimizer.lr", st.floats(1e-6, 1.0)),
    ("train.batch_size", st.integers(1, 2000)),
    ("model.width", st.integers(1, 512)),
    ("diffusion.schedule.offset", st.floats(0.0, 0.5)),
    ("optimizer.betas.0", st.floats(0.0, 0.99)),
    ("evaluation.full.images", st.integers(2, 5000)),
]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_override_changes_its_path_and_nothing_else(data: st.DataObject) -> None:
    path, values = data.draw(st.sampled_from(LEAVES))
    value = data.draw(values)
    before = TrialSpec.model_validate(TOY).model_dump(mode="json")
    changed = tree(before)

    assert put(changed, path, value) is None

    expected = json.loads(json.dumps(before))
    *above, last = split(path)
    holder = expected
    for key in above:
        holder = holder[key]
    holder[last] = value
    assert changed.data == expected


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([p for p, _ in LEAVES]), st.sampled_from([p for p, _ in LEAVES]))
def test_overrides_of_different_paths_commute(first: str, second: str) -> None:
    one, other = tree(), tree()
    values = {path: 0.25 if "." in path and "lr" in path else 1 for path in (first, second)}

    for path in (first, second):
        assert put(one, path, values[path]) is None
    for path in (second, first):
        assert put(other, path, values[path]) is None

    assert one.data == other.data


def test_the_tree_that_was_given_is_not_touched() -> None:
    before = json.dumps(TOY)

    experiment(set={"model.width": 5}, axes={"model.depth": [1, 2]})

    assert json.dumps(TOY) == before


def test_a_complaint_points_at_the_latest_origin() -> None:
    base = parse("optimizer: {lr: 1}\n", "base.yaml")
    built = Layered(base.data, Origin(base, ()), TrialSpec)
    arms = parse("arms:\n  b:\n    optimizer.betas: [0.9, 2]\n", "x.yaml")
    built.put(("optimizer", "betas"), [0.9, 2], Origin(arms, ("arms", "b", "optimizer.betas")))

    assert (
        str(built.problem(("optimizer", "betas", 1), "no"))
        == "x.yaml:3: arms.b.optimizer.betas[1]: no"
    )
    assert str(built.problem(("optimizer", "lr"), "no")) == "base.yaml:1: optimizer.lr: no"


# --- the command line --------------------------------------------------------------


def test_options_reach_the_trial_and_the_experiment() -> None:
    data = {"name": "x", "base": TOY, "arms": {"a": {}, "b": {"optimizer.lr": 1e-3}}}

    found = Experiment.from_mapping(
        data,
        overrides=[
            "train.kimg=5.12",
            "seeds=[7, 9]",
            "compare.margin=0.1",
            "diffusion.schedule={kind: cosine, steps: 20}",
            "arms.b.optimizer.lr=2e-3",
            "arms.c={model.depth: 3}",
        ],
    )

    assert found.seeds == [7, 9]
    assert found.spec.compare.margin == 0.1
    assert [cell.name for cell in found.cells] == ["a", "b", "c"]
    assert {cell.trial.train.kimg for cell in found.cells} == {5.12}
    assert {cell.trial.diffusion.schedule.steps for cell in found.cells} == {20}
    assert found.cells[1].trial.optimizer.lr == 2e-3


def test_options_win_over_set() -> None:
    found = Experiment.from_mapping(
        {"name": "x", "base": TOY, "set": {"train.kimg": 5.12}}, overrides=["train.kimg=7.68"]
    )

    assert found.cells[0].trial.train.kimg == 7.68


def test_an_axis_can_be_added_by_option() -> None:
    found = Experiment.from_mapping(
        {"name": "x", "base": TOY}, overrides=["axes.optimizer.lr=[1e-3, 2e-3]"]
    )

    assert [cell.trial.optimizer.lr for cell in found.cells] == [1e-3, 2e-3]


# --- controls ------------------------------------------------------------------------


def test_the_twin_has_the_same_objective_by_other_means() -> None:
    found = experiment(
        arms={"uniform": {}, "under": {"diffusion.timesteps": P2}, "lr": {"optimizer.lr": 1e-3}},
        controls="equal_objective",
    )

    names = [cell.name for cell in found.cells]
    assert names == ["uniform", "under", "under~equal", "lr"]
    under, twin = found.cells[1].trial.diffusion, found.cells[2].trial.diffusion
    assert twin.timesteps.kind == "uniform"
    assert twin.weighting.kind == "p2"
    assert total_variation(under, twin) < 1e-9
    assert found.baseline == "uniform"


def test_a_twin_that_is_an_arm_already_is_not_added() -> None:
    data: dict[str, Any] = {
        "arms": {"uniform": {}, "under": {"diffusion.timesteps": P2}},
        "controls": "equal_objective",
    }
    twin = experiment(**data).cells[2]
    data["arms"] = {**data["arms"], "mine": twin.overrides}

    found = experiment(**data)

    assert [cell.name for cell in found.cells] == ["uniform", "under", "mine"]
    assert "`mine` is the equal-objective twin of `under` already" in found.notes


def test_a_control_that_adds_nothing_says_so() -> None:
    found = experiment(arms={"a": {}, "b": {"optimizer.lr": 1e-3}}, controls=["equal_objective"])

    assert found.notes == ("controls: equal_objective adds nothing: no cell has such a twin",)


# --- identity ------------------------------------------------------------------------


def test_writing_the_same_differently_gives_the_same_keys(tmp_path: Path) -> None:
    short = {"data": {"kind": "gaussians", "examples": 512}, **TOY}
    long = TrialSpec.model_validate(TOY).model_dump(mode="json", exclude={"seed"})
    (tmp_path / "p.yaml").write_text(json.dumps(long))

    keys = [
        [
            t.key
            for t in Experiment.from_mapping(
                {"name": name, "base": base, "seeds": 2}, tmp_path
            ).trials
        ]
        for name, base in (("a", TOY), ("b", short), ("c", long), ("d", "p.yaml"))
    ]

    assert keys[0] == keys[1] == keys[2] == keys[3]


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.floats(1e-6, 1.0))
def test_the_order_of_keys_changes_no_digest(random: Any, lr: float) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        items = [(key, shuffled(item)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)

    data = {**TOY, "optimizer": {"kind": "adamw", "lr": lr, "weight_decay": 0.1}}

    assert (
        TrialSpec.model_validate(shuffled(data)).digest() == TrialSpec.model_validate(data).digest()
    )


def test_a_digest_survives_the_round_trip_through_json() -> None:
    for cell in experiment(axes={"optimizer.lr": [1e-3, 0.1, 1 / 3]}).cells:
        again = TrialSpec.model_validate_json(cell.trial.model_dump_json())
        assert again == cell.trial
        assert again.digest() == cell.trial.digest()


def test_resources_and_launcher_are_no_part_of_a_trial() -> None:
    one = experiment(resources={"workers": 1}).trials
    more = {"workers": 4, "gpus": 1, "on_oom": "fail"}
    other = experiment(resources=more, launcher="train").trials

    assert [t.key for t in one] == [t.key for t in other]


def wide(**more: Any) -> Experiment:
    arms = {
        "narrow": {},
        "wide": {"model.width": 64, "resources.workers": 2, "resources.gpus": 0.5},
    }
    return experiment(arms=arms, resources={"cpus": 3}, **more)


def test_a_cell_may_occupy_something_else_and_its_trials_are_the_same() -> None:
    found = wide()
    plain = experiment(arms={"narrow": {}, "wide": {"model.width": 64}})

    assert [t.key for t in found.trials] == [t.key for t in plain.trials]
    narrow, other = found.cells
    assert narrow.resources == Resources(cpus=3)
    assert other.resources == Resources(cpus=3, workers=2, gpus=0.5)
    assert other.overrides == {"model.width": 64}
    assert found.shapes == (narrow.resources, other.resources)
    assert {t.cell: t.resources for t in found.trials} == {
        "narrow": narrow.resources,
        "wide": other.resources,
    }


@pytest.mark.parametrize(
    "parts",
    [
        {"arms": {"wide": {"model.width": 64, "resources": {"workers": 2}}}},
        {"arms": {"wide": {"model": {"width": 64}, "resources.workers": 1}}, "options": True},
        {"zip": {"model.width": [64, 32], "resources.workers": [2, 1]}},
    ],
)
def test_resources_are_said_like_any_override(parts: dict[str, Any]) -> None:
    options = ["arms.wide.resources.workers=2"] if parts.pop("options", False) else []
    data = {"name": "x", "base": TOY, "resources": {"cpus": 2}, **parts}
    first = Experiment.from_mapping(data, overrides=options).cells[0]
    assert first.resources == Resources(workers=2, cpus=2)
    assert first.name in ("wide", "width=64"), "no part of its name"
    assert list(first.overrides) == ["model.width"]


def test_an_option_for_all_leaves_what_a_cell_says_itself() -> None:
    data = {"name": "x", "base": TOY, "arms": {"a": {}, "b": {"resources.cpus": 4, "seed": 1}}}
    data["arms"]["b"] = {"model.width": 64, "resources.cpus": 4}
    found = Experiment.from_mapping(data, overrides=["resources.cpus=2", "resources.gpus=1"])
    assert [cell.resources for cell in found.cells] == [
        Resources(cpus=2, gpus=1),
        Resources(cpus=4, gpus=1),
    ]


def test_an_elastic_cell_may_be_given_what_divides_its_batch() -> None:
    workers = {"least": 2, "most": 20}
    (cell,) = experiment(resources={"workers": workers, "gpus": 1}).cells
    assert [one.workers for one in cell.choices] == [2, 4, 8, 16]
    assert {one.gpus for one in cell.choices} == {1}
    assert cell.resources.workers == 16, "until it is known what fits"
    assert cell.within(Capacity(cpus=9, gpus=9)).resources.workers == 8
    assert cell.within(Capacity(cpus=1, gpus=1)).resources.workers == 2, "the least in any case"
    found = experiment(resources={"workers": workers})
    assert [t.key for t in found.trials] == [t.key for t in experiment().trials]
    assert {t.resources.workers for t in found.trials} == {16}
    assert "2 to 20 x (1 CPU)" in shapes_lines(found.cells)[0]


def test_a_twin_and_a_candidate_occupy_what_their_cell_does(tmp_path: Path) -> None:
    arms = {"a": {}, "b": {"diffusion.timesteps": P2, "resources.cpus": 2}}
    twins = experiment(arms=arms, controls="equal_objective")
    assert [cell.resources.cpus for cell in twins.cells] == [1, 2, 2]
    space = {"optimizer.lr": {"log": [1e-3, 1e-2]}}
    tuned = experiment(arms=arms, search={"space": space, "trials": 2})
    for study in studies(tuned, Settings(home=tmp_path)):
        assert {t.resources for t in study.trials(study.ask())} == {study.cells[0].resources}


def test_what_cells_occupy_comes_back(tmp_path: Path) -> None:
    found = wide()

    save(found, tmp_path)
    again = read_saved(tmp_path)

    assert again.trials == found.trials
    assert again.shapes == found.shapes
    assert again.resolved() == found.resolved()
    told = found.resolved()["cells"]
    assert ("resources" in told["narrow"], "resources" in told["wide"]) == (False, True)


def test_adding_a_seed_keeps_the_others() -> None:
    two = {t.key for t in experiment(seeds=2).trials}
    three = {t.key for t in experiment(seeds=3).trials}

    assert two < three


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    found = experiment(
        arms={"a": {}, "b": {"diffusion.timesteps": P2}}, seeds=[3, 1], controls="equal_objective"
    )

    save(found, tmp_path)
    again = read_saved(tmp_path)

    assert again.trials == found.trials
    assert [cell.name for cell in again.cells] == [cell.name for cell in found.cells]
    assert (again.baseline, again.metric, again.seeds) == ("a", "eval/fid", [3, 1])
    assert again.resolved() == found.resolved()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[" * 100_000,
        lambda _: "[]",
        lambda text: text.replace('"trials"', '"trails"'),
        lambda text: text.replace('"overrides": {}', '"overrides": 3'),
        lambda text: text.replace('"kind": "mlp"', '"kind": "mpl"'),
        lambda text: text.replace('"cell": "a"', '"cell": "z"'),
    ],
    ids=["cut", "empty", "deep", "list", "no trials", "no overrides", "no kind", "no cell"],
)
def test_what_is_saved_and_damaged_is_told(tmp_path: Path, damage: Callable[[str], str]) -> None:
    save(experiment(arms={"a": {}, "b": {"diffusion.timesteps": P2}}), tmp_path)
    file = tmp_path / SAVED
    before = file.read_text()
    file.write_text(damage(before))
    assert file.read_text() != before

    with pytest.raises(InputError, match=r"experiment\.json: is damaged.*: run the .* YAML again"):
        read_saved(tmp_path)


def test_a_network_is_tried_on_the_data_with_all_that_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An input may need so many channels that a network, which is fine without it, cannot be built."""
    monkeypatch.setattr(Mirrored, "planes", lambda *_: 10**17)
    base = TOY | {
        "data": {"kind": "image_folder", "path": "not read", "size": 8},
        "model": {"kind": "unet", "channels": [8], "groups": 4},
    }
    inputs = {"inputs": [{"kind": "mirrored"}]}
    assert len(experiment(base=base, arms={"a": {}, "b": {"train.batch_size": 32}}).cells) == 2
    with pytest.raises(InputError, match="is too large to be built"):
        experiment(base=base, arms={"plain": {}, "told": inputs})


# --- notes ------------------------------------------------------------


def test_cells_that_cannot_be_compared_plainly_are_noted() -> None:
    found = experiment(axes={"train.kimg": [2.56, 5.12], "evaluation.full.steps": [8, 9]})

    assert len(found.notes) == 2
    assert "different budgets" in found.notes[0]
    assert "evaluated differently" in found.notes[1]


def test_evaluations_that_differ_in_when_or_how_fast_are_compared() -> None:
    both = {"evaluation.evaluations": [4, 5], "evaluation.batch_size": [100, 200]}

    assert len(experiment(zip=both, compare={"metric": "eval/fid"}).cells) == 2
    rung_only = {"axes": {"evaluation.full.steps": [8, 9]}, "compare": {"metric": "rung/fid"}}
    assert len(experiment(**rung_only).cells) == 2
    draws = {"axes": {"evaluation.draws": [1, 3]}, "compare": {"metric": "rung/fid"}}
    assert len(experiment(**draws).cells) == 2, "the curve has one noise anyway"


DOUBTS: list[tuple[dict[str, Any], str]] = [
    (
        {"ema": {"kind": "constant", "decay": 0.9999999}},
        "`b`: ema: more than 99 % of what is evaluated after 40 updates are the initial weights, which the average "
        "keeps for long: write a smaller decay, such as 0.75, or kind: ramp",
    ),
    ({"ema": {"kind": "constant", "decay": 0.99}}, "`b`: ema: 67 % of what is evaluated after 40"),
    (
        {"ema": [{"kind": "ramp"}, {"kind": "inverse_power", "least": 0.99, "start": 9999}]},
        "`b`: ema[1]: 67 % of what is evaluated after 40",
    ),
    (
        {"ema": {"kind": "inverse_power", "start": 10**6}},
        "`b`: ema.start: the decay begins to rise after 1,000,000 updates, the trial has 40: it stays 0",
    ),
    (
        {"optimizer.lr_schedule": {"kind": "constant", "warmup_kimg": 2560}},
        "`b`: optimizer.lr_schedule.warmup_kimg: a warm-up of 2,560 kimg takes the whole budget of 2.56: the learning "
        "rate reaches 0.1 % of optimizer.lr; write a shorter one, or raise train.kimg",
    ),
    (
        {"optimizer.lr_schedule": {"kind": "cosine", "warmup": "exponential", "warmup_kimg": 2.56}},
        "a warm-up of 2.56 kimg takes the whole budget of 2.56: the learning rate reaches 23 % of",
    ),
    (
        {"optimizer.lr_schedule": {"kind": "exponential", "half_life_kimg": 0.001}},
        "`b`: optimizer.lr_schedule: its mean over the budget is 2.5 % of optimizer.lr, so that hardly an update moves",
    ),
    (
        {"evaluation.evaluations": 5000},
        "`b`: evaluation.evaluations: 5,000 are 40, as the budget has 40 steps and two cannot share one",
    ),
    (
        {"evaluation.full.solver": {"kind": "dpm_adaptive", "first_step": 10, "max_step": 1}},
        "`b`: evaluation.full.solver.first_step: 10 exceeds max_step: 1, which is taken",
    ),
    (
        {"evaluation.full.solver": {"kind": "dpm_adaptive", "rtol": 1000}},
        "`b`: evaluation.full.solver.rtol: 1000 allows an error as large as the images, so that any step is taken",
    ),
    (
        {"evaluation.metrics": ["fid", {"kind": "nll", "log_snr_min": 0, "log_snr_max": 0.001}]},
        "`b`: evaluation.metrics: nll goes from log-SNR 0.001 to 0 alone, so that the network hardly has a part in it",
    ),
]
LABELLED = {"model.classes": 8, "train.label_dropout": 0.1}
CONDITIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"train.label_dropout": 0.95},
        "`b`: train.label_dropout: 95 % of the examples are shown without label, so that the network hardly learns",
    ),
    (
        {"train.label_dropout": 1e-9, "evaluation.full.guidance": {"scale": 3}},
        "`b`: train.label_dropout: 1e-07 % of the examples are shown without label, and evaluation.full.guidance",
    ),
    (
        {"evaluation.full.guidance": {"scale": 1000}},
        "`b`: evaluation.full.guidance.scale: 1000 goes so many times further than the network says",
    ),
]


@pytest.mark.parametrize(("arm", "said"), CONDITIONS)
def test_labels_that_are_hardly_shown_or_hardly_hidden_are_noted(
    arm: dict[str, Any], said: str
) -> None:
    guided = {"evaluation.full.guidance": {"scale": 3}}
    assert len(experiment(set=LABELLED, arms={"a": {}, "b": guided}).notes) == 1

    notes = experiment(set=LABELLED, arms={"a": {}, "b": arm}).notes

    assert [said in note for note in notes if "evaluated differently" not in note] == [True], notes


def test_guidance_between_levels_that_no_step_meets_is_noted() -> None:
    guided = {"evaluation.full.guidance": {"scale": 3, "log_snr_min": 0, "log_snr_max": 8}}
    beyond = {"evaluation.full.guidance": {"scale": 3, "log_snr_min": 50}}
    lines = experiment(set=LABELLED, arms={"a": {}, "b": guided, "c": beyond}).findings()

    (said,) = [line for line in lines if "no step is guided" in line]
    assert said.startswith(
        "`c` is guided at log-SNR from 50 on (evaluation.full.guidance) and generated at 9 to -9"
    )


def test_guidance_by_labels_that_are_never_shown_is_refused() -> None:
    """Without guidance it is a control: the same network, unconditionally."""
    never = {**LABELLED, "train.label_dropout": 1.0}
    with pytest.raises(InputError, match="label_dropout: 1 hides the label of every example"):
        experiment(set={**never, "evaluation.full.guidance": {"scale": 2}})
    assert any("100 % of the examples" in line for line in experiment(set=never).findings())


def test_guidance_between_two_levels_is_no_matter_for_solvers_that_look_there() -> None:
    between = {
        "evaluation.full.guidance": {"scale": 3, "log_snr_min": -3.5, "log_snr_max": 0.5},
        "evaluation.full.steps": 4,
        "evaluation.full.solver": {"kind": "dpm_2"},
    }
    lines = experiment(set={**LABELLED, **between}).findings()
    assert not any("no step is guided" in line for line in lines)


def test_twins_are_counted_where_they_can_be_asked_for() -> None:
    """Half of 20 cells moved their times, and have no twin: 8,000 trials, not 12,000."""
    axes = {
        "diffusion.timesteps": [{"kind": "uniform"}, {"kind": "loss_second_moment"}],
        "optimizer.lr": [0.001 * (1 + n) for n in range(10)],
    }
    found = experiment(arms=None, axes=axes, controls=["equal_objective"], seeds=400)
    assert len(found.cells) == 20


@pytest.mark.parametrize(("arm", "said"), DOUBTS)
def test_what_is_hardly_meant_is_noted_of_the_cells_that_say_it(
    arm: dict[str, Any], said: str
) -> None:
    assert experiment(arms={"a": {}}).notes == ()

    notes = experiment(arms={"a": {}, "b": arm}).notes

    assert [said in note for note in notes if "evaluated differently" not in note] == [True], notes


def test_a_cheap_protocol_that_is_the_dearer_one_is_noted() -> None:
    dear = {"evaluation.rung.images": 5000, "evaluation.full.images": 512}
    (note,) = experiment(set=dear).notes

    # DPM-Solver++(2M): one pass a step; three draws at the end
    assert note.startswith(
        "evaluation.rung: the cheap protocol of the curve makes 20,000 passes of an image at every point, the "
        "reported one 12,288 at the end"
    )
    assert experiment(set=dear | {"evaluation.draws": 5}).notes == ()


def test_what_all_cells_hardly_mean_is_noted_once_without_their_names() -> None:
    (note,) = experiment(
        set={"ema": {"kind": "constant"}}, axes={"optimizer.lr": [1e-3, 2e-3]}
    ).notes

    assert note.startswith("ema: more than 99 % of what is evaluated")


def test_an_average_of_millions_of_updates_is_looked_at_in_no_time() -> None:
    """As many updates as a published training has; a warm-up that ends, and an average that forgets."""
    published = {"train.kimg": 500_000, "optimizer.lr_schedule.warmup_kimg": 10_000}

    assert experiment(set=published, axes={"optimizer.lr": [1e-3, 2e-3, 3e-3]}).notes == ()


def test_a_search_is_noted_whose_candidates_are_in_part_impossible() -> None:
    model: dict[str, Any] = {"kind": "unet", "channels": [24, 48], "blocks": 1}
    base = {**TOY, "data": {"kind": "digits"}, "model": model}

    def notes(space: dict[str, Any]) -> tuple[str, ...]:
        return experiment(base=base, search={"trials": 4, "space": space}).notes

    assert notes({"model.groups": {"int": [1, 8]}}) == (
        "search.space.model.groups: 2 of 6 values between its ends that were tried are impossible in cell `base`, "
        "such as 5 (model.channels: 24 is not a multiple of groups: 5; change one of them): candidates that draw "
        "one are lost; list the possible ones with `choice`",
    )
    assert notes({"model.groups": {"int": [1, 4]}}) == ()
    model["channels"] = [48]
    (said,) = notes({"model.groups": {"int": [12, 16]}})
    assert "3 of 3 values between its ends that were tried" in said
    assert said.endswith("list the possible ones with `choice`")


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 500.0), st.lists(st.integers(1, 512), min_size=2, max_size=3, unique=True))
def test_the_budget_that_is_proposed_gives_every_batch_size_the_same_images(
    wished: float, sizes: list[int]
) -> None:
    trials = [
        TrialSpec.model_validate({**TOY, "train": {"kimg": 512.0, "batch_size": size}})
        for size in sizes
    ]

    kimg = common_kimg(wished, trials)

    train = [trial.train.model_copy(update={"kimg": kimg}) for trial in trials]
    images = [
        trial.model_copy(update={"train": own}).total_images()
        for trial, own in zip(trials, train, strict=True)
    ]
    assert len(set(images)) == 1
    assert images[0] == round(1000 * kimg)


def test_one_data_root_gives_the_keys_and_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFSWEEP_DATA", "there")
    found = experiment()
    monkeypatch.setenv("DIFFSWEEP_DATA", "elsewhere")
    seen: list[Path] = []
    monkeypatch.setattr(
        type(found.cells[0].trial.data), "fingerprint", lambda _d, r, _cache: seen.append(r) or "f"
    )

    home = Settings(home=tmp_path)
    ledger = Ledger(found, home, Outbox(tmp_path / "outbox.db"), lambda _event: None)
    job = Dispatch(found, home, ledger, threading.Event()).next()

    assert seen == [tmp_path / "there"]
    assert job is not None
    assert job.data_root == str(tmp_path / "there")
    assert experiment(data_root=Path("mine")).data_root == tmp_path / "mine"


def test_controls_keep_to_what_the_objective_weighs() -> None:
    """Under vlb and hybrid the under-sampler's twin has importance weights; hybrid's weighting has none."""
    arms = {"u": {}, "p": {"diffusion.timesteps": P2}}
    for kind in ("vlb", "hybrid"):
        base = {"diffusion.objective": {"kind": kind}, "diffusion.schedule.steps": 100}
        twin = experiment(set=base, arms=arms, controls="equal_objective").cells[-1]
        assert twin.trial.diffusion.timesteps.kind == "importance"
    arms["w"] = {"diffusion.weighting": {"kind": "p2"}}
    lines = experiment(set=base, arms=arms, controls="equal_objective").findings()
    assert any(
        "`w` has no equal-objective twin: objective hybrid does not" in line for line in lines
    )


def test_cells_that_share_a_diffusion_are_no_finding() -> None:
    axes = {"optimizer.lr": [1e-3, 2e-3, 3e-3]}

    assert experiment(axes=axes).findings() == []
    twins = experiment(
        axes=axes, arms={"u": {}, "p": {"diffusion.timesteps": P2}}, controls="equal_objective"
    )
    assert len([line for line in twins.findings() if "same objective" in line]) == 1


# --- the shipped experiments ----------------------------------------------------------


@pytest.mark.parametrize(
    "file", sorted(path.name for path in (ROOT / "experiments").glob("*.yaml"))
)
def test_every_shipped_experiment_is_valid(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "cifar10" / "train" / "frog"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "0.png")
    monkeypatch.setenv("DIFFSWEEP_DATA", str(tmp_path))
    found = Experiment.from_yaml(ROOT / "experiments" / file)

    assert found.name == Path(file).stem
    assert found.trials


@pytest.mark.parametrize(
    "file", sorted(path.name for path in (ROOT / "experiments" / "presets").glob("*.yaml"))
)
def test_every_preset_is_a_whole_trial(file: str) -> None:
    source = parse((ROOT / "experiments" / "presets" / file).read_text(), file)

    TrialSpec.model_validate(source.data)


def test_the_quickstart_asks_the_ancestors_question() -> None:
    found = Experiment.from_yaml(ROOT / "experiments" / "quickstart.yaml")

    assert [cell.name for cell in found.cells] == ["uniform", "under", "under~equal"]
    assert len(found.trials) == 18
    assert found.looks == (6,)
    trial = found.cells[0].trial
    assert (trial.steps(), trial.train.batch_size, len(trial.evaluation_points())) == (150, 128, 4)
    assert found.spec.launcher == "train"


def test_errors_of_an_experiment_are_one_exception() -> None:
    with pytest.raises(InputError) as caught:
        experiment(seeds=0, launcher="x")

    assert len(caught.value.problems) == 2

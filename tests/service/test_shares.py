"""`gpus: auto`: the share of a GPU that a trial's memory needs, measured once, kept, and said."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from service import launch, progress
from service.cli import invoke
from service.cluster.joining import init
from service.errors import ServiceError
from service.experiment import Experiment
from service.experiment.saved import read_saved, save
from service.planning import memory
from service.planning.memory import apply, card_of, placed_here
from service.planning.plan import plan_here
from service.resources import Asked
from service.settings import Settings
from service.shares import NO_GPU, Measured, Shares, identity, levelled
from tests.service.sweeps import UNDER, sweep, write
from trainer.errors import InputError

GIB = 2**30
AUTO = {"gpus": "auto", "cpus": 0.5}


def measured(gib: float, total: float = 80, card: str = "H100") -> Measured:
    return Measured(int(gib * GIB), int(total * GIB), card)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tracking_uri=None)


def auto(toy: dict[str, Any], settings: Settings, **more: Any) -> Experiment:
    """Two cells, the second of a wider network."""
    arms = {"small": {}, "large": {"model": {"kind": "mlp", "width": 64}}}
    data = {"name": "toy", "base": toy, "arms": arms, "seeds": 1, "resources": AUTO, **more}
    return Experiment.from_mapping(data, home=settings.home)


@pytest.mark.parametrize(
    ("gib", "share"),
    [
        (9.8, 0.14),  # 9.8 * 1.1 / 80 = 0.13475
        (8.0, 0.125),  # an eighth: more trials would only wait for each other
        (0.4, 0.125),
        (40.0, 0.55),
        (72.0, 0.99),
        (72.8, 1.0),  # with the margin more than there is
        (80.0, 1.0),
    ],
)
def test_the_share_is_rounded_up_with_a_margin(gib: float, share: float) -> None:
    assert measured(gib).share == share


def test_eight_trials_share_a_gpu_at_most() -> None:
    assert 8 * measured(0.1).share <= 1 < 9 * measured(0.1).share


def test_it_is_said_of_what_and_how_much() -> None:
    assert measured(9.8).text(0.14) == "auto: 0.14 of an H100, 9.8 GiB of 80.0 GiB at its largest"
    assert measured(1, 16, "T4").text(0.125).startswith("auto: 0.125 of a T4, 1.0 GiB of 16.0 GiB")


def test_cells_that_need_about_as_much_get_the_same() -> None:
    needed = {"a": 0.13, "b": 0.14, "c": 0.6, "d": 0.5, "e": 0.55}
    assert levelled(needed) == {"a": 0.14, "b": 0.14, "c": 0.6, "d": 0.5, "e": 0.6}
    assert levelled({}) == {}


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA RTX PRO 6000 Blackwell", "RTX-PRO-6000"),
        ("NVIDIA GeForce RTX 5090", "GeForce-RTX-5090"),
    ],
)
def test_a_card_is_called_as_ray_calls_it(name: str, card: str) -> None:
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    assert card_of(name) == card
    assert NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(name) == card


def test_what_was_measured_is_kept_by_trial_and_card(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment, shares = auto(toy, settings), Shares(settings.cache)
    small, large = experiment.cells
    assert identity(small) != identity(large)
    assert [cell.resources.gpus for cell in experiment.cells] == [1, 1], "a whole one until then"
    shares.keep(small, measured(9.8))
    shares.keep(small, measured(9.6, 40, "A100"))
    assert shares.of(small, "H100") == measured(9.8)
    assert shares.of(small, "A100") == measured(9.6, 40, "A100")
    assert shares.of(large, "H100") is None

    placed, said = apply(experiment, shares, {"small": measured(9.8), "large": measured(40)})
    assert [cell.resources.gpus for cell in placed.cells] == [0.14, 0.55]
    assert {t.cell: t.resources.gpus for t in placed.trials} == {"small": 0.14, "large": 0.55}
    assert [t.key for t in placed.trials] == [t.key for t in experiment.trials]
    assert said == [
        "auto: 0.14 of an H100, 9.8 GiB of 80.0 GiB at its largest (`small`)",
        "auto: 0.55 of an H100, 40.0 GiB of 80.0 GiB at its largest (`large`)",
    ]
    again = auto(toy, settings, seeds=3, set={"train.kimg": 5.12, "optimizer.lr": 1e-4})
    assert [cell.resources.gpus for cell in again.cells] == [0.14, 0.55], "as it is run now"
    wider = auto(toy, settings, resources={**AUTO, "workers": 2})
    assert [cell.resources.gpus for cell in wider.cells] == [1, 1], "half a batch takes less"

    save(placed, settings.experiment("toy"))
    assert read_saved(settings.experiment("toy")).shapes == placed.shapes


def test_a_damaged_file_is_measured_again(toy: dict[str, Any], settings: Settings) -> None:
    shares, (small, _) = Shares(settings.cache), auto(toy, settings).cells
    shares.keep(small, measured(9.8))
    (file,) = settings.cache.glob("gpu-share-*.json")
    file.write_text('{"cards"')
    assert shares.of(small, "H100") is None
    assert auto(toy, settings).cells[0].resources.gpus == 1


def test_without_a_gpu_it_is_nothing_and_a_budget_of_gpu_hours_is_refused(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = auto(toy, settings, budget={"gpu_hours": 1})
    with pytest.raises(ServiceError, match=r"no GPU, and the budget is 1 GPU-hour"):
        apply(experiment, Shares(settings.cache), None)
    placed, said = apply(auto(toy, settings), Shares(settings.cache), None)
    assert [cell.resources.gpus for cell in placed.cells] == [0, 0]
    assert said == [NO_GPU]


def test_validate_says_auto_and_plan_what_that_is_here(
    toy: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(memory.torch.cuda, "is_available", lambda: False)
    write(sweep(toy, resources={"gpus": "auto"}, seeds=1, launcher="inproc"), tmp_path)
    assert invoke(["validate", "toy.yaml"]) == 0
    assert "a trial occupies 1 CPU and auto GPU" in capsys.readouterr().out
    assert invoke(["plan", "toy.yaml"]) == 0
    told = capsys.readouterr().out
    assert NO_GPU in told
    assert "GPU-hours" not in told


def test_a_plan_counts_the_share(
    toy: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine with an H100; what its memory would say is given."""
    monkeypatch.setattr(memory.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(memory.torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    asked = []

    def measure(*given: Any) -> Measured:
        asked.append(given)
        return measured(9.8)

    monkeypatch.setattr(memory, "measure", measure)
    placed, said = placed_here(auto(toy, settings), settings)
    assert len(asked) == 2
    assert [cell.resources.gpus for cell in placed.cells] == [0.14, 0.14]
    assert said == ["auto: 0.14 of an H100, 9.8 GiB of 80.0 GiB at its largest"]
    placed_here(auto(toy, settings, seeds=2), settings)
    assert len(asked) == 2, "once"

    monkeypatch.undo()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    found = plan_here(auto(toy, settings), settings.model_copy(update={"ray_address": "there"}))
    assert found.gpu_hours == pytest.approx(0.14 * found.cpu_hours / 0.5)
    assert "auto: not measured here: ask the cluster's GPUs with --address" in found.findings


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ("many", "must be a number or `auto`, not `many`"),
        (-1, "must be 0 or more or `auto`, not `-1`"),
    ],
)
def test_slips_are_told(toy: dict[str, Any], gpus: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        sweep(toy, resources={"gpus": gpus})
    assert message in str(error.value)


def test_an_arm_may_ask_for_it(toy: dict[str, Any]) -> None:
    arms = {"a": {}, "b": {**UNDER, "resources.gpus": "auto"}}
    found = sweep(toy, arms=arms, budget={"gpu_hours": 1})
    assert [cell.asked for cell in found.cells] == [Asked(), Asked(gpus="auto")]


@pytest.fixture
def gpu() -> Iterator[None]:
    """A Ray that is told of one GPU, which torch does not see."""
    with tempfile.TemporaryDirectory(prefix="ds-", dir="/tmp") as scratch:
        init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False,
             object_store_memory=100 * 2**20, _temp_dir=scratch)  # fmt: skip
        yield
        ray.shutdown()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("gpu")
def test_trials_get_what_was_measured_and_a_gpu_that_is_none_is_told(
    toy: dict[str, Any], settings: Settings
) -> None:
    experiment = auto(toy, settings, launcher="inproc")
    with pytest.raises(ServiceError, match="cell `small` could not be measured: Ray says"):
        launch.run(experiment, settings)

    shares = Shares(settings.cache)
    for cell, gib in zip(experiment.cells, (9.8, 40), strict=True):
        shares.keep(cell, measured(gib, card="GPU"))
    seen, lines = set[float](), []

    def hear(event: progress.Event) -> None:
        if isinstance(event, progress.SweepNote):
            lines.append(event.text)
        if isinstance(event, progress.TrialReported):
            every = ray.util.placement_group_table().values()
            created = [one for one in every if one["state"] == "CREATED"]
            seen.update(b.get("GPU", 0.0) for one in created for b in one["bundles"].values())

    outcome = launch.run(experiment, settings, hear)
    assert (outcome.exit_code, outcome.finished) == (0, 2)
    assert seen == {0.14, 0.55}
    assert lines[:2] == [
        "auto: 0.14 of a GPU, 9.8 GiB of 80.0 GiB at its largest (`small`)",
        "auto: 0.55 of a GPU, 40.0 GiB of 80.0 GiB at its largest (`large`)",
    ]
    costs = json.loads((settings.experiment("toy") / "costs.json").read_text())[-1]
    assert 0 < costs["actual"]["gpu_hours"] < costs["actual"]["cpu_hours"] * 1.2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_ray_without_a_gpu_trains_on_cpus_and_says_so(
    toy: dict[str, Any], settings: Settings
) -> None:
    lines = []

    def hear(event: progress.Event) -> None:
        if isinstance(event, progress.SweepNote):
            lines.append(event.text)

    outcome = launch.run(auto(toy, settings, launcher="inproc"), settings, hear)
    assert (outcome.exit_code, outcome.finished) == (0, 2)
    assert lines.count(NO_GPU) == 1
    done = launch.run(auto(toy, settings, launcher="inproc"), settings, hear)
    assert done.skipped == 2
    assert lines.count(NO_GPU) == 1, "nothing is left to place"

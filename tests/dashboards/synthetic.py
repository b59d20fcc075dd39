"""Made-up sweeps with known truth: falling FID curves, a given relative effect, noise and speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dashboards.directories import Picture
from dashboards.levels import Interval, Row
from dashboards.sweep import Sweep
from dashboards.tables import clock_table, curve_table, trial_table
from dashboards.tuning import Point, Tuning
from dashboards.verdict import judging
from dashboards.verdict.values import Verdicts
from trainer.report import Status

KIMG = (9.6, 19.2, 28.8, 38.4, 48.0, 57.6)


def fid(kimg: float) -> float:
    """About 35 at 9.6 kimg and about 4 at 57.6: the shape of the digits sweep."""
    return 35.0 * (kimg / 9.6) ** -1.2


def sweep(
    effects: dict[str, float] | None = None,
    *,
    seeds: int = 3,
    noise: float = 0.02,
    seed_noise: float = 0.05,
    speeds: dict[str, float] | None = None,
    finals: dict[str, list[float]] | None = None,
    margin: float = 0.02,
    metric: str = "eval/fid",
    gpus: float = 0.0,
    kimg: Sequence[float] = KIMG,
) -> Sweep:
    """Cells whose final metric is `1 + effect` of the baseline's; `finals` gives it exactly.

    `seed_noise` is shared by all cells of a seed (pairing removes it), `noise` is a trial's own.
    """
    effects = {"uniform": 0.0, "under": 0.2} if effects is None else effects
    rng = np.random.default_rng(7)
    shared = 1 + seed_noise * rng.standard_normal(seeds)
    rows: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for cell, effect in effects.items():
        speed = (speeds or {}).get(cell, 1.0)
        for seed in range(seeds):
            factor = shared[seed] * (1 + effect) * (1 + noise * rng.standard_normal())
            key = f"{cell}-{seed}"
            final = finals[cell][seed] if finals is not None else fid(57.6 * speed) * factor
            rows.append(
                {
                    "cell": cell,
                    "seed": seed,
                    "trial_key": key,
                    "run_id": f"run-{key}",
                    "status": "finished",
                    "protocol": "p-full",
                    "protocol_rung": "p-rung",
                    "kimg": KIMG[-1],
                    "seconds": 24.0,
                    metric: final,
                }
            )
            identity = {"cell": cell, "seed": seed, "trial_key": key}
            points.extend(
                identity
                | {"protocol": "p-rung", "metric": "rung/" + metric.split("/")[1]}
                | {"images": round(k * 1000), "kimg": k, "value": 1.5 * fid(k * speed) * factor}
                for k in kimg
            )
            points.extend(
                identity
                | {"protocol": None, "metric": "train/loss"}
                | {"images": i * 640, "kimg": i * 0.64}
                | {"value": 0.1 + 0.9 / i + 0.02 * rng.random()}
                for i in range(1, 91)
            )
    return Sweep(
        name="synthetic",
        cells=list(effects),
        baseline=next(iter(effects)),
        metric=metric,
        margin=margin,
        trials=trial_table(rows),
        curves=curve_table(points),
        specs={cell: specification() for cell in effects},
        experiment_yaml="name: synthetic\nbase: presets/digits.yaml\nseeds: 3\n",
        devices=dict.fromkeys(effects, gpus or 1.0),
        cost_unit="GPU" if gpus else "CPU",
    )


def clocked(found: Sweep, *, images_per_s: float = 1500.0, flops: float | None = 3e7) -> Sweep:
    """The sweep with the times of its evaluations, each trial at a speed of its own, and FLOPs unless None."""
    rng = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    for (cell, seed, key), line in found.curve(found.curve_metric).groupby(
        ["cell", "seed", "trial_key"], observed=True
    ):
        speed = images_per_s * (1 + 0.05 * float(rng.standard_normal()))
        rows.extend(
            {"cell": cell, "seed": seed, "trial_key": key, "images": images}
            | {"train_s": images / speed, "eval_s": 2.0 * (place + 1)}
            for place, images in enumerate(line["images"])
        )
    known = {} if flops is None else dict.fromkeys(found.cells, flops)
    return dataclasses.replace(found, clock=clock_table(rows), flops=known)


def judge(found: Sweep, **options: Any) -> Verdicts:
    """The verdicts on a sweep."""
    return judging.judge(found.evidence, **options)


def specification() -> dict[str, Any]:
    """The part of a resolved trial that the report explains protocols from."""
    solver = {"kind": "dpmpp_2m"}
    return {
        "train": {"kimg": 57.6, "batch_size": 128},
        "evaluation": {
            "every_kimg": 9.6,
            "features": {"kind": "classifier"},
            "rung": {"images": 250, "solver": solver, "grid": None, "steps": 10},
            "full": {"images": 1000, "solver": solver, "grid": None, "steps": 15},
            "metrics": ["fid"],
        },
    }


def drawn(
    found: Sweep, count: int = 3, *, shared: float = 0.1, of_cell: float = 0.01, own: float = 0.03
) -> Sweep:
    """The sweep with its final values made the means over draws, whose effects are relative to the value.

    `shared` is a draw's effect on all trials, `of_cell` that on a cell, `own` that on a single trial.
    """
    rng = np.random.default_rng(11)
    common = shared * rng.standard_normal(count)
    effects = {cell: common + of_cell * rng.standard_normal(count) for cell in found.cells}
    trials, draws = found.trials.copy(), {}
    for place, row in trials[trials["status"] == Status.FINISHED].iterrows():
        cell, seed = str(row["cell"]), int(row["seed"])
        values = row[found.metric] * (1 + effects[cell] + own * rng.standard_normal(count))
        draws[cell, seed] = {found.metric: tuple(map(float, values))}
        trials.loc[place, found.metric] = float(np.mean(values))
    return dataclasses.replace(found, trials=trials, draws=draws)


def ended(found: Sweep, cell: str, seed: int, status: str, reason: str | None = None) -> Sweep:
    """The sweep with one trial that did not finish: its curve stops half-way, it has no result."""
    trials = found.trials.copy()
    row = (trials["cell"] == cell) & (trials["seed"] == seed)
    trials["status"] = trials["status"].astype(object)
    trials["reason"] = trials["reason"].astype(object)
    trials.loc[row, "status"] = Status(status)
    trials.loc[row, "reason"] = reason
    trials.loc[row, found.metric] = np.nan
    trials.loc[row, "kimg"] = KIMG[2] if status != "waiting" else np.nan
    last = KIMG[2] if status != "waiting" else 0.0
    curves = found.curves
    own = (curves["cell"] == cell) & (curves["seed"] == seed)
    curves = curves[~own | (curves["kimg"] <= last)].reset_index(drop=True)
    return dataclasses.replace(found, trials=trials, curves=curves)


def grids(
    found: Sweep, directory: Path, kimg: Sequence[float] = (KIMG[-1],)
) -> dict[tuple[str, int], tuple[Picture, ...]]:
    """Small PNG sample grids for every finished trial, with less noise the later."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits().images.astype(np.uint8) * 15
    rng = np.random.default_rng(5)
    samples = {}
    for place, row in found.trials[found.trials["status"] == "finished"].reset_index().iterrows():
        start = int(row["seed"]) * 64 + int(place) % 3
        tiles = digits[start : start + 40].reshape(5, 8, 8, 8).transpose(0, 2, 1, 3)
        own = []
        for at in kimg:
            noise = rng.integers(0, 256, (40, 64)) * (1 - at / max(kimg))
            path = directory / f"{row['cell']}-{row['seed']}-{at:g}.png"
            Image.fromarray(np.maximum(tiles.reshape(40, 64), noise).astype(np.uint8)).save(path)
            own.append(Picture(at, path))
        samples[str(row["cell"]), int(row["seed"])] = tuple(own)
    return samples


def tuning(cell: str, by: str = "tpe", *, count: int = 40, spent: int | None = None) -> Tuning:
    """A search of a learning rate and a decay: the best is at 1e-3 and 0.999, one candidate in twelve diverged."""
    rng = np.random.default_rng(sum(map(ord, cell)))
    points = []
    for number in range(count if spent is None else spent):
        place, late = float(rng.random()), int(rng.random() < 0.5)
        lr = float(f"{10 ** (-5 + 3 * place):.3g}")
        value = 4.0 + 3.0 * (np.log10(lr) + 3.0) ** 2 + 0.5 * late + 0.2 * rng.random()
        value = float("inf") if number % 12 == 5 else float(value)
        setting = {"optimizer.lr": f"{lr:g}", "ema.decay": ("0.999", "0.99")[late]}
        places = {"optimizer.lr": place, "ema.decay": 0.25 + 0.5 * late}
        points.append(Point(number, setting, places, value, float(np.log(value))))
    done = len(points) == count
    return Tuning(
        cells=(cell,),
        metric="FID",
        lower_is_better=True,
        by=by,
        planned=count,
        seeds=(999999999,),
        points=tuple(points),
        asked=min(count, len(points) + 2),
        winner=min(points, key=lambda point: point.score).number if done else None,
        importances={"optimizer.lr": 0.9, "ema.decay": 0.1},
    )


def levels(
    found: Sweep, kimg: Sequence[float] = KIMG, *, gradients: bool = False
) -> dict[tuple[str, int], tuple[Interval, ...]]:
    """The loss by noise level: it falls with noise and over training; every further cell has 20 % more at log-SNR 0."""
    rng = np.random.default_rng(3)
    made = {}
    for cell, seed in zip(found.trials["cell"], found.trials["seed"], strict=True):
        parts = []
        for at in kimg:
            rows: list[Row] = []
            for middle in np.arange(-9.75, 10, 0.5):
                count = int(1 + 200 * np.exp(-(middle**2) / 20))
                hump = 1 + 0.2 * found.cells.index(cell) * np.exp(-(middle**2) / 4)
                mse = hump * (0.02 + 1 / (1 + np.exp(-middle))) * (1 + 5 / at)
                mse *= 1 + 0.1 * rng.standard_normal() / np.sqrt(count)
                rows.append((float(middle), count, float(mse), 2 * mse, mse if gradients else None))
            parts.append(Interval(at, tuple(rows)))
        made[str(cell), int(seed)] = tuple(parts)
    return made

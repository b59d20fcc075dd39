"""Which other averages of a trained trial are there? Those it names, and power functions of any width, made afterwards.

`python -m trainer.averages DIRECTORY --sigma-rel 0.08` measures them under the trial's own protocol.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.distributed import best_device
from trainer.ema import Power, exponent
from trainer.errors import EnvironmentProblem, UserError, listing
from trainer.record import Record
from trainer.trained import Trained

Profile = tuple[float, float]
"""(time of its end, exponent gamma) of a normalized weight ((gamma + 1)/end) (t/end)^gamma on (0, end)."""


def named(record: Record, name: str, device: str = "auto") -> Trained:
    """The trial's average of this name at its newest checkpoint; UserError where there is none."""
    trained = Trained.load(record, device)
    names = [one.called() for one in trained.trial.averages()]
    if name not in names:
        raise UserError(f"there is no average `{name}`; the trial has {listing(names)}")
    if name == names[0]:
        return trained
    state, _ = record.newest_state(trained.device)
    assert state is not None
    return _with_weights(trained, state["further"][name])


def reconstructed(
    record: Record, sigma_rel: float, images: int | None = None, device: str = "auto"
) -> Trained:
    """The power-function average of width `sigma_rel` after so many images, from the trial's snapshots.

    The closest one in least squares of the profiles (EDM2, Karras et al. 2024, section 3.2 and appendix C): sixteen
    snapshots of 0.05 and 0.1 leave some hundredths of what separates an average from the last weights. Raises
    UserError where the trial keeps no snapshots, or none so early.
    """
    try:
        gamma = exponent(Power(sigma_rel=sigma_rel).sigma_rel)
    except ValidationError:
        raise UserError(f"sigma_rel: must be from 0.005 to 0.25, not {sigma_rel:g}") from None
    trained = Trained.load(record, device)
    trial = trained.trial
    widths = {one.called(): one.sigma_rel for one in trial.averages() if isinstance(one, Power)}
    known = [one for one in record.snapshots.all() if one.name in widths]
    if not known:
        raise UserError(
            f"{record.directory} keeps no snapshots: train with `ema: [{{kind: power, sigma_rel: 0.05, snapshots: 8, "
            "name: a}, {kind: power, sigma_rel: 0.1, snapshots: 8, name: b}]`"
        )
    end = known[-1].update if images is None else round(images / trial.train.batch_size)
    before = [one for one in known if one.update <= end]
    if not before:
        first = known[0].update * trial.train.batch_size
        raise UserError(f"the first snapshot is at {first:,} images: ask for that many or more")
    profiles = [(float(one.update), exponent(widths[one.name])) for one in before]
    factors = combination(profiles, (float(end), gamma))
    return _with_weights(
        replace(trained, images=end * trial.train.batch_size),
        _sum([one.load(trained.device) for one in before], factors),
    )


def combination(profiles: Sequence[Profile], wanted: Profile) -> np.ndarray:
    """Factors [n] of the given profiles whose sum is closest to the wanted one, by their inner products.

    They add up to one, so that weights that stand still are met exactly (one more than in the paper).
    """
    count = len(profiles)
    matrix = np.ones((count + 1, count + 1))
    matrix[:count, :count] = [[overlap(a, b) for b in profiles] for a in profiles]
    matrix[count, count] = 0.0
    right = np.array([*(overlap(a, wanted) for a in profiles), 1.0])
    return np.linalg.lstsq(matrix, right, rcond=None)[0][:count]


def overlap(a: Profile, b: Profile) -> float:
    """Integral of the product of two profiles, in closed form."""
    (early, gamma), (late, delta) = sorted((a, b))
    total = (gamma + 1.0) * (delta + 1.0) / ((gamma + delta + 1.0) * late)
    return total * (early / late) ** delta


def _sum(states: Sequence[dict[str, Tensor]], factors: np.ndarray) -> dict[str, Tensor]:
    """Weighted sum in float64; what is no number with a fraction (a counter) is the last one's."""
    result: dict[str, Tensor] = {}
    for name, last in states[-1].items():
        if not last.is_floating_point():
            result[name] = last
            continue
        total = torch.zeros_like(last, dtype=torch.float64)
        for state, factor in zip(states, factors.tolist(), strict=True):
            total += factor * state[name].double()
        result[name] = total.to(last.dtype)
    return result


def _with_weights(trained: Trained, state: dict[str, Tensor]) -> Trained:
    network = copy.deepcopy(trained.network)
    network.load_state_dict(state)
    return replace(trained, network=network)


def main(arguments: list[str] | None = None) -> int:
    """Measure averages of a trial; returns 0, 2 (bad input) or 3 (environment)."""
    parser = argparse.ArgumentParser(prog="python -m trainer.averages", description=__doc__)
    parser.add_argument("directory", type=Path, help="directory of a trained trial")
    parser.add_argument(
        "--sigma-rel", type=float, action="append", default=[], help="width; repeatable"
    )
    parser.add_argument("--images", type=int, help="training images seen [all]")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    options = parser.parse_args(arguments)
    record = Record(options.directory)
    try:
        best_device(options.device)
        for width in options.sigma_rel:
            trained = reconstructed(record, width, options.images, options.device)
            values = trained.measure(options.cache).metrics
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"sigma_rel {width:g}  {trained.images / 1000:9.1f} kimg  {shown}", flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except EnvironmentProblem as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())

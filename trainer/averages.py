"""Which other averages of a trained trial are there? Those it names, and power functions of any width, made afterwards.

`python -m trainer.averages DIRECTORY --sigma-rel 0.08 --name wide` measures one under the trial's own protocol and
keeps it: from then on `diffsweep evaluate DIRECTORY --average wide` and `diffsweep sample` take it, under any protocol.
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
from trainer.errors import EnvironmentProblem, UserError
from trainer.made import Made
from trainer.record import Record
from trainer.trained import Trained

Profile = tuple[float, float]
"""(time of its end, exponent gamma) of a normalized weight ((gamma + 1)/end) (t/end)^gamma on (0, end)."""


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


def keep(record: Record, name: str, trained: Trained, sigma_rel: float) -> None:
    """Keep a reconstructed average in the trial's directory as `name`, for `Trained.load(..., average=name)`."""
    record.made.save(name, Made(sigma_rel, trained.images, trained.network.state_dict()))


def check_names(record: Record, names: Sequence[str]) -> None:
    """Raise UserError for names that averages to be kept cannot have."""
    trial = record.trial()
    own = [] if trial is None else [one.called() for one in trial.averages()]
    for place, name in enumerate(names):
        try:
            Power(name=name)
        except ValidationError:
            raise UserError(
                f"--name {name}: use up to 40 letters, digits, `_` and `.`, beginning with one of the first two"
            ) from None
        if name in own:
            raise UserError(
                f"--name {name}: the trial tracked an average of this name itself: choose another"
            )
        if name in names[:place]:
            raise UserError(
                f"--name {name}: is given twice: call each average by a name of its own"
            )


def main(arguments: list[str] | None = None) -> int:
    """Make averages of a trial, measure them, and keep those with a name; returns 0, 2 (bad input) or 3."""
    options = _parser().parse_args(arguments)
    record, widths, names = Record(options.directory), options.sigma_rel, options.name
    try:
        best_device(options.device)
        if names and len(names) != len(widths):
            raise UserError(
                f"--name: {len(names)} for {len(widths)} of --sigma-rel: give each width a name, or none"
            )
        check_names(record, names)
        for width, name in zip(widths, names or [None] * len(widths), strict=True):
            trained = reconstructed(record, width, options.images, options.device)
            if name is not None:
                keep(record, name, trained, width)
            values = trained.measure(options.cache).metrics
            shown = "  ".join(f"{each} {value:.4g}" for each, value in values.items())
            print(f"sigma_rel {width:g}  {trained.images / 1000:9.1f} kimg  {shown}", flush=True)
            if name is not None:
                print(f"  kept: diffsweep evaluate {options.directory} --average {name}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except EnvironmentProblem as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.averages",
        description="Make power-function averages of any width from a trial's snapshots (post-hoc EMA, arXiv "
        "2312.02696), and measure each under the trial's own protocol.",
        epilog="A trial keeps snapshots with `ema: [{kind: power, sigma_rel: 0.05, snapshots: 8, name: a}, "
        "{kind: power, sigma_rel: 0.1, snapshots: 8, name: b}]`. "
        "Exit status: 0 done, 2 bad input, 3 the machine lacks something.",
    )
    parser.add_argument("directory", type=Path, help="directory of a trained trial")
    parser.add_argument(
        "--sigma-rel",
        type=float,
        action="append",
        required=True,
        metavar="WIDTH",
        help="standard deviation of the profile, relative to the training: 0.005 to 0.25; repeatable",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="keep the average in the directory under this name, for `diffsweep evaluate DIRECTORY --average NAME` "
        "(and `sample`); one for each --sigma-rel, in their order; an earlier one of this name is replaced",
    )
    parser.add_argument("--images", type=int, help="training images seen at its end [all]")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/cache"),
        help="directory of what trials share, such as reference statistics [runs/cache]",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... [auto]")
    return parser


if __name__ == "__main__":
    sys.exit(main())

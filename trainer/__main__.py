"""`python -m trainer trial.yaml`: one trial on this machine, without a cluster; also under torchrun."""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

import torch.distributed as dist

from trainer import terminal
from trainer.calibrating import precise
from trainer.data import held_out_outline
from trainer.distributed import World, own_device
from trainer.errors import EnvironmentProblem, InputError, UserError
from trainer.evaluation.enough import few_images
from trainer.files import HeldError
from trainer.leaving import Left
from trainer.loop import train
from trainer.passes import OnOOM, SmallerPasses
from trainer.record import REPORTS, RESULT, Record
from trainer.report import Report, Result
from trainer.several import seeds, train_seeds
from trainer.trial import TrialSpec
from trainer.yaml.trials import trial_tree
from trainer.yaml.wording import leading_path


def main(arguments: list[str] | None = None) -> int:
    """Train one trial; returns 0, 1 (diverged), 2 (bad input), 3 (environment), 130 (Ctrl-C) or 143 (SIGTERM)."""
    terminal.lenient()
    options = _parser().parse_args(arguments)
    try:
        tree = trial_tree(
            options.trial,
            options.override,
            TrialSpec,
            lambda reset: print(f"note: {reset}", file=sys.stderr),
        )
        trial = cast(TrialSpec, tree.model_or_raise())
        try:
            if options.seeds is not None:
                return _several(trial, options)
            if options.ensemble:
                raise UserError("--ensemble: is of several trials: add --seeds 0-7")
            return _run(trial, options)
        except UserError as error:  # found by the trainer: `data.path: ...`
            keys, message = leading_path(TrialSpec, tree.data, str(error))
            raise InputError([tree.problem(keys, message)]) from None
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except EnvironmentProblem as error:
        print(f"{options.trial}: {error}", file=sys.stderr)
        return 3
    except HeldError as held:
        print(
            f"another process trains there ({held.holder}): wait until it ends, or choose another --out",
            file=sys.stderr,
        )
        return 3
    except OSError as error:
        print(
            f"{error.filename or options.out}: {error.strerror}; choose another --out",
            file=sys.stderr,
        )
        return 3
    except SmallerPasses as smaller:
        print(f"{options.trial}: {smaller}", file=sys.stderr)
        return 3
    except Left as left:
        print(f"{left}; the same command continues", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


_EXAMPLES = """examples:
  python -m trainer digits                    a preset by its name
  python -m trainer trial.yaml -o train.kimg=20 -o optimizer.lr=1e-3 --out runs/short
  python -m trainer trial.yaml -o 'diffusion.timesteps={kind: p2, gamma: 0.5}' -o seed=1
  python -m trainer trial.yaml --seeds 0-7 --ensemble    eight trials as one program
  torchrun --nproc-per-node 2 -m trainer trial.yaml

The same command continues what was interrupted; SIGTERM lets it keep a checkpoint first. `diffsweep schema` lists what
a trial may say.
exit status: 0 trained, 1 diverged, 2 bad input, 3 the machine lacks something, 143 it left on SIGTERM"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train and measure one trial on this machine, without a cluster; also under torchrun.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "trial", type=Path, help="YAML of a complete trial, or the name of a preset"
    )
    parser.add_argument(
        "-o", "--override", dest="override", metavar="PATH=VALUE", action="append", default=[],
        help="change a value of the trial; repeatable. A mapping changes the keys it has, one that names its `kind` "
        "is the whole value",
    )  # fmt: skip
    parser.add_argument(
        "--home", type=Path, metavar="DIR", help="where results live [DIFFSWEEP_HOME, else ./runs]"
    )
    parser.add_argument(
        "--out", type=Path, help="directory of the trial [HOME/trials/<key>]; repeat it to continue"
    )
    parser.add_argument(
        "--cache", type=Path,
        help="directory of what trials share, such as reference statistics [HOME/cache]",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... [auto]")
    parser.add_argument(
        "--seeds", type=seeds, metavar="0-7",
        help="train it once with each of these seeds (0-7, or 0,3,5) at the same time, step by step in this process: "
        "each computes what it computes alone",
    )  # fmt: skip
    parser.add_argument(
        "--ensemble", action="store_true",
        help="with --seeds: as one program, whose network answers all of them at once; small networks train several "
        "times faster so, and compute what they compute alone but for the order of sums",
    )  # fmt: skip
    choices = get_args(OnOOM)
    parser.add_argument(
        "--on-oom", choices=choices, default=choices[0],
        help=f"where memory runs out in a step: repeat it in passes half as large, or fail [{choices[0]}]",
    )  # fmt: skip
    return parser


def _home(options: argparse.Namespace) -> tuple[Path, Path]:
    """Where results live, and what trials share."""
    home = (options.home or Path(os.environ.get("DIFFSWEEP_HOME") or "runs")).expanduser()
    return home, options.cache or home / "cache"


def _run(trial: TrialSpec, options: argparse.Namespace) -> int:
    home, cache = _home(options)
    device = own_device(options.device)
    trial = precise(trial, cache, device)
    key = _key(trial, cache)
    out = options.out or home / "trials" / key
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    first = World.current().first
    record = Record(out)
    with record.writer() if first else contextlib.nullcontext(), _sigterm() as told:
        World.current().barrier()
        record.refuse_another(trial)
        if (result := record.result()) is None:
            for line in few_images(trial.evaluation, trial.data.shape) if first else ():
                print(f"note: {line}", file=sys.stderr)
            for report in train(
                trial, out, cache=cache, device=device, on_oom=options.on_oom, leave=told.is_set
            ):
                if first:
                    _show(report)
            World.current().barrier()
            result = record.result()
        elif result.trial not in ("", key):
            raise UserError(f"{out} holds this trial with other data: choose another --out")
        elif first:
            print(f"{result.status} earlier: there is nothing left to train")
            _show_result(result)
    assert result is not None
    if first:
        for kind, known in result.spaces.items():
            print(f"features {kind}: {known}")
        print(f"{result.status}: {result.reason or out}")
        print(f"numbers: {out / RESULT}, their curve: {out / REPORTS}, pictures: {out}/samples")
    return 0 if result.status == "finished" else 1


def _several(trial: TrialSpec, options: argparse.Namespace) -> int:
    """The trial with each seed, all at once: the highest exit status of theirs."""
    if options.out is not None:
        raise UserError("--out: is the directory of one trial, and there are several: leave it out")
    if "RANK" in os.environ:
        raise UserError("--seeds: are trained in one process: start it without torchrun")
    home, cache = _home(options)
    trial = precise(trial, cache, options.device)
    trials = {seed: trial.model_copy(update={"seed": seed}) for seed in options.seeds}
    where = {seed: home / "trials" / _key(one, cache) for seed, one in trials.items()}
    with _sigterm() as told:
        return train_seeds(
            trials, where, cache, options.device, options.on_oom, told.is_set, _show,
            joint=options.ensemble,
        )  # fmt: skip


@contextlib.contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """Set by the first SIGTERM; a second one ends the process at once."""
    told = threading.Event()

    def hear(number: int, _: object) -> None:
        told.set()
        signal.signal(number, before)

    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def _key(trial: TrialSpec, cache: Path) -> str:
    fingerprint, test = trial.data.fingerprint(Path(), cache), ""
    if trial.evaluation.looks_at_test:
        test = held_out_outline(trial.data, Path(), cache).fingerprint
    return trial.key(fingerprint, test)


def _show_result(result: Result) -> None:
    """The last numbers, a line each, and what they cost."""
    for name, value in result.metrics.items():
        print(f"  {name:24} {value:.6g}")
    print(f"  after {result.images / 1000:g} kimg, {result.seconds:.0f} s of training")


def _show(report: Report, of: str = "") -> None:
    for note in report.notes:
        print(f"note: {of}{note}", file=sys.stderr)
    values = "  ".join(f"{name} {value:.4g}" for name, value in report.metrics.items())
    print(f"{of}{report.kimg:9.1f} kimg  {values}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

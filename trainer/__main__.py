"""`python -m trainer trial.yaml`: one trial on this machine, without a cluster; also under torchrun."""

import argparse
import os
import sys
from pathlib import Path

import torch.distributed as dist
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainer.distributed import World
from trainer.errors import EnvironmentProblem, UserError
from trainer.loop import train
from trainer.report import read_result
from trainer.trial import TrialSpec


def main(arguments: list[str] | None = None) -> int:
    """Train one trial; returns 0, 1 (diverged), 2 (bad input) or 3 (environment)."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    parser.add_argument("trial", type=Path, help="YAML of a complete trial (a preset)")
    parser.add_argument(
        "--out", type=Path, help="directory [runs/trials/<key>]; repeat it to continue"
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (UserError, EnvironmentProblem) as error:
        print(f"{options.trial}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 3
    except OSError as error:
        print(
            f"{error.filename or options.out}: {error.strerror}; choose another --out",
            file=sys.stderr,
        )
        return 3
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _run(options: argparse.Namespace) -> int:
    trial = _read(options.trial)
    out = options.out or Path("runs/trials") / trial.key(trial.data.fingerprint(Path()))
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if options.device.startswith("cuda") else "gloo")
    first = World.current().first
    if (result := read_result(out)) is None:
        for report in train(trial, out, cache=options.cache, device=options.device):
            if first:
                for note in report.notes:
                    print(f"note: {note}", file=sys.stderr)
                values = "  ".join(f"{name} {value:.4g}" for name, value in report.metrics.items())
                print(f"{report.kimg:9.1f} kimg  {values}", flush=True)
        World.current().barrier()
        result = read_result(out)
    assert result is not None
    if first:
        print(f"{result.status}: {result.reason or out}")
    return 0 if result.status == "finished" else 1


def _read(path: Path) -> TrialSpec:
    try:
        content = YAML(typ="safe").load(path)
        if not isinstance(content, dict):
            what = (
                "is empty" if content is None else f"is a {type(content).__name__}, not a mapping"
            )
            raise UserError(f"{what}: a trial needs data, model, train and evaluation")
        return TrialSpec.model_validate(content)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"is not YAML{where}: {getattr(error, 'problem', None) or error}") from None
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError("; ".join(lines)) from None


if __name__ == "__main__":
    sys.exit(main())

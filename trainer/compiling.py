"""How is a network compiled once for all that run it? torch.compile, and a cache that trials and processes share.

What was compiled is kept in files, by the graph and not by the trial: a seed more, a cell that differs in its schedule,
the next process find it there. Shapes are fixed, so a graph is the same however often a trial was interrupted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import machine
from trainer.errors import EnvironmentProblem
from trainer.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
_THREADS = "TORCHINDUCTOR_COMPILE_THREADS"
_GRAPHS = 1024
"""Of one class in one process. Beyond its limit (8) torch would go on without compiling, and give other bits."""
_given: set[str] = set()
"""Folders that `share` named in this process."""


def share(cache: Path, device: torch.device) -> None:
    """From now on this process compiles for `device`, finds what others compiled under `cache`, and leaves its own.

    A folder that somebody chose (TORCHINDUCTOR_CACHE_DIR) is used instead. Processes may share it: files are written
    aside and renamed, libraries made under a lock. EnvironmentProblem where there is no compiler.
    """
    import torch._dynamo.config
    import torch._inductor.config
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    own = str((cache / "compiled" / _machine()).absolute())
    # torch leaves its own choice there, too
    if os.environ.get(_FOLDER) in (None, os.path.abspath(default_cache_dir()), *_given):
        os.environ[_FOLDER] = own
        _given.add(own)
    if _THREADS not in os.environ:  # no more processes beside this one than it has threads
        torch._inductor.config.compile_threads = torch.get_num_threads()
    torch._dynamo.config.recompile_limit = _GRAPHS
    torch._dynamo.config.accumulated_recompile_limit = _GRAPHS
    _refuse_without_compiler(device)


def compile_network(network: nn.Module) -> None:
    """Its calls run compiled, once for each shape that it is called with; weights and names stay."""
    network.compile(dynamic=False)


def is_compiled(network: Callable[..., Tensor]) -> bool:
    """Whether its calls run compiled."""
    return getattr(network, "_compiled_call_impl", None) is not None


def eager(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same network, kernel by kernel."""
    return network._call_impl if is_compiled(network) else network  # type: ignore[attr-defined]


class Filled:
    """A compiled network that is called with some batch sizes alone: fewer rows are filled up, and taken away again."""

    def __init__(self, network: Callable[..., Tensor], sizes: Iterable[int]) -> None:
        self._network, self._sizes = network, sorted(set(sizes))

    def __call__(self, x: Tensor, condition: Tensor, **told: Tensor) -> Tensor:
        """As the network, for values of [B, ...] each; a batch beyond all sizes as it is."""
        count = len(x)
        missing = next((size for size in self._sizes if size >= count), count) - count
        x = x.contiguous()  # another layout would be another graph
        if not missing:
            return self._network(x, condition, **told)
        every = {name: _filled(value, missing) for name, value in told.items()}
        return self._network(_filled(x, missing), _filled(condition, missing), **every)[:count]


def filled(network: Callable[..., Tensor], sizes: Iterable[int]) -> Callable[..., Tensor]:
    """The network, or, if it is compiled, `Filled`."""
    return Filled(network, sizes) if is_compiled(network) else network


def _filled(value: Tensor, missing: int) -> Tensor:
    return torch.cat([value, value[-1:].expand(missing, *value.shape[1:])])


def _machine() -> str:
    """Code for one processor may not run on another that shares the folder."""
    return hashlib.sha256(f"{torch.__version__} {machine.processor()}".encode()).hexdigest()[:12]


def _refuse_without_compiler(device: torch.device) -> None:
    names, variable = ["clang++" if sys.platform == "darwin" else "g++"], "CXX"
    if device.type == "cuda":
        names, variable = ["gcc", "clang", "cc"], "CC"
    names = os.environ.get(variable, "").split()[:1] or names
    if not any(map(shutil.which, names)):
        raise EnvironmentProblem(
            f"train.compile: needs a compiler, and there is no {' or '.join(names)}: install one (apt-get "
            f"install g++), name yours in {variable}, or leave train.compile out"
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise EnvironmentProblem(
            f"train.compile: needs Python's headers, and there is no {header}: install them (apt-get install "
            "python3-dev), or leave train.compile out"
        )

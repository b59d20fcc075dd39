"""How does a network leave that diffusers has no class for? With the source of its own, and weights beside it."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from trainer.diffusion import log_snr as noise
from trainer.exchange.levels import PREDICTIONS, Table
from trainer.trained import Trained

MODULE, CLASS = "diffsweep_network", "DiffsweepNetwork"
"""File in the folder of the network, and the class in it."""
_HOUSE = "trainer."

_SHELL = '''

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput


@dataclass
class {name}Output(BaseOutput):
    """What a scheduler takes: the noise, the image or the velocity, as the scheduler's config says."""

    sample: Tensor


class {name}(ModelMixin, ConfigMixin):
    """The network as it was trained, told its noise level by diffusers' timestep k."""

    @register_to_config
    def __init__(
        self, model, sample_size, in_channels, out_channels, heads, vector, levels, denoises, num_class_embeds=None
    ):
        super().__init__()
        height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        spec = {spec}.model_validate(model)
        self.network = spec.build((in_channels, height, width), out_channels, vector)
        for name in ("condition", "inp", "skip", "out", "alpha", "sigma"):
            self.register_buffer(name, torch.ones(levels))

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        """sample [B, C, H, W] at level `timestep` ([] or [B]); without labels, "no label" for all."""
        k = torch.as_tensor(timestep, device=sample.device).long().reshape(-1).expand(len(sample))
        labels = () if class_labels is None else (class_labels.long(),)
        inp, skip, out, alpha, sigma = (
            getattr(self, name)[k].reshape(-1, 1, 1, 1) for name in ("inp", "skip", "out", "alpha", "sigma")
        )
        channels = sample.shape[1]
        answer = self.network(inp * sample, self.condition[k], *labels)[:, : self.config.heads * channels]
        if self.config.heads == 2:
            answer = alpha * answer[:, channels:] - sigma * answer[:, :channels]
        if self.config.denoises:
            answer = skip * sample + out * answer
        return {name}Output(sample=answer) if return_dict else (answer,)
'''


@dataclass(frozen=True)
class OwnNetwork:
    """What the folder of such a network holds."""

    source: str
    """Python that needs torch, diffusers and pydantic, and nothing of ours."""
    config: dict[str, Any]
    weights: dict[str, Tensor]
    prediction: str
    """diffusers' name of what the network answers."""


def own_network(trained: Trained, table: Table) -> OwnNetwork:
    """The averaged network with its source; predictions that diffusers has no name for answer x0_hat."""
    spec, diffusion, shape = trained.trial.model, trained.diffusion, trained.codec.shape
    kind = diffusion.prediction.kind
    inputs = trained.trial.network_inputs()
    config = {
        "model": spec.model_dump(mode="json"),
        "sample_size": shape[1] if shape[1] == shape[2] else list(shape[1:]),
        "in_channels": shape[0],
        "out_channels": diffusion.output_channels(shape[0]),
        "heads": diffusion.prediction.heads,
        "vector": sum(one.vector() for one in inputs),
        "levels": len(table),
        "denoises": kind not in PREDICTIONS,
        "num_class_embeds": None if spec.classes is None else spec.classes + 1,
    }
    levels = table.log_snr.to(trained.device)
    with torch.no_grad():
        told = {
            "condition": diffusion.condition(levels),
            **diffusion.prediction.coefficients(levels)._asdict(),
            "alpha": noise.alpha(levels),
            "sigma": noise.sigma(levels),
        }
        weights = {f"network.{name}": value for name, value in trained.network.state_dict().items()}
        weights |= {name: value.float() for name, value in told.items()}
    kept = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    return OwnNetwork(source_of(type(spec)), config, kept, PREDICTIONS.get(kind, "sample"))


def source_of(spec: type) -> str:
    """One module: what the spec's network is made of, in our own words, and the class that diffusers loads."""
    parts = [_body(module) for module in _needed(sys.modules[spec.__module__], [])]
    head = f'"""The network of a diffsweep model ({spec.__name__}), as it was trained."""\n'
    imports = sorted(
        {line for _, lines in parts for line in lines} | {"from dataclasses import dataclass"}
    )
    bodies = [body for body, _ in parts]
    _refuse_doubles(bodies)
    return "\n".join([head, *imports, *bodies, _SHELL.format(name=CLASS, spec=spec.__name__)])


def _needed(module: ModuleType, found: list[ModuleType]) -> list[ModuleType]:
    """The house's modules that one is made of, those it imports before it, also those it imports in a function."""
    if module in found:
        return found
    found.append(module)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_HOUSE):
            _needed(importlib.import_module(node.module), found)
    found.remove(module)
    found.append(module)
    return found


def _body(module: ModuleType) -> tuple[str, list[str]]:
    """A module without docstring and imports, and the imports of other houses, each a line."""
    source = inspect.getsource(module)
    lines, imports, gone = source.splitlines(), list[str](), set[int]()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        is_import = isinstance(node, ast.Import | ast.ImportFrom)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not (is_import or for_types or node is tree.body[0]):
            continue
        assert isinstance(node, ast.stmt)
        assert node.end_lineno is not None
        gone |= set(range(node.lineno - 1, node.end_lineno))
        inside = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_HOUSE)
        if is_import and not inside:
            imports.append(ast.unparse(node))
    return "\n".join(line for i, line in enumerate(lines) if i not in gone).strip(
        "\n"
    ) + "\n", imports


def _refuse_doubles(bodies: list[str]) -> None:
    """In one module every name may be made once only: a fault of ours, which a test looks for."""
    names: list[str] = []
    for body in bodies:
        for node in ast.parse(body).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.append(node.name)
            elif isinstance(node, ast.Assign):
                names += [target.id for target in node.targets if isinstance(target, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.append(node.target.id)
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"two modules of the network make {', '.join(twice)}"

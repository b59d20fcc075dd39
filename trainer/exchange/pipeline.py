"""How does a model become a folder that `DiffusionPipeline.from_pretrained` loads? Network, scheduler, card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.errors import UserError
from trainer.evaluation.picture import MODES
from trainer.exchange.card import Exported, Story, card
from trainer.exchange.foreign import CONFIG
from trainer.exchange.levels import PREDICTIONS, Table
from trainer.exchange.own_code import CLASS, MODULE, own_network
from trainer.exchange.unet2d import CLOSE, largest_gap, obstacle, to_unet2d
from trainer.files import write_whole
from trainer.inputs import Labels
from trainer.models.peer import diffusers
from trainer.trained import Trained

INDEX, ORIGIN = "model_index.json", "diffsweep.json"
LEARNED = "diffsweep.safetensors"
"""What learned beside the network: diffusers sees it as the scheduler's table only."""
WEIGHTS = "diffusion_pytorch_model.safetensors"


def export(trained: Trained, folder: Path, story: Story) -> Exported:
    """Write the averaged network as a diffusers pipeline into a folder that is empty, or was written by this.

    Raises UserError with the reason for a model that no pipeline could run.
    """
    _refuse(trained)
    _refuse_occupied(folder)
    table = Table.of(trained.diffusion)
    why = obstacle(trained)
    clip = trained.trial.evaluation.full.clip
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "unet").mkdir(parents=True)
    if why is None:
        prediction = PREDICTIONS[trained.diffusion.prediction.kind]
        model = to_unet2d(trained, table)
        gap = largest_gap(trained, table, model)
        if not gap < CLOSE:
            why = f"UNet2DModel answers differently here, by {gap:.2g}"
        else:
            model.save_pretrained(partial / "unet")
    if why is not None:
        prediction = _write_own(trained, table, partial / "unet")
    labels = trained.trial.model.classes is not None
    scheduler = table.scheduler(prediction, clip=clip, labels=labels)
    scheduler.save_pretrained(partial / "scheduler")
    result = Exported(
        folder,
        "UNet2DModel" if why is None else CLASS,
        "ConsistencyModelPipeline" if labels else "DDIMPipeline",
        why,
        len(table),
        max(steps for steps in range(1, 51) if len(table) % steps == 0),
    )
    _write_index(result, type(scheduler).__name__, partial)
    write_whole(partial / "README.md", card(trained, result, story))
    origin = {"trial": trained.trial.model_dump(mode="json"), "data": trained.fingerprint}
    write_whole(partial / ORIGIN, json.dumps(origin, indent=1) + "\n")
    if trained.learned:
        write_whole(partial / LEARNED, _saved(trained.learned))
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(folder)
    return result


def _refuse(trained: Trained) -> None:
    """UserError for what no pipeline of diffusers could run."""
    trained.refuse_broken()
    shape = trained.codec.shape
    if len(shape) != 3:
        raise UserError(
            f"export: diffusers' pipelines make images, this model makes points of shape {shape}"
        )
    if shape[0] > len(MODES):
        raise UserError(
            f"export: diffusers' pipelines make pictures, this model makes {shape[0]} channels that are no colours"
        )
    probe = torch.arange(4)
    for one in trained.trial.network_inputs():
        kind = getattr(one, "kind", type(one).__name__)
        if one.planes(shape):
            raise UserError(
                f"export: inputs {kind}: no pipeline gives the network further planes beside x_t"
            )
        if isinstance(one, Labels):
            continue
        told = one.generated(trained.codec, probe, 0)
        if any(bool(value.any()) for value in told.values()):
            raise UserError(f"export: inputs {kind}: no pipeline tells the network that")
    if trained.trial.model.classes is not None and shape[1] != shape[2]:
        raise UserError(
            f"export: images of {shape[1]} x {shape[2]} with labels: diffusers' pipeline that takes labels makes "
            "squares only"
        )


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ORIGIN).is_file():
        raise UserError(
            f"{folder} holds other files than an exported model: choose another folder, or empty it"
        )


def _saved(tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    kept = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    return save(kept, metadata={"format": "pt"})


def _write_own(trained: Trained, table: Table, folder: Path) -> str:
    """Source, config and weights of a network of our own; returns what it predicts."""
    own = own_network(trained, table)
    config = {"_class_name": CLASS, "_diffusers_version": diffusers().__version__, **own.config}
    write_whole(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    write_whole(folder / WEIGHTS, _saved(own.weights))
    write_whole(folder / f"{MODULE}.py", own.source)
    return own.prediction


def _write_index(exported: Exported, scheduler: str, folder: Path) -> None:
    library = "diffusers" if exported.own_code is None else MODULE
    index: dict[str, str | Sequence[str]] = {
        "_class_name": exported.pipeline,
        "_diffusers_version": str(diffusers().__version__),
        "scheduler": ["diffusers", scheduler],
        "unet": [library, exported.network],
    }
    write_whole(folder / INDEX, json.dumps(index, indent=2) + "\n")

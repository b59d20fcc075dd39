"""Which of our networks is diffusers' UNet2DModel, and under which names does it keep its weights?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from trainer.exchange.levels import PREDICTIONS, Table, is_shifted_time, turned
from trainer.models import UNet
from trainer.models.embedding import SCALE, sinusoidal
from trainer.models.peer import diffusers
from trainer.trained import Trained

CLOSE = 1e-4
"""Largest difference of outputs, by the largest output, at which a translated network is ours: float32 sums."""
KNOWN = frozenset(
    {
        *("kind", "layout", "channels", "blocks", "attention", "heads", "head_width", "groups"),
        *("dropout", "scale_shift", "resample", "attention_after_resample", "embedding"),
        *("embedding_multiplier", "classes"),
    }
)
"""Fields of a U-Net that this file understands; a network that sets another one goes its own way."""


def obstacle(trained: Trained) -> str | None:
    """Why the network is no UNet2DModel; None if it is one."""
    spec, prediction = trained.trial.model, trained.diffusion.prediction.kind
    if _theirs(trained) is not None:
        return None if prediction in PREDICTIONS else f"diffusion.prediction: {prediction}"
    if not isinstance(spec, UNet):
        return f"model.kind: {spec.kind}"
    if spec.layout != "ddpm":
        return f"model.layout: {spec.layout} (its up path reads other outputs than UNet2DModel's)"
    if spec.resample not in ("conv", "residual"):
        return f"model.resample: {spec.resample}"
    if more := sorted(set(spec.identity()) - KNOWN):
        return f"model.{more[0]}"
    if len(set(spec.depths())) > 1:
        return "model.blocks: another number for each level"
    if spec.attention_after_resample:
        return "model.attention_after_resample"
    if spec.embedding > spec.channels[0]:
        return f"model.embedding: {spec.embedding} exceeds the width of the first level, {spec.channels[0]}"
    if _head_width(spec) == 0:
        return "model.heads: attention of another width per head on each level"
    if prediction not in PREDICTIONS:
        return f"diffusion.prediction: {prediction}"
    return None


def _head_width(spec: UNet) -> int | None:
    """Channels of every attention head; None: one head everywhere; 0: they differ."""
    levels = {*spec.attention, len(spec.channels) - 1}
    widths = [spec.channels[level] for level in levels]
    heads = {spec.style().head_count(width) for width in widths}
    if heads == {1}:
        return None
    each = {width // spec.style().head_count(width) for width in widths}
    return each.pop() if len(each) == 1 else 0


def to_unet2d(trained: Trained, table: Table) -> Any:
    """The averaged network as a UNet2DModel; only where there is no `obstacle`.

    The output channels of a learned variance are left out. Where the network is told anything but k + 1, its
    sinusoids become the model's learned table of timesteps: the same numbers, looked up.
    """
    spec = trained.trial.model
    if (theirs := _theirs(trained)) is not None:
        return _tabled(trained, table, theirs)
    assert isinstance(spec, UNet)
    positional = is_shifted_time(trained.diffusion, table) and spec.embedding == spec.channels[0]
    model = diffusers().UNet2DModel(**_config(spec, trained.codec.shape, positional, len(table)))
    weights = dict(_weights(spec, trained.network, trained.codec.shape[0]))
    first = weights["time_embedding.linear_1.weight"]
    if positional:
        weights["time_embedding.linear_1.weight"] = turned(first, 1.0, last=False)
    else:
        told = trained.diffusion.condition(table.log_snr.to(trained.device)).cpu().float()
        room = spec.channels[0] - spec.embedding
        rows = sinusoidal(told, spec.embedding, last=False)
        weights["time_proj.weight"] = nn.functional.pad(rows, (0, room))
        weights["time_embedding.linear_1.weight"] = nn.functional.pad(first, (0, room))
    model.load_state_dict(weights)
    return model.eval()


def _theirs(trained: Trained) -> Any:
    """The UNet2DModel inside a network of `kind: diffusers_unet`; None inside others."""
    return getattr(trained.network, "unet", None)


def _tabled(trained: Trained, table: Table, theirs: Any) -> Any:
    """A UNet2DModel that was told real numbers, told the table's index; as it is where both are the same."""
    told = trained.diffusion.condition(table.log_snr.to(trained.device)).cpu() * SCALE
    config, channels = dict(theirs.config), trained.codec.shape[0]
    weights = {name: value.detach().cpu() for name, value in theirs.state_dict().items()}
    weights = {
        name: value for name, value in weights.items() if not name.endswith("embedding.vector")
    }
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = weights[name][:channels].clone()
    sides = trained.codec.shape[1:]
    config |= {
        "out_channels": channels,
        "sample_size": sides[0] if len(set(sides)) == 1 else list(sides),
    }
    if float((told - torch.arange(len(table)).double()).abs().max()) > 1e-6:
        rows = theirs.time_proj.cpu()
        at = told.float() if config["time_embedding_type"] == "positional" else told.round().long()
        config |= {"time_embedding_type": "learned", "num_train_timesteps": len(table)}
        with torch.no_grad():
            weights["time_proj.weight"] = rows(at)
    options = {key: value for key, value in config.items() if not key.startswith("_")}
    model = diffusers().UNet2DModel(**options)
    model.load_state_dict(weights)
    return model.eval()


def _config(spec: UNet, shape: tuple[int, ...], positional: bool, levels: int) -> dict[str, Any]:
    attends = [level in spec.attention for level in range(len(spec.channels))]
    resnet = spec.resample == "residual"
    plain = (
        ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
        if resnet
        else ("DownBlock2D", "UpBlock2D")
    )
    down = ["AttnDownBlock2D" if attention else plain[0] for attention in attends]
    up = ["AttnUpBlock2D" if attention else plain[1] for attention in reversed(attends)]
    return {
        "sample_size": shape[1] if shape[1] == shape[2] else list(shape[1:]),
        "in_channels": shape[0],
        "out_channels": shape[0],
        "time_embedding_type": "positional" if positional else "learned",
        "num_train_timesteps": None if positional else levels,
        "time_embedding_dim": spec.embedded(),
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": list(spec.channels),
        "layers_per_block": spec.depths()[0],
        "downsample_type": "resnet" if resnet else "conv",
        "upsample_type": "resnet" if resnet else "conv",
        "dropout": spec.dropout,
        "attention_head_dim": _head_width(spec),
        "norm_num_groups": spec.groups,
        "attn_norm_num_groups": spec.groups,
        "resnet_time_scale_shift": "scale_shift" if spec.scale_shift else "default",
        "num_class_embeds": None if spec.classes is None else spec.classes + 1,
    }


def _weights(spec: UNet, network: nn.Module, channels: int) -> Iterator[tuple[str, Tensor]]:
    """Every weight of ours under diffusers' name."""
    ours = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    renamed = dict(module_names(spec))
    for name, value in ours.items():
        path, _, leaf = name.rpartition(".")
        if path == "" or path == "embed":
            continue  # a vector of inputs, silent in every sample
        if path.endswith("attention.qkv"):
            place = renamed[path.removesuffix(".qkv")]
            for part, rows in zip(
                "qkv", value.flatten(1 if leaf == "weight" else 0).chunk(3), strict=True
            ):
                yield f"{place}.to_{part}.{leaf}", rows.clone()
        elif path.endswith("attention.out"):
            place = renamed[path.removesuffix(".out")]
            yield f"{place}.to_out.0.{leaf}", value.flatten(1) if leaf == "weight" else value
        elif path.endswith("attention.norm"):
            yield f"{renamed[path.removesuffix('.norm')]}.group_norm.{leaf}", value
        elif path == "outward":
            yield f"conv_out.{leaf}", value[:channels].clone()
        else:
            yield f"{renamed[path]}.{leaf}", value


_BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "embed": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "skip": "conv_shortcut",
}


def module_names(spec: UNet) -> Iterator[tuple[str, str]]:
    """Modules of layout ddpm and what UNet2DModel calls them."""
    yield from (("inward", "conv_in"), ("norm", "conv_norm_out"), ("outward", "conv_out"))
    yield from (
        ("embed.layers.0", "time_embedding.linear_1"),
        ("embed.layers.2", "time_embedding.linear_2"),
    )
    yield "embed.labels", "class_embedding"
    yield from _block("middle.0", "mid_block.resnets.0", "mid_block.attentions.0")
    yield from _block("middle.1", "mid_block.resnets.1")
    levels, depth = len(spec.channels), spec.depths()[0]
    for side, count, resampler in (
        ("down", depth, "downsamplers"),
        ("up", depth + 1, "upsamplers"),
    ):
        number = 0
        for level in range(levels):
            place = f"{side}_blocks.{level}"
            for j in range(count):
                yield from _block(
                    f"{side}.{number}", f"{place}.resnets.{j}", f"{place}.attentions.{j}"
                )
                number += 1
            if level < levels - 1:
                yield f"{side}.{number}.conv", f"{place}.{resampler}.0.conv"
                yield from _block(f"{side}.{number}", f"{place}.{resampler}.0")
                number += 1


def _block(ours: str, theirs: str, attention: str | None = None) -> Iterator[tuple[str, str]]:
    for mine, name in _BLOCK.items():
        yield f"{ours}.{mine}", f"{theirs}.{name}"
    if attention is not None:
        yield f"{ours}.attention", attention


def largest_gap(trained: Trained, table: Table, model: Any) -> float:
    """Largest difference of both networks' outputs over some levels and labels, by the largest output.

    A model from elsewhere may lack the row for "no label", and may answer more than C channels.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, *trained.codec.shape, generator=generator)
    k = torch.linspace(0, len(table) - 1, 4).long()
    classes = trained.trial.model.classes
    rows = model.config.num_class_embeds
    last = classes if rows is None or classes is None else min(classes, rows - 1)
    labels = None if classes is None else torch.tensor([0, classes // 2, classes - 1, last])
    told = {} if labels is None else {"labels": labels.to(trained.device)}
    levels = table.log_snr[k].to(trained.device)
    with torch.inference_mode():
        condition = trained.diffusion.condition(levels).float()
        ours = trained.network(x.to(trained.device), condition, **told)[:, : x.shape[1]].cpu()
        theirs = model(x, k, class_labels=labels).sample[:, : x.shape[1]]
    return float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-12))

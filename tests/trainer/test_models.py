"""Proves that networks have the published sizes and functions, start at zero, read labels, and compile."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional

from trainer.models import MLP, AnyModel, DiffusersUNet, DiT, UNet
from trainer.models.embedding import NoiseLevelEmbedding, sinusoidal
from trainer.models.layers import Attention, PlainResample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())["entries"]

PUBLISHED = {"layout": "ddpm", "groups": 32, "embedding_multiplier": 4, "scale_shift": True}
"""What improved-diffusion, guided-diffusion, P2 and v-diffusion share."""
MULTIPLIERS = {32: (1, 2, 2, 2), 64: (1, 2, 3, 4), 256: (1, 1, 2, 2, 4, 4)}
"""improved-diffusion's widths by image size."""

SMALL: dict[str, Any] = {
    "compact": UNet(channels=(8, 16), blocks=1, groups=4),
    "compact-residual": UNet(
        channels=(8, 16), groups=4, attention=(0, 1), resample="residual", scale_shift=True
    ),
    "ddpm": UNet(layout="ddpm", channels=(8, 16), blocks=1, groups=4, attention=(1,)),
    "ddpm-residual": UNet(
        layout="ddpm", channels=(8, 12), blocks=(1, 2), groups=4, attention=(1,), heads=2, scale_shift=True,
        resample="residual", attention_after_resample=True,
    ),
    "compact-grown": UNet(
        channels=(4, 8, 16), blocks=1, groups=4, attention=(1,), skip_stages=1, fourier=1.0, embedding=15,
    ),
    "ddpm-grown": UNet(
        layout="ddpm", channels=(4, 8, 12), blocks=(1, 1, 2), groups=4, attention=(1, 2), heads=2, heads_up=4,
        attention_order="heads_first", resample="plain", skip_stages=1, patch=2, mapping=3,
    ),
    "diffusers": DiffusersUNet(
        config={
            "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4,
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        }
    ),
    "dit": DiT(width=16, depth=2, heads=2),
    "mlp": MLP(width=16),
}  # fmt: skip


def golden(feature: str) -> list[Any]:
    return [
        pytest.param(entry, id=f"{entry['system']}-{entry['name']}")
        for entry in GOLDEN
        if entry["feature"] == feature
    ]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def on_meta(spec: UNet | DiT | MLP, shape: tuple[int, ...], out: int | None = None) -> nn.Module:
    with torch.device("meta"):
        return spec.build(shape, out)


def awake(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter that starts at zero a value, so that the output depends on everything."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


@pytest.mark.parametrize(
    ("spec", "shape", "parameters", "total", "absolute", "output"),
    [
        (
            UNet(channels=(24, 48), blocks=1),
            (1, 8, 8),
            249_113,
            453.1390043634038,
            7772.85061631071,
            [-0.25330379605293274, -0.46767744421958923, -0.27731144428253174],
        ),
        (
            UNet(channels=(16, 32), attention=(0, 1), head_width=8, dropout=0.1, embedding=16),
            (3, 8, 8),
            185_475,
            749.6025589027196,
            7927.179576731368,
            [0.4376365542411804, -0.24628885090351105, -0.06280436366796494],
        ),
        (
            MLP(),
            (2,),
            14_914,
            0.5755128237942699,
            1030.6424062835576,
            [0.2362830936908722, -0.11572860181331635, -0.029662780463695526],
        ),
    ],
    ids=["digits", "unet", "mlp"],
)
def test_networks_keep_their_initial_weights_and_outputs(
    spec: UNet | MLP,
    shape: tuple[int, ...],
    parameters: int,
    total: float,
    absolute: float,
    output: list[float],
) -> None:
    """Finished trials would no longer be comparable if a new option moved the old networks."""
    torch.manual_seed(3)
    network = spec.build(shape)
    assert count(network) == parameters
    weights = torch.cat([p.detach().double().flatten() for p in network.parameters()])
    # sums of float64 copies in another order: far above rounding, far below one changed weight
    assert float(weights.sum()) == pytest.approx(total, rel=1e-9)
    assert float(weights.abs().sum()) == pytest.approx(absolute, rel=1e-9)
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(2, *shape, generator=generator)
    y = network.eval()(x, torch.tensor([0.2, 0.9]))
    # float32 convolutions sum in an order that depends on the machine
    assert y.flatten()[:3].tolist() == pytest.approx(output, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("classes", [None, 3])
def test_shapes_zero_start_and_gradients(name: str, classes: int | None) -> None:
    spec = SMALL[name].model_copy(update={"classes": classes})
    shape = (5,) if name == "mlp" else (3, 8, 8)
    network = spec.build(shape, 7)
    x, condition = torch.randn(4, *shape), torch.rand(4)
    labels = None if classes is None else torch.tensor([0, 1, 2, 3])
    y = network(x, condition, labels)
    assert y.shape == (4, 7, *shape[1:])
    assert not y.any() or name == "diffusers"  # whose own initial weights are kept
    awake(network)(x, condition, labels).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_output_depends_on_noise_level_and_label(name: str) -> None:
    spec = SMALL[name].model_copy(update={"classes": 3})
    shape = (5,) if name == "mlp" else (3, 8, 8)
    network = awake(spec.build(shape))
    x, condition = torch.randn(1, *shape).expand(4, *shape), torch.full((4,), 0.3)
    y = network(x, condition, torch.tensor([0, 1, 2, 3]))
    assert all(not torch.allclose(y[i], y[j]) for i in range(4) for j in range(i))
    assert not torch.allclose(network(x, condition + 0.2), network(x, condition))
    hidden = network(x, condition)  # no labels: the row after the last class for everybody
    torch.testing.assert_close(hidden, y[3:].expand_as(hidden))


@pytest.mark.parametrize("name", SMALL)
def test_without_classes_labels_are_not_read(name: str) -> None:
    shape = (5,) if name == "mlp" else (3, 8, 8)
    network = awake(SMALL[name].build(shape))
    x, condition = torch.randn(2, *shape), torch.rand(2)
    assert torch.equal(network(x, condition, torch.tensor([0, 9])), network(x, condition))


@pytest.mark.parametrize("name", SMALL)
def test_compiles_in_one_graph(name: str) -> None:
    spec = SMALL[name].model_copy(update={"classes": 3})
    shape = (5,) if name == "mlp" else (3, 8, 8)
    network = awake(spec.build(shape))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    x, condition, labels = torch.randn(2, *shape), torch.rand(2), torch.tensor([1, 3])
    torch.testing.assert_close(compiled(x, condition, labels), network(x, condition, labels))


def test_image_networks_serve_sides_of_any_ratio() -> None:
    for name in ("compact-residual", "ddpm-residual", "dit"):
        network = SMALL[name].build((1, 4, 8))
        assert network(torch.randn(2, 1, 4, 8), torch.rand(2)).shape == (2, 1, 4, 8)


def improved(size: int, flags: dict[str, Any]) -> tuple[UNet, int]:
    """improved-diffusion's flags as a spec, and its output channels."""
    width = flags.get("num_channels", 128)
    levels = {size // (size >> i): i for i in range(len(MULTIPLIERS[size]))}
    resolutions = [int(r) for r in flags.get("attention_resolutions", "16,8").split(",")]
    heads = None if "num_head_channels" in flags else flags.get("num_heads", 4)
    spec = UNet(
        **{**PUBLISHED, "scale_shift": flags.get("use_scale_shift_norm", True)},
        channels=tuple(width * m for m in MULTIPLIERS[size]),
        blocks=flags.get("num_res_blocks", 2),
        attention=tuple(levels[size // r] for r in resolutions),
        heads=heads,
        head_width=flags.get("num_head_channels", 64),
        dropout=flags.get("dropout", 0.0),
        resample="residual" if flags.get("resblock_updown") else "conv",
        embedding=width,
        classes=1000 if flags.get("class_cond") else None,
    )
    return spec, 6 if flags.get("learn_sigma") else 3


LSUN = {
    "image_size": 256, "num_heads": 1, "learn_sigma": True, "use_scale_shift_norm": False,
    "attention_resolutions": "16",
}  # fmt: skip


@pytest.mark.parametrize(
    "entry",
    [
        *golden("unet_params"),
        pytest.param({"inputs": {"flags": LSUN}, "outputs": {"n_params": 113_676_678}}, id="lsun"),
        pytest.param(
            {
                "inputs": {"flags": {"image_size": 64, "num_res_blocks": 3, "learn_sigma": True}},
                "outputs": {"n_params": 121_063_942},
            },
            id="imagenet64",
        ),
    ],
)
def test_improved_diffusion_and_p2_sizes(entry: dict[str, Any]) -> None:
    flags = entry["inputs"]["flags"]
    spec, out = improved(flags["image_size"], flags)
    size = flags["image_size"]
    null_row = 0 if spec.classes is None else spec.embedded()  # theirs has no row for "no label"
    assert count(on_meta(spec, (3, size, size), out)) == entry["outputs"]["n_params"] + null_row


def test_other_published_sizes() -> None:
    diffsched = UNet(
        **{**PUBLISHED, "scale_shift": False}, channels=(128, 128, 256, 256, 512, 512),
        attention=(4,), head_width=8, embedding=128,
    )  # fmt: skip
    assert count(on_meta(diffsched, (3, 64, 64))) == 113_673_219  # diffusers' UNet2DModel
    cifar = UNet(
        **PUBLISHED, channels=(256, 256, 256), blocks=3, attention=(1, 2), heads=1, embedding=256,
        resample="residual", attention_after_resample=True, dropout=0.2, classes=10,
    )  # fmt: skip
    # v-diffusion's one-hot linear layer has a bias where our table has the row of "no label"
    assert count(on_meta(cifar, (3, 32, 32))) == pytest.approx(60.8e6, rel=1e-3)
    xl = DiT(width=1152, depth=28, heads=16, classes=1000)
    # DiT-XL/2 logs 675,129,632, which counts its fixed table of 256 positions
    assert count(on_meta(xl, (4, 32, 32), 8)) == 675_129_632 - 256 * 1152


@pytest.mark.parametrize("entry", golden("unet_forward"))
def test_ddpm_layout_computes_what_the_published_network_computes(entry: dict[str, Any]) -> None:
    flags = entry["inputs"]["config"]
    spec = UNet(
        **PUBLISHED,
        channels=tuple(flags["model_channels"] * m for m in flags["channel_mult"]),
        blocks=flags["num_res_blocks"],
        attention=tuple({1: 0, 2: 1}[factor] for factor in flags["attention_resolutions"]),
        heads=flags.get("num_heads"),
        head_width=flags.get("num_head_channels", 64),
        resample="residual" if flags.get("resblock_updown") else "conv",
        embedding=flags["model_channels"],
        attention_order="qkv_first" if flags.get("use_new_attention_order") else "heads_first",
    )
    x = torch.tensor(entry["inputs"]["x"], dtype=torch.float64)
    network = spec.build(tuple(x.shape[1:]), flags["out_channels"]).double()
    assert count(network) == entry["outputs"]["n_params"]
    for k, (name, p) in enumerate(network.named_parameters()):
        value = 0.05 * torch.sin(1.0 + 0.37 * torch.arange(p.numel()).double() + 0.11 * k)
        p.data = value.reshape(p.shape) + ("norm" in name and name.endswith("weight"))
    timesteps = torch.tensor(entry["inputs"]["timesteps"], dtype=torch.float64)
    expected = torch.tensor(entry["outputs"]["output"], dtype=torch.float64)
    # their sinusoids are computed in float32, whose phase of 700 is rounded at 3e-5
    torch.testing.assert_close(network(x, timesteps / 1000.0), expected, rtol=1e-9, atol=1e-12)


def by_kind_then_head(rows: Tensor, heads: int) -> Tensor:
    """Rows ordered head, then q k v, as the older releases have them, in our order q k v, then head."""
    return rows.reshape(heads, 3, -1, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def test_the_orders_of_attention_are_one_function_of_reordered_rows() -> None:
    spec = UNet(layout="ddpm", channels=(8, 16), blocks=1, groups=4, heads=2, attention=(0,))
    new = awake(spec.build((1, 8, 8)))
    old = spec.model_copy(update={"attention_order": "heads_first"}).build((1, 8, 8)).eval()
    weights = new.state_dict()
    old.load_state_dict(weights)
    x, condition = torch.randn(2, 1, 8, 8), torch.rand(2)
    assert not torch.allclose(old(x, condition), new(x, condition))
    back = {
        name: by_kind_then_head(value, 2) if ".qkv." in name else value
        for name, value in old.state_dict().items()
    }
    new.load_state_dict(back)
    torch.testing.assert_close(old(x, condition), new(x, condition))


def test_heads_of_the_up_path() -> None:
    """improved-diffusion's num_heads_upsample; the middle has those of the down path."""
    spec = UNet(
        layout="ddpm", channels=(8, 16), blocks=1, groups=4, heads=2, heads_up=4, attention=(1,),
    )  # fmt: skip
    heads = {
        name.partition(".")[0]: module.heads
        for name, module in spec.build((1, 8, 8)).named_modules()
        if isinstance(module, Attention)
    }
    assert heads == {"down": 2, "middle": 2, "up": 4}


def test_plain_resampling_learns_nothing_and_is_averages_and_repetition() -> None:
    """guided-diffusion's conv_resample False, which improved-diffusion cannot run."""
    names = [
        [name for name, _ in spec.build((1, 8, 8)).named_parameters()]
        for spec in (SMALL["ddpm"], SMALL["ddpm"].model_copy(update={"resample": "plain"}))
    ]
    assert sorted(set(names[0]) - set(names[1])) == [
        "down.1.conv.bias", "down.1.conv.weight", "up.2.conv.bias", "up.2.conv.weight",
    ]  # fmt: skip
    x = torch.randn(2, 3, 4, 4)
    down = PlainResample("down")(x, x)
    torch.testing.assert_close(down, x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)))
    assert torch.equal(PlainResample("up")(x, x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_patches_are_channels_of_one_place() -> None:
    """A network on patches is the same network on the unshuffled image (k-diffusion's patch_size)."""
    spec = SMALL["compact"].model_copy(update={"patch": 2})
    patched, plain = spec.build((3, 16, 16), 5), SMALL["compact"].build((12, 8, 8), 20)
    plain.load_state_dict(awake(patched).state_dict())
    x, condition = torch.randn(2, 3, 16, 16), torch.rand(2)
    expected = plain.eval()(functional.pixel_unshuffle(x, 2), condition)
    torch.testing.assert_close(patched(x, condition), functional.pixel_shuffle(expected, 2))


@pytest.mark.parametrize("layout", ["compact", "ddpm"])
@pytest.mark.parametrize("resample", ["conv", "residual"])
def test_a_network_with_skipped_stages_is_the_inside_of_the_grown_one(
    layout: str, resample: str
) -> None:
    """Same names and shapes but for what touches the image, and the same function of the feature maps."""
    grown = UNet.model_validate(
        {"layout": layout, "channels": (8, 8, 16), "blocks": (1, 2, 1), "groups": 4, "attention": (1,),
         "resample": resample},
    )  # fmt: skip
    small = grown.model_copy(update={"skip_stages": 1}).build((3, 8, 8))
    large = awake(grown.build((3, 16, 16)))
    inside, outside = small.state_dict(), large.state_dict()
    assert set(inside) < set(outside)
    differ = {name for name, value in inside.items() if value.shape != outside[name].shape}
    assert {name.partition(".")[0] for name in differ} <= {"inward", "norm", "outward"}
    small.load_state_dict({name: outside[name] for name in inside})
    seen: dict[str, Tensor] = {}
    # what the grown network's second level reads and gives is what the small network must make of it
    maps: Any = (large, small)
    if layout == "compact":
        maps[0].down[1][0].register_forward_pre_hook(lambda _, given: seen.update(inward=given[0]))
        maps[0].up[1][-1].register_forward_hook(lambda _, __, out: seen.update(outward=out))
    else:
        maps[0].down[1].register_forward_hook(lambda _, __, out: seen.update(inward=out))
        maps[0].up[5].register_forward_hook(lambda _, __, out: seen.update(outward=out))
    maps[1].inward.register_forward_hook(lambda *_: seen["inward"])
    maps[1].norm.register_forward_pre_hook(lambda _, given: seen.update(small=given[0]))
    condition = torch.rand(2)
    large(torch.randn(2, 3, 16, 16), condition)
    small.eval()(torch.randn(2, 3, 8, 8), condition)
    torch.testing.assert_close(seen["small"], seen["outward"])


def test_random_frequencies_are_k_diffusion_s_features() -> None:
    entry = FOURIER
    embed = NoiseLevelEmbedding(6, 6, mapping=1, fourier=1.0).double()
    embed.frequencies = torch.tensor(entry["weight"], dtype=torch.float64)[:, 0]
    x = torch.tensor(entry["x"], dtype=torch.float64)[:, 0]
    expected = torch.tensor(entry["out"], dtype=torch.float64)
    torch.testing.assert_close(embed._features(x), expected)
    torch.manual_seed(0)
    wide = NoiseLevelEmbedding(4000, 8, fourier=16.0)
    # standard error of a standard deviation over 2000 draws: 16/sqrt(4000) = 0.25
    assert float(wide.frequencies.std()) == pytest.approx(16.0, abs=1.0)
    assert "frequencies" in wide.state_dict(), "random numbers that a checkpoint must keep"


FOURIER: dict[str, Any] = {
    "weight": [[0.3], [-1.1], [2.0]],
    "x": [[0.1], [-0.7]],
    "out": [
        [0.9822872507286887, 0.7705132427757891, 0.30901699437494745,
         0.1873813145857246, -0.6374239897486897, 0.9510565162951535],
        [0.24868988716485496, 0.12533323356430423, -0.8090169943749472,
         -0.9685831611286311, -0.9921147013144779, -0.5877852522924734],
    ],
}  # fmt: skip
"""k-diffusion's FourierFeatures, run in float64."""


@pytest.mark.parametrize("entry", golden("timestep_embedding"))
def test_sinusoids_are_the_published_ones(entry: dict[str, Any]) -> None:
    given = entry["inputs"]
    expected = torch.tensor(entry["outputs"]["embedding"], dtype=torch.float64)
    if entry["system"] == "vdpm":
        actual = sinusoidal(torch.tensor(given["t"], dtype=torch.float64), given["embed_dim"])
        expected = expected.roll(given["embed_dim"] // 2, 1)  # sines first: a permutation of inputs
    else:
        t = torch.tensor(given["timesteps"], dtype=torch.float64) / 1000.0
        actual = sinusoidal(t, given["dim"], last=False, period=given["max_period"])
    # 1e-9: rounding of phases up to 1000, 1e-13, with room
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"kind": "unet", "channels": [12], "groups": 8}, "channels: 12 is not a multiple"),
        ({"kind": "unet", "blocks": [1, 2]}, "blocks: 2 numbers for 3 levels"),
        ({"kind": "unet", "attention": [3]}, "attention: level 3 does not exist"),
        ({"kind": "unet", "attention": [0], "heads": 3}, "heads: 3 does not divide 64"),
        ({"kind": "unet", "layout": "ddpm", "head_width": 48}, "head_width: 48 does not divide"),
        ({"kind": "unet", "attention_after_resample": True}, "needs resample: residual"),
        ({"kind": "unet", "attention": [0], "heads_up": 3}, "heads_up: 3 does not divide 64"),
        ({"kind": "unet", "skip_stages": 3}, "skip_stages: 3 leaves none of 3 levels"),
        ({"kind": "unet", "resample": "plain"}, "resample: plain changes no width"),
        ({"kind": "dit", "width": 10, "heads": 3}, "heads: 3 does not divide width: 10"),
        ({"kind": "dit", "width": 6, "heads": 3}, "multiple of 4"),
        ({"kind": "mlp", "classes": 0}, "greater than or equal to 1"),
        ({"kind": "unet", "embedding": 1}, "greater than or equal to 2"),
    ],
)
def test_specs_refuse_what_cannot_be_built(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AnyModel).validate_python(model)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        (UNet(), (2,), "unet needs images"),
        (UNet(), (3, 30, 30), "divisible by 4"),
        (
            UNet(skip_stages=1, patch=2),
            (3, 30, 30),
            "2 levels of patches of 2 need sides divisible by 4",
        ),
        (DiT(), (2,), "dit needs images"),
        (DiT(patch=4), (3, 30, 30), "does not divide images of 30 x 30"),
    ],
)
def test_build_refuses_data_that_does_not_fit(
    spec: UNet | DiT, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        spec.build(shape)

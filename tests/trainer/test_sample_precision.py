"""Proves that samples in bf16 are those in fp32 but for rounding, under a protocol of their own."""

import torch

from trainer.data import Codec
from trainer.diffusion.process import Diffusion
from trainer.evaluation.generation import Also, Generation, generate
from trainer.models.unet import UNet


def test_near_but_not_the_same() -> None:
    torch.manual_seed(0)
    network = UNet(channels=(16, 16), blocks=1).build((1, 8, 8)).eval()
    torch.nn.init.normal_(network.outward.weight, std=0.05)  # type: ignore[arg-type, union-attr]
    plain = Generation(images=8, steps=6, clip=False)
    codec = Codec((1, 8, 8), levels=None)
    seen: set[torch.dtype] = set()
    network.outward.register_forward_hook(lambda *given: seen.add(given[-1].dtype))  # type: ignore[operator, union-attr]
    made = []
    for one in (plain, Also(name="quick", precision="bf16").of(plain)):
        made.append(generate(network, Diffusion(), codec, one, range(8), 0))
        assert made[-1].dtype == torch.float32
    assert seen == {torch.float32, torch.bfloat16}
    apart = (made[0] - made[1]).abs()
    assert 0.0 < float(apart.mean()) < 0.03 * float(made[0].std())


def test_only_what_differs_has_another_name() -> None:
    plain = Generation(images=8, steps=6)
    assert "precision" not in plain.identity()
    assert Generation(images=8, steps=6, precision="bf16").digest() != plain.digest()

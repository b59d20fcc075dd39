"""Proves that warps are k-diffusion's, right for images that are not square, drawn by global index, and told."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.data import Batches, Codec, Resident
from trainer.distributed import World
from trainer.errors import UserError
from trainer.inputs import Batch, trained
from trainer.inputs.augmented import Augmented, Warp, warped
from trainer.training import Training
from trainer.trial import TrialSpec

GOLDEN = {
    entry["name"].split("/", 1)[1]: entry
    for entry in json.loads(
        (Path(__file__).parents[1] / "golden" / "augmentation.json").read_text()
    )["entries"]
}


def warp(**values: float) -> Warp:
    """One image, warped as named."""
    names = Warp.__dataclass_fields__
    return Warp(**{n: torch.tensor([values.get(n, 0.0)], dtype=torch.float64) for n in names})


def scripted(script: dict[str, Any], p: float) -> Warp:
    """What k-diffusion does with these random numbers, which it draws in this order."""
    flip, down_flip = script["randint"]
    u, z = script["rand"], script["randn"]
    return warp(
        mirror=flip,
        upside_down=down_flip * (u[0] < p),
        scale=z[0] * (u[1] < p),
        turn=math.pi * (2.0 * u[3] - 1.0) * (u[2] < p),
        direction=math.pi * (2.0 * u[5] - 1.0) * (u[4] < p),
        stretch=z[1] * (u[4] < p),
        right=z[2] * (u[6] < p),
        down=z[3] * (u[6] < p),
    )


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "wrapper/public"])
def test_warps_are_k_diffusion_s(name: str) -> None:
    given, out = GOLDEN[name]["inputs"], GOLDEN[name]["outputs"]
    image = torch.tensor(given["image_uint8"], dtype=torch.float32)
    x = (image if image.ndim == 3 else image[:, :, None]).permute(2, 0, 1)[None] / 127.5 - 1.0
    done = scripted(given["script"], given["a_prob"])
    # their matrix and pixels are float32: 1e-6 of coordinates up to 8, and of values up to 2
    matrix = torch.tensor(out["matrix"], dtype=torch.float64)[:2]
    torch.testing.assert_close(done.matrix(8, 8)[0], matrix, rtol=0.0, atol=2e-6)
    torch.testing.assert_close(done.told()[0], torch.tensor(out["cond"]), rtol=0.0, atol=1e-6)
    torch.testing.assert_close(warped(x, done)[0], torch.tensor(out["image"]), rtol=0.0, atol=1e-5)


def test_samples_are_told_that_nothing_was_done() -> None:
    codec = Codec((1, 4, 4), 255)
    told = Augmented().generated(codec, torch.arange(2), 0)["vector"]
    assert told.tolist() == GOLDEN["wrapper/public"]["outputs"]["none"]
    assert torch.equal(warp().told(), told[:1])
    assert torch.equal(Augmented().known(DATA, torch.arange(2), 0)["vector"], told), (
        "for likelihoods"
    )


IMAGE = torch.randn(1, 2, 6, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (warp(), IMAGE),
        (warp(mirror=1.0), IMAGE.flip(-1)),
        (warp(upside_down=1.0), IMAGE.flip(-2)),
        (warp(mirror=1.0, turn=math.pi), IMAGE.flip(-2)),
    ],
    ids=["nothing", "mirror", "upside down", "mirrored and turned"],
)
def test_flips_are_flips(done: Warp, expected: Tensor) -> None:
    # pi is rounded: a place may be 1e-15 off, whose weight in float32 is nothing
    torch.testing.assert_close(warped(IMAGE, done), expected, rtol=0.0, atol=1e-6)


def test_shifts_are_parts_of_the_own_side() -> None:
    """An eighth of the width to the right and of the height down: the ancestor takes the other side's."""
    image = torch.randn(1, 1, 8, 16)
    moved = warped(image, warp(right=1.0, down=1.0))
    torch.testing.assert_close(moved[..., 1:, 2:], image[..., :-1, :-2])
    torch.testing.assert_close(moved[..., 0, 2:], image[..., 1, :-2])  # reflected, not repeated


def test_a_quarter_turn_is_about_the_centre() -> None:
    tall = warped(IMAGE, warp(turn=math.pi / 2.0))
    middle = IMAGE[..., 5:11]  # the square that stays inside
    torch.testing.assert_close(tall[..., 5:11], middle.rot90(1, (-2, -1)), rtol=0.0, atol=1e-6)


def test_places_come_from_where_the_matrix_sends_them() -> None:
    done = warp(mirror=1.0, scale=0.7, turn=0.4, direction=1.1, stretch=-0.9, right=0.3, down=-0.6)
    origins = done.origins(5, 7)
    matrix = done.matrix(5, 7)
    sent = origins @ matrix[0, :, :2].T + matrix[0, :, 2]
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    expected = torch.stack([columns, rows], -1).double()[None]
    torch.testing.assert_close(sent, expected, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(
        torch.linalg.det(done.linear()), torch.tensor([-(2.0**0.28)]).double()
    )


def test_cubic_convolution_keeps_lines() -> None:
    """Degree one is reproduced inside, wherever the places fall."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    line = (0.1 * columns - 0.05 * rows)[None, None].double()
    done = warp(turn=0.3, scale=0.5, right=0.1)
    place = done.origins(32, 32)
    inside = ((place > 2.0) & (place < 29.0)).all(-1)
    expected = 0.1 * place[..., 0] - 0.05 * place[..., 1]
    torch.testing.assert_close(warped(line, done)[:, 0][inside], expected[inside])


def test_warps_are_as_likely_as_said_and_independent() -> None:
    done = Warp.drawn(3, torch.arange(20_000), 0.12)
    shares = {name: float((getattr(done, name) != 0).double().mean()) for name in vars(done)}
    # standard error of a share of .12 over 20,000: 0.0023, of one of .5: 0.0035
    assert shares.pop("mirror") == pytest.approx(0.5, abs=0.014)
    assert shares.pop("upside_down") == pytest.approx(0.06, abs=0.008)
    assert list(shares.values()) == pytest.approx([0.12] * 6, abs=0.01)
    assert float(done.scale[done.scale != 0].std()) == pytest.approx(1.0, abs=0.06)
    assert -math.pi < float(done.turn.min()) < -3.0 < 3.0 < float(done.turn.max()) < math.pi
    chosen = torch.stack([getattr(done, n) != 0 for n in ("mirror", "scale", "turn", "right")])
    assert float(chosen.double().corrcoef().fill_diagonal_(0.0).abs().max()) < 0.03


DATA = Resident.of(torch.arange(60 * 32).reshape(60, 1, 4, 8).remainder(256).byte(), levels=255)


def batch(first: int, count: int, source: Resident = DATA) -> Batch:
    batches = Batches(source, seed=1)
    return Batch.of(batches, batches.draw(first, count), seed=1)


def test_training_sees_the_warped_image_and_is_told_of_it() -> None:
    """Equal however the batch is cut."""
    one = Augmented(probability=0.5)
    x0, told = trained([one], batch(0, 40))
    done = Warp.drawn(1, torch.arange(40), 0.5)
    assert torch.equal(told["vector"], done.told())
    assert torch.equal(x0, warped(batch(0, 40).x0, done))
    parts = [trained([one], batch(first, 8)) for first in range(0, 40, 8)]
    assert torch.equal(torch.cat([x for x, _ in parts]), x0)
    assert torch.equal(torch.cat([told["vector"] for _, told in parts]), told["vector"])
    untouched = (done.told() == 0).all(1)
    assert untouched.any()
    assert torch.equal(x0[untouched], batch(0, 40).x0[untouched])


def trial(**data: Any) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "data": {"kind": "digits", **data},
            "model": {"kind": "unet", "channels": [8], "groups": 4},
            "inputs": [{"kind": "augmented", "probability": 0.5}],
            "train": {"kimg": 0.04, "batch_size": 20},
            "evaluation": {"features": {"kind": "pixels"}, "full": {"images": 4, "steps": 2}},
        }
    )


def test_a_training_learns_from_warped_images() -> None:
    training = Training(trial(), trial().data.load(Path()), World(0, 1))
    seen: list[Any] = []
    training.learner.register_forward_pre_hook(lambda _, given: seen.append(given))
    training.step()
    x0, index, told = seen[0][:3]
    plain = Batches(training.source, 0).get(0, 20)
    assert torch.equal(x0, warped(plain, Warp.drawn(0, index, 0.5)))
    assert told["vector"].shape == (20, 9)


def test_what_cannot_be_warped_is_refused_and_untold_flips_are_remarked() -> None:
    with pytest.raises(ValidationError, match=r"inputs: augmented warps images, .* shape \(2,\)"):
        trial(kind="gaussians")
    with pytest.raises(UserError, match="augmented warps images"):
        Augmented().check(Resident.of(torch.zeros(4, 2), levels=None))
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Augmented(probability=0.0)
    assert Augmented().remarks(DATA) == []
    (line,) = Augmented().remarks(Resident.of(DATA.examples, levels=255, flip=True))
    assert line.startswith("inputs: augmented mirrors by itself")

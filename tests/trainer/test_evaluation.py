"""Proves when a trial is measured, that protocols name what they must, and that measuring is shared and repeatable."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from trainer.data import Digits, Gaussians, Resident, Source
from trainer.diffusion.process import Diffusion
from trainer.distributed import World
from trainer.errors import UserError
from trainer.evaluation.evaluator import Evaluator
from trainer.evaluation.features import Classifier, Extractor, Inception, Pixels
from trainer.evaluation.features.inception_network import resized
from trainer.evaluation.generation import Generation, generate
from trainer.evaluation.metric import KINDS
from trainer.evaluation.metric.frechet import FID
from trainer.evaluation.metric.kernel import KID
from trainer.evaluation.picture import png
from trainer.evaluation.protocol import Evaluation
from trainer.evaluation.reference import Gathered
from trainer.models import MLP
from trainer.trial import TrialSpec

FULL = {"images": 64, "steps": 4}


def evaluation(**values: Any) -> Evaluation:
    return Evaluation.model_validate({"full": FULL, **values})


def test_points_are_whole_batches_and_end_with_the_budget() -> None:
    assert evaluation(evaluations=4).points(4000, 100) == [1000, 2000, 3000, 4000]
    assert evaluation(evaluations=4, spacing="doubling").points(4000, 100) == [
        500,
        1000,
        2000,
        4000,
    ]
    assert evaluation(every_kimg=1.5).points(3600, 100) == [1500, 3600]
    assert evaluation(every_kimg=1.5).points(4600, 100) == [1500, 3000, 4600]
    assert evaluation(every_kimg=0.001).points(300, 100) == [100, 200, 300]
    assert evaluation(every_kimg=99.0).points(300, 100) == [300]
    assert evaluation(evaluations=50).points(300, 100) == [100, 200, 300]


def test_protocol_id_changes_with_everything_that_changes_numbers() -> None:
    base = evaluation(rung={"images": 32, "steps": 2})
    ids = {
        base.protocol_id(FID(), "full", "data/cnn"),
        base.protocol_id(FID(), "rung", "data/cnn"),
        base.protocol_id(FID(), "full", "data/other"),
        evaluation(full={**FULL, "images": 65}).protocol_id(FID(), "full", "data/cnn"),
        evaluation(full={**FULL, "steps": 5}).protocol_id(FID(), "full", "data/cnn"),
        evaluation(full={**FULL, "solver": {"kind": "ddim"}}).protocol_id(
            FID(), "full", "data/cnn"
        ),
        evaluation(full={**FULL, "grid": None}).protocol_id(FID(), "full", "data/cnn"),
        evaluation(noise_seed=1).protocol_id(FID(), "full", "data/cnn"),
    }
    ids.add(base.protocol_id(KID(), "full", "data/cnn"))
    assert len(ids) == 9
    assert evaluation(evaluations=3).protocol_id(FID(), "full", "data/cnn") in ids
    inception = FID(features=Inception())
    assert evaluation(metrics=[inception]).protocol_id(inception, "full", "data/cnn") in ids


def test_the_key_follows_what_changes_numbers_and_nothing_else(
    toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import trial

    def key(section: str = "seed", **values: Any) -> str:
        changed = {**toy, section: {**toy[section], **values}} if values else toy
        return TrialSpec.model_validate(changed).key("data")

    plain = key()
    assert key("evaluation", batch_size=7) == plain
    assert key("train", log_every_kimg=0.5) == plain
    assert key("train", kimg=5.12) != plain
    adaptive = {"images": 64, "steps": 4, "solver": {"kind": "dpm_adaptive"}}
    assert key("evaluation", full=adaptive, batch_size=7) != key("evaluation", full=adaptive)
    assert TrialSpec.model_validate(toy).key("other data") != plain
    monkeypatch.setattr(trial, "METRIC_VERSION", "next")
    assert key() != plain


def test_trial_refuses_more_solver_steps_than_levels(toy: dict[str, Any]) -> None:
    toy["diffusion"] = {"schedule": {"kind": "cosine", "steps": 10}}
    toy["evaluation"]["full"] = {"images": 64, "steps": 11, "grid": None}
    with pytest.raises(
        ValueError, match=r"evaluation\.full\.steps: 11 exceeds the schedule's 10 levels"
    ):
        TrialSpec.model_validate(toy)


def test_trial_refuses_a_learned_variance_that_nobody_learns(toy: dict[str, Any]) -> None:
    toy["evaluation"]["full"]["solver"] = {"kind": "ddpm", "variance": "learned"}
    with pytest.raises(ValueError, match=r"evaluation\.full\.solver\.variance: .*not mse"):
        TrialSpec.model_validate(toy)
    toy["diffusion"] = {"objective": {"kind": "hybrid"}}
    TrialSpec.model_validate(toy)


def test_classifier_learns_the_digits_and_is_cached(tmp_path: Path) -> None:
    dataset = Digits().load(Path())
    extractor = Classifier(steps=300).build(dataset, tmp_path)
    files = list(tmp_path.glob("classifier-*.pt"))
    assert len(files) == 1
    stamp = files[0].stat().st_mtime_ns
    again = Classifier(steps=300).build(dataset, tmp_path)
    assert files[0].stat().st_mtime_ns == stamp
    assert extractor.weights == again.weights
    rows = torch.arange(len(dataset))
    x, labels = dataset.codec.scale(dataset.read(rows)), dataset.labels_of(rows)
    features = extractor.features(x)
    assert features.shape == (1797, 64)
    assert torch.equal(features, again.features(x))
    # a nearest-class-mean rule in the feature space recognizes the digits, so the space is meaningful
    means = torch.stack([features[labels == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(features, means).argmin(1)
    assert float((nearest == labels).float().mean()) > 0.97
    assert extractor.classify is not None
    probabilities = extractor.classify(features)
    assert torch.allclose(probabilities.sum(1), torch.ones(len(rows)).double(), atol=1e-9)
    assert float((probabilities.argmax(1) == labels).float().mean()) > 0.97


def test_classifier_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use kind: pixels for points"):
        Classifier().build(Gaussians(examples=16).load(Path()), tmp_path)


@pytest.mark.slow
def test_inception_reads_weights_from_a_file(tmp_path: Path) -> None:
    """With weights of our own making (the published ones are a download) the plumbing is torch-fidelity's."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Untrained(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state: Any, *_: Any, **__: Any) -> None:
            assert state == {}

    torch.save({}, tmp_path / "empty.pth")
    torch.manual_seed(0)
    made = Untrained("inception", ["2048"], str(tmp_path / "empty.pth"))
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    dataset = Digits().load(Path())
    extractor = Inception(weights=str(tmp_path / "weights.pth")).build(dataset, tmp_path)
    x = dataset.codec.scale(dataset.read(torch.arange(2)))
    pixels = ((x + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
    # the same network, normalized in its weights, in another memory format: float32 sums in another order
    torch.testing.assert_close(extractor.features(x), made(pixels)[0], rtol=1e-3, atol=1e-4)
    assert extractor.features(x).shape == (2, 2048)
    many = dataset.codec.scale(dataset.read(torch.arange(20)))
    torch.testing.assert_close(
        extractor.features(many)[:2], extractor.features(x), rtol=1e-5, atol=1e-7
    )
    assert extractor.classify is not None
    assert torch.allclose(
        extractor.classify(extractor.features(x)).sum(1), torch.ones(2).double(), atol=1e-9
    )
    with torch.no_grad():
        made.fc.bias.add_(1.0)
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    assert (
        Inception(weights=str(tmp_path / "weights.pth")).build(dataset, tmp_path).weights
        != extractor.weights
    )


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 3, 7, 13), (1, 3, 299, 299), (1, 1, 400, 1)])
def test_images_are_resized_as_torch_fidelity_does_to_the_bit(shape: tuple[int, ...]) -> None:
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).byte()
    theirs = interpolate_bilinear_2d_like_tensorflow1x(
        pixels.float(), size=(299, 299), align_corners=False
    )
    assert torch.equal(resized(pixels), theirs)


def rung_in(precision: str, **values: Any) -> Evaluation:
    full = {"images": 8, "steps": 2}
    space = {"kind": "inception", "rung_precision": precision}
    return Evaluation.model_validate({"full": full, "rung": full, "features": space, **values})


def test_the_curve_may_be_measured_in_bfloat16_under_an_id_of_its_own() -> None:
    plain, cheap = rung_in("float32"), rung_in("bfloat16")
    assert plain.features.identity() == {"kind": "inception", "weights": None}
    (reported,), (curve,) = cheap.spaces(), cheap.spaces("rung")
    assert reported == plain.features
    assert curve.digest() != reported.digest()
    assert curve.called().endswith(", in bfloat16")
    assert plain.spaces() == plain.spaces("rung")
    with pytest.raises(ValueError, match=r"rung_precision: is of the curve's .*there is no `rung`"):
        rung_in("bfloat16", rung=None)


class _Precise(Inception):
    """Which space was built, instead of a download."""

    kind: Literal["inception"] = "inception"

    def build(self, source: Source, cache: Path) -> Extractor:
        width = 4 if self.rung_precision == "float32" else 5
        return Extractor(lambda x: x.flatten(1)[:, :width], "none")


def test_each_protocol_looks_through_its_own_extractor(tmp_path: Path) -> None:
    """The full protocol keeps its id and number, whatever the curve is measured in."""
    dataset, found = Digits().load(Path()), {}

    def network(x: torch.Tensor, _condition: torch.Tensor) -> torch.Tensor:
        return 0.1 * x

    for precision in ("float32", "bfloat16"):
        spec = rung_in(precision).model_copy(
            update={"features": _Precise(rung_precision=precision)}
        )
        evaluator = Evaluator(spec, Diffusion(), dataset, tmp_path / precision)
        measured = [evaluator.measure(network, part, World(0, 1)) for part in ("full", "rung")]
        found[precision] = [(one.metrics, one.protocol) for one in measured]
    assert found["float32"][0] == found["bfloat16"][0]
    (plain, known), (cheap, other) = found["float32"][1], found["bfloat16"][1]
    assert plain["rung/fid"] != cheap["rung/fid"]
    assert known["rung/fid"] != other["rung/fid"]


@pytest.mark.parametrize(("of", "kept"), [(4, True), (5, False), (None, True)])
def test_features_are_kept_where_all_workers_together_have_fewer_than_dimensions(
    of: int | None, kept: bool
) -> None:
    """The same on every worker, whatever its share."""
    gathered = Gathered(Extractor(lambda x: x, "none"), [FID()], 3, of=of)
    gathered.add(torch.ones(3, 5))
    assert (gathered.of_all(World(0, 1)).features is not None) == kept


def test_inception_says_what_is_wrong_with_its_weights(tmp_path: Path) -> None:
    dataset = Digits().load(Path())
    with pytest.raises(UserError, match="No such file"):
        Inception(weights=str(tmp_path / "none.pth")).build(dataset, tmp_path)
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match="not a whole file of plain tensors"):
        Inception(weights=str(tmp_path / "bad.pth")).build(dataset, tmp_path)


def test_workers_share_generation_without_changing_it() -> None:
    dataset = Gaussians(examples=256).load(Path())
    network = MLP(width=16).build((2,))
    diffusion = Diffusion()
    whole = Generation.model_validate({"images": 50, "steps": 3, "solver": {"kind": "ddpm"}})
    together = generate(network, diffusion, dataset.codec, whole, range(50), 0)
    shares = [World(rank, 3).share(50) for rank in range(3)]
    assert [len(share) for share in shares] == [16, 17, 17]
    parts = [generate(network, diffusion, dataset.codec, whole, share, 0) for share in shares]
    # the network's matrix products may differ in the last bits with the batch size
    torch.testing.assert_close(together, torch.cat(parts), rtol=1e-5, atol=1e-5)


def test_measuring_does_not_depend_on_the_global_generator(tmp_path: Path) -> None:
    dataset = Gaussians(examples=256).load(Path())
    measurable = [
        kind for kind in KINDS if kind not in ("is", "bpd")
    ]  # of classes, of whole values
    spec = evaluation(features=Pixels(), metrics=measurable)
    evaluator = Evaluator(spec, Diffusion(), dataset, tmp_path)
    network = MLP(width=16).build((2,))
    first = evaluator.measure(network, "full", World(0, 1))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    second = evaluator.measure(network, "full", World(0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.metrics == second.metrics
    assert set(first.metrics) == {f"eval/{kind}" for kind in measurable}
    assert 0.0 <= first.metrics["eval/recall"] <= 1.0


def test_the_real_images_are_looked_at_once_and_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all trials, metrics and processes; what is damaged is made again."""
    source = Gaussians(examples=256).load(Path())
    looks: list[int] = []
    passage = Resident.passage
    monkeypatch.setattr(
        Resident, "passage", lambda self, count: (looks.append(1), passage(self, count))[1]
    )
    spec = evaluation(features=Pixels(), metrics=["fid", "kid", "precision", "recall"])
    network = MLP(width=16).build((2,))

    def measured() -> dict[str, float]:
        evaluator = Evaluator(spec, Diffusion(), source, tmp_path)
        return evaluator.measure(network, "full", World(0, 1)).metrics

    first = measured()
    files = sorted(file.name for file in tmp_path.glob("reference-*.pt"))
    assert len(looks) == 1
    assert len(files) == 4, "moments of fid, kernel of kid, one manifold, one copy of the features"
    assert measured() == first
    assert len(looks) == 1
    for file in tmp_path.glob("reference-*-manifold-*.pt"):
        file.write_bytes(file.read_bytes()[:-9] + b"corrupted")
    assert measured() == first
    assert len(looks) == 2


def test_a_metric_in_the_common_space_has_the_short_name() -> None:
    written = evaluation(metrics=["fid", {"kind": "kid", "features": {"kind": "classifier"}}])
    assert [metric.name for metric in written.metrics] == ["fid", "kid"]
    assert written == evaluation(metrics=["fid", "kid"])
    other = evaluation(metrics=["fid", {"kind": "fid", "features": {"kind": "pixels"}}])
    assert [metric.name for metric in other.metrics] == ["fid", "fid-pixels"]
    with pytest.raises(ValueError, match="two are called `fid`"):
        evaluation(metrics=["fid", {"kind": "fid", "features": {"kind": "classifier"}}])


def test_a_metric_of_probabilities_needs_a_space_that_has_them() -> None:
    from trainer.evaluation.metric.base import Need

    class OfClasses(KID):
        needs: ClassVar[Need] = "probabilities"

    with pytest.raises(ValueError, match="features pixels has none: use features classifier"):
        Evaluation(full=Generation.model_validate(FULL), features=Pixels(), metrics=(OfClasses(),))


def test_precision_and_recall_need_some_images() -> None:
    with pytest.raises(ValueError, match=r"full\.images: 3 is too few, recall needs more than 3"):
        evaluation(full={"images": 3, "steps": 4}, metrics=["recall"])


def test_broken_network_measures_as_not_finite(tmp_path: Path) -> None:
    dataset = Gaussians(examples=64).load(Path())
    spec = evaluation(features=Pixels())
    evaluator = Evaluator(spec, Diffusion(), dataset, tmp_path)
    measured = evaluator.measure(lambda x, _: x * float("nan"), "full", World(0, 1))
    assert not measured.finite
    assert measured.metrics["eval/fid"] != measured.metrics["eval/fid"]


def test_pictures() -> None:
    import io

    from PIL import Image

    def opened(x: torch.Tensor) -> Image.Image:
        return Image.open(io.BytesIO(png(x)))

    assert opened(torch.rand(9, 1, 8, 8) * 2 - 1).size == (3 * 32 + 2, 3 * 32 + 2)
    assert opened(torch.rand(4, 3, 32, 32) * 2 - 1).mode == "RGB"
    assert opened(torch.rand(100, 2) * 2 - 1).size == (256, 256)
    for channels, mode in ((2, "LA"), (4, "RGBA"), (5, "L")):
        shown = opened(-torch.ones(4, channels, 32, 32))
        assert shown.mode == mode
        if channels < 5:
            alpha = shown.getchannel("A")
            assert (alpha.getpixel((0, 0)), alpha.getpixel((32, 0))) == (0, 255), "gaps are opaque"

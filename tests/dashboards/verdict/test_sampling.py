"""Proves: the images' part of the spread over seeds is told from the seeds', and bounded where noise is common."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from dashboards.verdict.evidence import Evidence, Quantity, Row, Trial
from dashboards.verdict.plain import spreads_to_list
from dashboards.verdict.sampling import Sampling, sampling
from dashboards.verdict.spread_sentences import sampling_sentence, sampling_sentences
from dashboards.verdict.variance import spreads
from trainer.report import Status

SEED_SD, IMAGES = 0.5, 40
TABLES, SEEDS = 4000, 5


def simulated(common: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [T, S] that are means over images, and their standard errors from these images alone.

    `common` is the share of an image's variance that all seeds have from the same starting noise.
    """
    rng = np.random.default_rng(5)
    shared = math.sqrt(common) * rng.standard_normal((TABLES, 1, IMAGES))
    own = math.sqrt(1 - common) * rng.standard_normal((TABLES, SEEDS, IMAGES))
    images = SEED_SD * rng.standard_normal((TABLES, SEEDS, 1)) + shared + own
    return images.mean(-1), images.std(-1, ddof=1) / math.sqrt(IMAGES)


@pytest.mark.parametrize("common", [0.0, 0.6])
def test_of_known_noise_the_seeds_part_is_unbiased_or_a_lower_bound(common: float) -> None:
    """Within four standard errors of 4,000 tables: E(s^2 - mean se^2) = seed variance - common / images."""
    numbers, errors = simulated(common)
    found = [sampling(row, list(se)) for row, se in zip(numbers, errors, strict=True)]
    left = np.array([one.seed_variance for one in found if one is not None])
    assert len(left) == TABLES
    expected = SEED_SD**2 - common / IMAGES
    assert abs(left.mean() - expected) < 4 * left.std() / math.sqrt(TABLES)
    assert expected <= SEED_SD**2, "what is common is never put to the seeds"
    noise = np.array([one.error**2 for one in found if one is not None])
    assert abs(noise.mean() - 1 / IMAGES) < 4 * noise.std() / math.sqrt(TABLES)


def test_the_interval_of_the_share_holds_the_true_one_in_95_percent() -> None:
    """Of noise that is not common; standard errors have 195 degrees of freedom, so the seeds' four decide."""
    numbers, errors = simulated(0.0)
    noise = 1 / IMAGES
    share = noise / (SEED_SD**2 + noise)
    held = []
    for row, se in zip(numbers, errors, strict=True):
        found = sampling(row, list(se))
        assert found is not None
        assert found.share_range is not None
        low, high = found.share_range
        held.append(low <= share <= high)
    assert abs(np.mean(held) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / TABLES) + 0.005


def test_by_hand() -> None:
    found = sampling(np.array([1.0, 2.0, 3.0]), [0.5, 0.5, 0.5])
    assert found == Sampling(0.5, 1.0, 3)
    assert (found.share, found.seed_variance) == (0.25, 0.75)
    assert sampling(np.array([1.0]), [0.5]) is None
    assert sampling(np.array([1.0, 2.0]), [0.5, None]) is None, "a seed without an error"
    still = sampling(np.array([1.0, 1.0]), [0.1, 0.1])
    assert still is not None
    assert (still.share, still.share_range, still.seed_sd) == (None, None, 0.0)


def evidence(error: float | None) -> Evidence:
    def trial(cell: str, seed: int, value: float) -> Trial:
        finals = {"eval/fid": value, "eval/fid.few": 2 * value}
        errors = {} if error is None else {"eval/fid": error * value, "eval/fid.few": error}
        return Trial(cell, seed, Status.FINISHED, finals=finals, errors=errors)

    values = {"a": (4.0, 5.0, 6.0), "b": (5.0, 5.5, 9.0)}
    trials = tuple(trial(c, s, v) for c, own in values.items() for s, v in enumerate(own))
    titles = dict.fromkeys(("eval/fid", "eval/fid.few"), Quantity("FID", True))
    return Evidence(trials, ("a", "b"), "eval/fid", titles, "a")


def test_relative_errors_add_up_in_a_ratio_and_rows_have_their_own() -> None:
    row = Row("b", "eval/fid.few", "few")
    base, own, ratio, few = spreads(
        evidence(0.03), "eval/fid", "a", ["b"], [(row, Row("a", "eval/fid.few", "few"))]
    )
    assert base.sampling is not None
    assert base.sampling.error == pytest.approx(0.03 * math.sqrt((16 + 25 + 36) / 3))
    assert own.cell == "b"
    assert ratio.sampling is not None
    assert ratio.sampling.error == pytest.approx(0.03 * math.sqrt(2)), "relative, of both"
    assert ratio.sampling.sd == ratio.sd
    assert (few.cell, few.baseline) == ("b@few", "a@few")
    assert few.sampling is not None
    both = [math.hypot(0.03 / (2 * b), 0.03 / (2 * a)) for a, b in ((4, 5), (5, 5.5), (6, 9))]
    assert few.sampling.error == pytest.approx(math.sqrt(np.mean(np.square(both))))
    assert few.mean == pytest.approx(ratio.mean), "the factor of two cancels"


def test_it_is_said_and_given_to_programs() -> None:
    *_, ratio = spreads(evidence(0.03), "eval/fid", "a", ["b"])
    text = sampling_sentence(ratio)
    assert text.startswith("`b` against `a`: at most ")
    assert "is sampling noise of finite images (standard error 4.2 %)" in text
    assert "with 3 seeds that is" in text
    (*_, data) = json.loads(json.dumps(spreads_to_list([ratio])))
    assert data["sampling"]["sentence"] == text
    assert 0 < data["sampling"]["share"] < 1
    noisy = dataclasses.replace(ratio, sampling=Sampling(2.0, 1.0, 3))
    assert "cancel at least 75 % of its variance" in sampling_sentence(noisy)
    assert sampling_sentences([ratio, dataclasses.replace(noisy, protocol="few")]) == [text]
    *_, silent = spreads(evidence(None), "eval/fid", "a", ["b"])
    assert (silent.sampling, sampling_sentence(silent)) == (None, "")

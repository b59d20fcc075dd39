"""Proves: every protocol id is explained from the spec it was measured with, equal explanations once."""

from __future__ import annotations

import dataclasses

from dashboards.protocol import explanations
from tests.dashboards.synthetic import specification, sweep


def test_metrics_of_one_space_share_an_explanation_and_others_have_their_own() -> None:
    spec = specification()
    inception = {"kind": "fid", "features": {"kind": "inception"}}
    spec["evaluation"]["metrics"] = ["fid", "kid", inception]
    found = sweep()
    more = [
        found.curves[found.curves["metric"] == "rung/fid"].assign(metric=metric, protocol=one)
        for metric, one in (("rung/kid", "p-kid"), ("rung/fid-inception", "p-inception"))
    ]
    curves = type(found.curves)(
        [row for frame in (found.curves, *more) for row in frame.to_dict("records")]
    )
    found = dataclasses.replace(found, curves=curves, specs=dict.fromkeys(found.cells, spec))

    full, rung, other = explanations(found)
    assert full.identifiers == {"p-full": "eval/fid"}
    assert full.words.startswith("The reported protocol: 1,000 images")
    assert rung.identifiers == {"p-rung": "rung/fid", "p-kid": "rung/kid"}
    assert "250 images" in rung.words
    assert "solver dpmpp_2m in 10 steps" in rung.words
    assert "a small classifier trained on the data's own labels" in rung.words
    assert other.identifiers == {"p-inception": "rung/fid-inception"}
    assert "Inception-v3" in other.words


def test_what_is_known_of_the_space_stands_in_its_explanation() -> None:
    known = "it names 99.1 % of 1,797 images that it was trained on"
    spec = specification()
    found = dataclasses.replace(
        sweep(), specs=dict.fromkeys(sweep().cells, spec), spaces={"classifier": known}
    )
    assert all(known in one.words for one in explanations(found))
    other = dataclasses.replace(found, spaces={"inception": known})
    assert not any(known in one.words for one in explanations(other))


def test_published_statistics_are_named() -> None:
    spec = specification()
    spec["evaluation"]["reference"] = "cifar10.npz"
    found = dataclasses.replace(sweep(), specs=dict.fromkeys(sweep().cells, spec))
    assert all(
        "compared with the statistics in cifar10.npz" in o.words for o in explanations(found)
    )


def test_without_a_spec_an_id_is_still_listed() -> None:
    found = dataclasses.replace(sweep(), specs={})
    (only,) = explanations(found)
    assert only.identifiers == {"p-full": "eval/fid", "p-rung": "rung/fid"}
    assert only.words == "The spec of these trials is not at hand."

"""Samplers are pure functions of what is known; on a bowl they beat chance; finite spaces are never tried twice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from service.search.sampler import SAMPLERS, importances, suggest
from service.search.spec import Search

BOWL = {"a": {"log": [1e-5, 1e-1]}, "b": {"linear": [0.0, 1.0]}}


def bowl(setting: Mapping[str, Any]) -> float:
    """0 at a = 1e-3, b = 0.3."""
    return float((math.log10(setting["a"]) + 3.0) ** 2 + 4.0 * (setting["b"] - 0.3) ** 2)


def search(space: Mapping[str, Any] = BOWL, **changes: Any) -> Search:
    return Search.model_validate({"space": space, "trials": 30, **changes})


def best(
    one: Search, score: Callable[[Mapping[str, Any]], float] = bowl
) -> tuple[float, dict[int, dict[str, Any]]]:
    settings: dict[int, dict[str, Any]] = {}
    told: dict[int, float] = {}
    for number in range(one.trials):
        settings[number] = suggest(one, number, settings, told)
        told[number] = score(settings[number])
    return min(told.values()), settings


def test_tpe_beats_chance_on_average_within_seconds() -> None:
    began = time.process_time()
    found = {
        by: [best(search(by=by, seed=seed))[0] for seed in range(8)] for by in ("tpe", "random")
    }
    means = {by: sum(map(math.log, values)) / 8 for by, values in found.items()}
    # Measured over 32 seeds: -5.1 against -3.4, with a standard error of 0.4 over 8.
    assert means["tpe"] < means["random"] - 0.5
    assert time.process_time() - began < 30


def test_cmaes_beats_chance_on_average() -> None:
    means = {
        by: sum(math.log(best(search(by=by, seed=s, trials=60))[0]) for s in range(8)) / 8
        for by in ("cmaes", "random")
    }
    assert means["cmaes"] < means["random"] - 0.5


@pytest.mark.parametrize("by", SAMPLERS)
def test_the_answer_depends_on_what_is_given_and_on_nothing_else(by: str) -> None:
    one = search(by=by)
    settings = {n: {"a": 10 ** (-1.0 - 0.25 * n), "b": n / 14} for n in range(14)}
    told = {n: bowl(setting) for n, setting in settings.items() if n != 11}
    first = suggest(one, 14, settings, told)
    assert suggest(one, 14, settings, told) == first
    assert suggest(one, 15, {**settings, 14: first}, told) != first, "another is at work on it"
    if by != "gp":  # whose best guess depends on the data alone
        assert suggest(search(by=by, seed=1), 14, settings, told) != first
    if by != "random":
        worse = {n: -score for n, score in told.items()}
        assert suggest(one, 14, settings, worse) != first
    assert 1e-5 <= first["a"] <= 1e-1
    assert 0.0 <= first["b"] <= 1.0
    assert first["a"] == float(f"{first['a']:.6g}")


def test_a_finite_space_is_gone_through_without_repeats() -> None:
    space = {"x": {"choice": [1, "one", {"kind": "a"}]}, "n": {"int": [2, 3]}}
    for by in ("tpe", "random"):
        _, settings = best(search(space, trials=6, by=by), lambda _: 1.0)
        seen = [repr(sorted(setting.items())) for setting in settings.values()]
        assert len(set(seen)) == 6


def test_importances_find_what_matters() -> None:
    one = search(by="random", trials=60)
    _, settings = best(one)
    told = {n: bowl({**setting, "b": 0.3}) for n, setting in settings.items()}
    shares = importances(one.space, settings, told)
    assert shares["a"] > 0.9
    assert sum(shares.values()) == pytest.approx(1.0)
    assert importances(one.space, settings, dict.fromkeys(settings, 1.0)) == {}, "nothing varies"
    assert importances({"a": one.space["a"]}, settings, told) == {}, "there is only one"


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    best(search(trials=12))
    assert "".join(capfd.readouterr()) == ""

"""Cells that are generated on noise levels they never trained are named, with both ranges."""

import math
from typing import Any

import pytest

from trainer.diffusion.process import Diffusion
from trainer.evaluation.coverage import coverage, coverage_findings
from trainer.evaluation.protocol import Evaluation


def diffusion(**schedule: Any) -> Diffusion:
    return Diffusion.model_validate({"schedule": schedule})


def evaluation(**full: Any) -> Evaluation:
    return Evaluation.model_validate(
        {"full": {"images": 16, "steps": 8, **full}, "rung": {"images": 16, "steps": 4}}
    )


def test_the_default_grid_goes_beyond_what_some_schedules_train() -> None:
    """constant_beta ends at 1 % of the signal, hyperbolic's table of a thousand between 1/1000 and 1/2000."""
    constant = diffusion(kind="constant_beta", steps=1000)
    full, rung = coverage(constant, evaluation())
    beta = -math.expm1(math.log(0.01) / 1000)
    clean = math.log((1.0 - beta) / beta)
    assert full.trained == pytest.approx((math.log(0.01 / 0.99), clean))
    assert full.grid == rung.grid == (-9.0, 9.0)
    assert full.beyond == pytest.approx(9.0 + math.log(0.01 / 0.99))
    cells = {"constant": (constant, evaluation())}
    cells["hyperbolic"] = (diffusion(kind="hyperbolic", steps=1000), evaluation())
    lines = coverage_findings(cells)
    assert len(lines) == 2
    assert (
        "`constant` trains log-SNR from 5.38 to -4.6 and is generated on a grid from 9 to -9"
        in lines[0]
    )
    assert "(evaluation.full and evaluation.rung)" in lines[0]
    assert "`hyperbolic` trains log-SNR from 6.91 to -7.6 " in lines[1]


def test_the_continuous_limit_is_told_like_its_table() -> None:
    """Where fewer than one draw in two thousand falls, a network learns nothing: e^-9 of the draws lie above 9."""
    endless = diffusion(kind="hyperbolic", steps=None)
    assert coverage(endless, evaluation())[0].trained == pytest.approx((-7.6, 7.6), abs=0.01)
    (line,) = coverage_findings({"hyperbolic": (endless, evaluation())})
    assert "hardly ever saw what lies beyond" in line


def test_what_covers_the_grid_or_walks_its_own_is_no_finding() -> None:
    own = Evaluation.model_validate({"full": {"images": 16, "steps": 8, "grid": None}})
    cells = {
        "cosine": (diffusion(kind="cosine", steps=1000), evaluation()),
        "linear": (diffusion(kind="linear_beta", steps=1000), evaluation()),
        "a little": (diffusion(kind="log_linear", log_snr_max=9.0, log_snr_min=-8.6), evaluation()),
        "own": (diffusion(kind="constant_beta", steps=1000), own),
    }
    assert coverage_findings(cells) == []
    assert coverage(*cells["own"])[0].own


def test_a_grid_that_does_not_span_the_noise_is_told_of_at_each_end() -> None:
    """Karras levels around sigma 1: images show through at its start, and are noise at its end."""
    narrow = {"kind": "karras", "sigma_min": 1.0, "sigma_max": 1.0001}
    blurred = {"kind": "log_linear", "log_snr_max": 1.0, "log_snr_min": -9.0}
    given = evaluation().model_dump(mode="json")
    given["full"]["grid"] = narrow
    given["also"] = [{"name": "blurred", "grid": blurred}]
    lines = coverage_findings({"cell": (Diffusion(), Evaluation.model_validate(given))})
    assert len(lines) == 2, lines
    assert "`cell` is generated from log-SNR 0 on (evaluation.full)" in lines[0]
    assert "up to log-SNR 0 only (evaluation.full and evaluation.also.0)" in lines[1]

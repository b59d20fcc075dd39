"""The driver waits for the word that the report says: both judge one evidence, stopped cells in it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.verdict.judging import judge
from service import progress
from service.agenda import Agenda
from service.experiment import Experiment
from service.results import collect
from service.worker import Job
from tests.service.by_hand import Driver, _Stopped
from tests.service.sweeps import sweep
from trainer.report import Report, Result
from trainer.trial import TrialSpec

RATES = {"a": 2e-3, "b": 3e-4, "c": 1e-3, "d": 3e-5, "e": 1e-4}
ARMS = {"uniform": {}, **{cell: {"optimizer.lr": rate} for cell, rate in RATES.items()}}
LEVELS = {"uniform": 0.9, "a": 0.8, "b": 0.97, "c": 0.93, "d": 1.0, "e": 1.3}
"""Cell to its true metric, as a share of the baseline's."""


class Written(Driver):
    """A driver whose trials report made numbers instead of training for them."""

    def __init__(self, experiment: Experiment, home: Path, noise: float) -> None:
        self.noise, self.said = noise, list[dict[str, str]]()
        self.experiment = experiment
        super().__init__(experiment, home)

    def _train(self, job: Job, messages: int | None, heard: bool) -> int | None:
        trial = TrialSpec.saved(job.trial)
        cell, seed = self._of_key[job.key]
        done = self.dispatch.agenda.standing(job.key).images
        ids = {"eval/fid": "e", "rung/fid": "r"}
        for images in trial.evaluation_points():
            if done < images <= job.until_images:
                metrics = {"rung/fid": self._value(cell, seed, images, trial.total_images())}
                report = Report(images, 0.0, metrics, protocol=ids).to_json()
                if self._tell(job, {"event": "reported", "report": report}):
                    raise _Stopped
        if job.until_images < trial.total_images():
            self._tell(job, {"event": "paused", "images": job.until_images})
            return messages
        value = self._value(cell, seed, trial.total_images(), trial.total_images())
        metrics = {"eval/fid": value, "rung/fid": value}
        result = Result("finished", None, trial.total_images(), metrics, 0.0, 1.0, 1.0, ids, 10)
        self._tell(job, {"event": "ended", "result": asdict(result)})
        return messages

    def _value(self, cell: str, seed: int, images: int, total: int) -> float:
        """A seed's own level, a cell's, and noise of the pair."""
        rng = np.random.default_rng([seed, list(LEVELS).index(cell)])
        shared = 1 + 0.2 * np.sin(seed)
        own = float(np.exp(self.noise * rng.standard_normal()))
        return float(4 * shared * LEVELS[cell] * own * (total / images) ** 0.5)

    def _tell(self, job: Job, message: dict[str, Any]) -> bool:
        is_unwanted = self.dispatch.take(job.key, message)
        self._compare()
        return is_unwanted

    def _compare(self) -> None:
        """What the person was told last, beside what a report would say now."""
        told = [e for e in self.events if isinstance(e, progress.SweepEvidence)]
        if not told or dict(told[-1].cells) in self.said[-1:]:
            return
        self.said.append(dict(told[-1].cells))
        states = Agenda(self.experiment, self.settings, attempt=None).states()
        if not any(state.word for state in states.values()):
            return
        found = collect(self.experiment, self.settings)
        verdicts = judge(found.evidence)
        words = {c.cell: (c.word, c.decided_at) for c in verdicts.comparisons}
        for cell, state in states.items():
            if cell == verdicts.baseline:
                continue
            assert (cell in found.evidence.stopped) == (state.stopped is not None)
            if state.stopped is not None:
                assert cell not in words
            elif state.word in ("BETTER", "WORSE", "SAME"):
                assert words[cell] == (state.word, state.look)
            else:
                assert words[cell] == ("INCONCLUSIVE", None)


def planned(toy: dict[str, Any], policy: dict[str, Any]) -> Experiment:
    return sweep(
        toy,
        arms=ARMS,
        seeds={"first": 6, "most": 9},
        compare={"metric": "eval/fid", "baseline": "d"},
        policy=policy,
    )


@pytest.mark.parametrize("noise", [0.01, 0.05])
@pytest.mark.parametrize("kind", ["halving", "median", "racing"])
def test_at_every_look_the_driver_says_what_the_report_says(
    toy: dict[str, Any], tmp_path: Path, kind: str, noise: float
) -> None:
    experiment = planned(toy, {"kind": kind})
    driver = Written(experiment, tmp_path, noise)
    list(driver.jobs())
    outcome = driver.close()
    assert outcome.stopped, "otherwise nothing is shown"
    assert len(driver.said) > 2
    last = driver.said[-1]
    assert {cell for cell, text in last.items() if text.startswith("stopped at ")} == set(
        outcome.stopped
    )
    verdicts = judge(collect(experiment, driver.settings).evidence)
    assert verdicts.guarantee.following is None or all(
        c.word != "INCONCLUSIVE" for c in verdicts.comparisons
    ), "it is over with an answer, or after the last look"


def test_a_survivor_that_pays_for_the_stopped_gets_the_seeds_that_it_needs(
    toy: dict[str, Any], tmp_path: Path
) -> None:
    """Six pairs of one sign are p = .031, times (1 + 3 stopped / 2 left) = .078: no word at six, one at nine."""
    experiment = planned(toy, {"kind": "halving"})
    driver = Written(experiment, tmp_path, 0.01)
    list(driver.jobs())
    outcome = driver.close()
    baseline = [t for t in experiment.trials if t.cell == "d"]
    done = [Agenda(experiment, driver.settings).standing(t.key).status.is_over for t in baseline]
    survivors = set(RATES) - {"d"} | {"uniform"}
    survivors -= set(outcome.stopped)
    assert len(survivors) < 5
    assert all(done), "the baseline has the seeds that the pairs need"
    last = driver.said[-1]
    assert {last[cell] for cell in survivors} == {"BETTER at 9 seeds"}

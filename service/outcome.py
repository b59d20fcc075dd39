"""How did a run of an experiment end?"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dashboards.text import duration

if TYPE_CHECKING:
    from service.planning.account import Account


@dataclass(frozen=True)
class Failure:
    """A trial without a result, or with one that is not a number."""

    cell: str
    seed: int
    key: str
    reason: str
    log: str | None = None
    """File with the whole story."""


@dataclass
class Outcome:
    """How a run of an experiment ended."""

    experiment: str
    finished: int = 0
    """Trials that this run brought to an end."""
    tuned: int = 0
    """Candidates of a search that this run trained."""
    untuned: list[str] = field(default_factory=list)
    """Cells for which a search found no setting at all."""
    ended_early: int = 0
    """Trials at which this run worked and whose cells the policy ended for good."""
    skipped: int = 0
    """Trials that an earlier run had finished."""
    diverged: list[Failure] = field(default_factory=list)
    """Trials, of this run or an earlier one, whose numbers went out of bounds: a result."""
    failed: list[Failure] = field(default_factory=list)
    """Trials that broke; the same command tries them again."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Cells that the policy ended for good on their way, each with the reason."""
    budget: str | None = None
    """That the budget is spent, if something was not begun because of it."""
    interrupted: bool = False
    """Whether the person stopped it; the same command continues."""
    seconds: float = 0.0
    first_step_s: float | None = None
    """From the start of the run to the first trial at work."""
    overhead_s: float | None = None
    """Seconds a trial was held, on average, beyond its own training and evaluation."""
    costs: Account | None = None
    """What was foretold of it and what it took; None where nothing was trained."""

    @property
    def exit_code(self) -> int:
        """0 all finished, 1 some failed or diverged, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.failed or self.diverged or self.untuned else 0

    def after(self, tuning: Outcome) -> Outcome:
        """The same, with what the tuning before it did."""
        first = tuning.first_step_s if tuning.first_step_s is not None else self.first_step_s
        return replace(
            self,
            tuned=tuning.tuned,
            failed=[*tuning.failed, *self.failed],
            seconds=tuning.seconds + self.seconds,
            first_step_s=first,
        )

    def text(self) -> str:
        """What happened, in a line: `12 trials trained in 4 min 10 s, 6 were finished already, 1 FAILED`."""
        candidates = f"{self.tuned} candidates and " if self.tuned else ""
        parts = [f"{candidates}{self.finished} trials trained in {duration(self.seconds)}"]
        parts += [f"{self.ended_early} stopped early"] if self.ended_early else []
        parts += [f"{self.skipped} were finished already"] if self.skipped else []
        bad = len(self.failed) + len(self.diverged)
        parts += [f"{bad} FAILED"] if bad else []
        return ", ".join(parts) + (
            ", then interrupted: nothing is lost" if self.interrupted else ""
        )

    def summary(self) -> dict[str, Any]:
        """The outcome as plain JSON data."""
        costs = None if self.costs is None else self.costs.to_dict()
        return asdict(self) | {"costs": costs, "exit_code": self.exit_code}

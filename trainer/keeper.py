"""When is what written of a training? Reports, checkpoints, the result: the only place that does."""

import time

from trainer.ema import Average
from trainer.evaluation.evaluator import Evaluator
from trainer.passes import Kept, SmallerPasses
from trainer.record import KEEP, Record
from trainer.report import Report, Result, measured
from trainer.training import Training


class Due:
    """When are checkpoints between two evaluations due? After `every_s` seconds, or fifty times what writing took.

    Trainings that step together share one, which then only decides between their steps (`tick`): all of them are kept
    at their next point, which is the same of all that are even.
    """

    def __init__(self, every_s: float, *, is_shared: bool = False) -> None:
        self._every_s, self.is_shared = every_s, is_shared
        self._at, self._took = time.perf_counter() + every_s, 0.0
        self.count = 0
        """How often one was due."""

    def tick(self) -> None:
        """Whether one is due now."""
        if time.perf_counter() > self._at:
            self.count, self._took = self.count + 1, 0.0
            self.written(0.0)

    def written(self, seconds: float) -> None:
        """Writing one took so long; another is not due soon."""
        self._took += seconds
        self._at = max(self._at, time.perf_counter() + max(self._every_s, 50.0 * self._took))


class Keeper:
    """Writes into one record what one training is."""

    def __init__(self, record: Record, training: Training, evaluator: Evaluator, due: Due) -> None:
        self._record, self._training, self._due = record, training, due
        self._evaluator, self._kept = evaluator, due.count
        self._size = training.passes.size

    def stepped(self) -> None:
        """After a step. That it took smaller passes than the one before is kept for whoever continues."""
        size = self._training.passes.size
        if size < self._size:
            self._size = size
            before = self._training.images - self._training.trial.train.batch_size
            Kept(size, before).keep(self._record.directory)
            self.save_now()

    def keep_smaller(self, found: SmallerPasses) -> None:
        """That all workers begin again with smaller passes."""
        Kept(found.microbatch, self._training.images).keep(self._record.directory)

    def told_smaller(self) -> list[str]:
        """A line for the first report after memory ran out."""
        kept = Kept.of(self._record.directory)
        if kept is None:  # nearly always: then no report is read for it
            return []
        known = self._record.reports()
        told = known[-1].images if known else -1
        return [kept.note()] if told <= kept.images < self._training.images else []

    def keep(self, report: Report) -> None:
        """The report, then the checkpoint it belongs to, then the result if this was the last one."""
        self._record.add_report(report)
        if report.failure is None:  # what diverged must not be continued from
            self.save(keep=1 if report.done else KEEP)
        if report.done:
            self.finish(report)
        self._kept = self._due.count
        if not self._due.is_shared:
            self._due.written(0.0)

    def save_if_due(self) -> None:
        """Between evaluations, unless the last checkpoint is young or writing one is slow."""
        if not self._due.is_shared:
            self._due.tick()
        if self._due.count > self._kept:
            self._kept = self._due.count
            began = self._training.pause()
            self.save(keep=KEEP)
            self._training.go_on()
            self._due.written(time.perf_counter() - began)

    def save_now(self) -> None:
        """Between two points of the loss curve, too; all workers call it together."""
        self._training.settle()
        self._training.pause()
        if self._training.world.first:
            self.save(keep=KEEP)
        self._training.world.barrier()
        self._training.go_on()

    def save_snapshots(self, averages: list[Average]) -> None:
        """Copies of these averages, from which others are made afterwards."""
        self._training.pause()
        for one in averages:
            self._record.snapshots.save(one.spec.called(), one.updates, one.network.state_dict())
        self._training.go_on()

    def save(self, keep: int) -> None:
        """Now."""
        state = self._training.state() | {"held_out": self._evaluator.held_out}
        self._record.save_checkpoint(self._training.images, state, keep)

    def finish(self, report: Report) -> None:
        """Write the result."""
        progress, smaller = self._training.progress, Kept.of(self._record.directory)
        protocol = self._evaluator.protocols() | report.protocol
        self._record.write_result(
            Result(
                status="finished" if report.failure is None else "diverged",
                reason=report.failure,
                images=report.images,
                started_s=progress.started_s,
                metrics=report.metrics,
                seconds=progress.seconds,
                eval_seconds=progress.eval_seconds,
                protocol=protocol,
                parameters=sum(p.numel() for p in self._training.learner.parameters()),
                draws=report.draws,
                spaces=self._evaluator.spaces,
                trial=self._training.trial.key(
                    self._training.source.fingerprint, self._evaluator.held_out or ""
                ),
                flops_per_image=self._training.flops_per_image(),
                microbatch=None if smaller is None else smaller.microbatch,
                curves=measured(self._record.reports(), protocol),
            )
        )

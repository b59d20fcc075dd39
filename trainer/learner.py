"""What learns in a trial? The network, and whatever else has weights or statistics; called, it gives the losses."""

import torch
from torch import Tensor, nn

from trainer.data import Dataset
from trainer.diffusion.guidance import LabelDropout
from trainer.diffusion.learning import schedule_loss
from trainer.diffusion.process import training_levels
from trainer.diffusion.schedule import LearnedCurve
from trainer.diffusion.timestep import LossHistory, entry_index, spread
from trainer.distributed import World
from trainer.errors import UserError
from trainer.randomness import Stream, derive
from trainer.trial import TrialSpec


class Learner(nn.Module):
    """Network and objective of one trial: x0 and the examples' global indices in, their losses out.

    All randomness is drawn here, from the trial's streams, as a function of the global index. `diffusion` is the
    trial's, on the modules that its stateful members built: what they have learned so far.
    """

    def __init__(self, trial: TrialSpec, dataset: Dataset) -> None:
        super().__init__()
        self.trial = trial
        self.network = build_network(trial, dataset.shape)
        self.part = trial.diffusion.objective.build()
        self.timesteps = trial.diffusion.timesteps.build(trial.diffusion.schedule)
        self.schedule = trial.diffusion.schedule.build()
        self.diffusion = trial.diffusion.live(schedule=self.schedule, timesteps=self.timesteps)
        self._unseen: list[Tensor] = []
        _check_labels(trial, dataset)
        self._eps = Stream(trial.seed, "train/eps")
        self._time = Stream(trial.seed, "train/time")
        self._hide = Stream(trial.seed, "train/label_dropout")
        self._ends = Stream(trial.seed, "train/schedule_ends")

    def forward(self, x0: Tensor, index: Tensor, labels: Tensor | None) -> Tensor:
        """Loss of each example [B] for x0 [B, ...], global index [B] and labels [B] if the data has any."""
        diffusion = self.diffusion
        eps = self._eps.normal(index, tuple(x0.shape[1:]))
        log_snr = training_levels(diffusion, self._u(index))
        shown = self._shown(labels, index)
        terms = diffusion.terms(self.network, x0, eps, log_snr, labels=shown, part=self.part)
        losses = diffusion.objective.loss(terms)
        if self.timesteps is not None:
            entry = entry_index(terms.log_snr, diffusion.schedule)
            unweighted = losses.detach() / terms.importance
            self._unseen.append(torch.stack([entry.double(), unweighted.double()], 1))
        if isinstance(self.schedule, LearnedCurve):
            fresh, at_clean = self._ends.normal(index, tuple(x0.shape[1:])), index % 2 == 0
            learning = schedule_loss(
                self.schedule, diffusion, self.network, terms, fresh, at_clean, shown
            )
            losses = losses + learning.to(losses.dtype)
        return losses

    def clipped(self) -> list[list[nn.Parameter]]:
        """The parameters whose gradients are clipped together: the model's, and the schedule's on their own."""
        apart = [] if self.schedule is None else list(self.schedule.parameters())
        model = [p for p in self.parameters() if p not in set(apart)]
        return [model, apart] if apart else [model]

    def observe(self, world: World) -> None:
        """After a batch: what has a memory sees all workers' losses, in the order of the global index."""
        if isinstance(self.timesteps, LossHistory):
            rows = world.gather(torch.cat(self._unseen))
            self.timesteps.observe(rows[:, 0].long(), rows[:, 1])
        self._unseen.clear()

    def metrics(self) -> dict[str, float]:
        """What learns beside the network: `train/warmup`, the filled share of the memory; the schedule's ends."""
        shown: dict[str, float] = {}
        if isinstance(self.timesteps, LossHistory):
            shown["train/warmup"] = float(self.timesteps.warmup())
        if isinstance(self.schedule, LearnedCurve):
            shown["train/log_snr_max"] = float(self.schedule.clean.detach())
            shown["train/log_snr_min"] = float(self.schedule.noisy.detach())
        return shown

    def _u(self, index: Tensor) -> Tensor:
        """The uniform number behind each example's noise level, float64 in (0, 1)."""
        draw = self.trial.diffusion.timesteps.draw
        source = index - index % 2 if draw == "antithetic" else index
        return spread(self._time.uniform(source), index, self.trial.train.batch_size, draw)

    def _shown(self, labels: Tensor | None, index: Tensor) -> Tensor | None:
        """Labels as the network sees them: hidden at random for classifier-free guidance."""
        classes, rate = self.trial.model.classes, self.trial.train.label_dropout
        if classes is None or labels is None:
            return None
        return LabelDropout(rate=rate).apply(labels, self._hide.uniform(index), classes)


def build_network(trial: TrialSpec, shape: tuple[int, ...]) -> nn.Module:
    """The trial's network with its initial weights: the same for every trial of equal seed and model.

    Raises UserError when the model does not fit data of this shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(trial.seed, "init"))
        try:
            return trial.model.build(shape, trial.diffusion.output_channels(shape[0]))
        except ValueError as error:
            raise UserError(str(error)) from None


def _check_labels(trial: TrialSpec, dataset: Dataset) -> None:
    classes = trial.model.classes
    if classes is None:
        return
    if dataset.labels is None:
        raise UserError(
            "model.classes: the data has no labels: put images into one sub-folder per class, or leave "
            "classes out"
        )
    found = int(dataset.labels.max()) + 1
    if found > classes:
        raise UserError(f"model.classes: {classes} is too few, the data has {found} classes")

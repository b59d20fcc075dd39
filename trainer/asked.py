"""Which samples are wanted of a trained model? Labels, tags and guidance, checked against what it was trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import ValidationError

from trainer.data import Codec
from trainer.diffusion.guidance import Guidance
from trainer.errors import UserError, suggestion
from trainer.evaluation.generation import Generation
from trainer.inputs import ChosenLabels, ChosenTags, Labels, NetworkInput, Tags, unguided
from trainer.trial import TrialSpec

TOGETHER = {"cpu": 8}
"""Samples that are made together where nobody says how many."""
TOGETHER_ELSEWHERE = 64

Names = int | str | Sequence[int | str] | None
"""Labels or tags by number or name; None: as the data has them."""


@dataclass(frozen=True)
class Ask:
    """Which samples are wanted, checked against the model: `Trained.ask` makes it."""

    generation: Generation
    """How, guidance included."""
    labels: tuple[int, ...] | None
    """Sample i has entry i, from the front again where they end; None: as often as the data has them."""
    tags: tuple[int, ...] | None
    """What every sample has, and no others; None: those of the data's first examples in turn."""
    seed: int
    """Of the noise."""
    together: int
    """Samples in one pass of the network. Samples of one number are made in equal company, so that no other sample
    that is asked for moves them by a bit."""


class Choice(NamedTuple):
    """The same as a person says it; what is None is as in the trial's full protocol."""

    labels: Names
    tags: Names
    guidance: float | Guidance | None
    seed: int | None
    together: int | None


def asked(
    trial: TrialSpec,
    codec: Codec,
    device: torch.device,
    generation: Generation | None,
    choice: Choice,
) -> Ask:
    """The choice checked; UserError for what the model does not know."""
    generation = generation or trial.evaluation.full
    if (guidance := choice.guidance) is not None:
        steered = guidance if isinstance(guidance, Guidance) else _guidance(guidance)
        generation = generation.model_copy(update={"guidance": steered})
    steers = generation.guidance is not None and generation.guidance.scale > 0.0
    if steers and (why := unguided(trial.network_inputs())) is not None:
        raise UserError(f"guidance: {why}")
    if choice.together is not None and choice.together < 1:
        raise UserError(f"together: {choice.together} samples make no batch: write 1 or more")
    labels = _listed(choice.labels) or None
    tags = None if choice.tags is None else _listed(choice.tags)
    return Ask(
        generation,
        None if labels is None else tuple(_label(one, trial, codec) for one in labels),
        None if tags is None else tuple(sorted({_tag(one, trial, codec) for one in tags})),
        trial.evaluation.noise_seed if choice.seed is None else choice.seed,
        choice.together or TOGETHER.get(device.type, TOGETHER_ELSEWHERE),
    )


def _guidance(scale: float) -> Guidance:
    try:
        return Guidance(scale=scale)
    except ValidationError:
        raise UserError(
            f"guidance {scale:g}: is no scale: write a number from 0 on, which is w of x0 = (1 + w) x0(told) - w "
            "x0(not told)"
        ) from None


def inputs_of(trial: TrialSpec, ask: Ask) -> tuple[NetworkInput, ...]:
    """What the network is told of samples that were asked for so."""

    def chosen(one: NetworkInput) -> NetworkInput:
        if isinstance(one, Labels) and ask.labels is not None:
            return ChosenLabels(**one.model_dump(), chosen=ask.labels)
        if isinstance(one, Tags) and ask.tags is not None:
            return ChosenTags(**one.model_dump(), chosen=ask.tags)
        return one

    return tuple(map(chosen, trial.network_inputs()))


def _listed(names: Names) -> Sequence[int | str]:
    return [names] if isinstance(names, int | str) else names or ()


def _label(label: int | str, trial: TrialSpec, codec: Codec) -> int:
    if trial.model.classes is None:
        raise UserError(
            f"label {label}: this model was trained without labels (model.classes); leave the label out"
        )
    return _number("label", label, trial.model.classes, codec.label_names or ())


def _tag(tag: int | str, trial: TrialSpec, codec: Codec) -> int:
    count = next((one.count for one in trial.inputs if isinstance(one, Tags)), None)
    if count is None:
        raise UserError(
            f"tag {tag}: this model was trained without tags (inputs: tags); leave the tag out"
        )
    return _number("tag", tag, count, codec.tags or ())


def _number(what: str, given: int | str, count: int, names: Sequence[str]) -> int:
    """The number of a label or tag that is given by number or name; UserError when there is none."""
    text = str(given)
    alike = [i for i, name in enumerate(names) if name.lower() == text.lower()]
    if isinstance(given, str) and (given in names or len(alike) == 1):
        return names.index(given) if given in names else alike[0]
    if text.isascii() and text.isdigit() and int(text) < count:
        return int(text)
    if text.lstrip("-").isdigit() or not names:
        listed = f" ({', '.join(names[:12])}{', ...' if len(names) > 12 else ''})" if names else ""
        raise UserError(f"{what} {given}: the model knows the {what}s 0 to {count - 1}{listed}")
    raise UserError(f"{what} {given}: is none of the data's{suggestion(text, names)}")

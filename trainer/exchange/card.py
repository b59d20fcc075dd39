"""What does an exported model say of itself? The README of its folder: how to load it, what it is, what it is worth."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer.diffusion.schedule import Respaced
from trainer.evaluation.generation import Generation
from trainer.evaluation.protocol import Evaluation
from trainer.trained import Trained


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    network: str
    """`UNet2DModel`, or our own class."""
    pipeline: str
    own_code: str | None
    """Why the folder carries code of its own; None if it needs none."""
    levels: int
    """Of the scheduler's table."""
    steps: int
    """Solver steps that the card suggests: they divide the table."""


@dataclass(frozen=True)
class Story:
    """What is known of a model beside what it is."""

    name: str
    """Of the model, for the title."""
    key: str = ""
    """Of the trial."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`eval/fid` and its like, as last measured."""
    protocols: Mapping[str, str] = field(default_factory=dict)
    """Protocol id of each."""
    verdicts: tuple[str, ...] = ()
    """What its experiments found, a sentence each."""


def card(trained: Trained, exported: Exported, story: Story) -> str:
    """Markdown, with the head that the hub reads."""
    sections = [
        _HEAD.format(name=story.name),
        _loading(trained, exported),
        "## What it is\n\n" + "\n".join(f"* {line}" for line in _facts(trained, exported, story)),
        _numbers(trained, story),
        "## What an experiment found\n\n"
        + ("\n\n".join(story.verdicts) or "No verdict of an experiment with this model is known."),
    ]
    return "\n\n".join(sections) + "\n"


_HEAD = """\
---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [diffusion, diffsweep]
---

# {name}

A diffusion model trained by diffsweep: its averaged (EMA) weights."""


def _loading(trained: Trained, exported: Exported) -> str:
    trust = "" if exported.own_code is None else ", trust_remote_code=True"
    labels = trained.trial.model.classes is not None
    call = f"num_inference_steps={exported.steps}"
    call = f"batch_size=4, {'class_labels=[0, 1, 0, 1], ' if labels else ''}{call}"
    clips = trained.trial.evaluation.full.clip
    if clips and not labels:
        call += ", use_clipped_model_output=True"
    text = f"""\
```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("DIR"{trust})
images = pipeline({call}).images
```
"""
    return "\n".join([text, *(textwrap.fill(line, 110) for line in _remarks(trained, exported))])


def _remarks(trained: Trained, exported: Exported) -> list[str]:
    """What a person has to know to sample it well."""
    lines = [
        f"Numbers of steps that divide {exported.levels} walk the levels evenly. Without "
        "`use_clipped_model_output=True` diffusers' DDIM keeps the noise estimate of before clipping, which moves "
        "images a little."
        if trained.trial.model.classes is None
        else f"Numbers of steps that divide {exported.levels} walk the levels evenly."
    ]
    lines.append(_same_levels(trained, exported))
    if exported.own_code is not None:
        lines.append(
            f"UNet2DModel has no such network ({exported.own_code}), so `unet/` carries its source, which "
            "`trust_remote_code=True` runs; it needs torch, diffusers and pydantic. Read it first: it is one file."
        )
    if (classes := trained.trial.model.classes) is not None:
        names = trained.codec.label_names or ()
        lines.append(
            f"Labels 0 to {classes - 1}"
            + (f" are {', '.join(names[:50])}{' ...' if len(names) > 50 else ''}" if names else "")
            + f'; {classes} is "no label".'
            " The pipeline class is the one of diffusers that takes `class_labels`, it is used here with "
            f"{_scheduler_words(trained)}: this is no consistency model. It has no guidance; with weight w the "
            "network's answer is (1 + w) answer(label) - w answer(no label)."
        )
    return lines


def _same_levels(trained: Trained, exported: Exported) -> str:
    """How diffsweep walks what the pipeline walks."""
    schedule, steps = trained.trial.diffusion.schedule, exported.steps
    words = f"S steps visit the levels k = {exported.levels} j/S - 1 for j = S ... 1 (trailing spacing). "
    if schedule.learns or isinstance(schedule, Respaced):
        return words + "No grid of diffsweep is the same."
    of = json.dumps(schedule.model_dump(mode="json") | {"steps": exported.levels})
    grid = f"{{kind: respaced, of: {of}, rule: trailing{steps}}}"
    return (
        words
        + f"`diffsweep sample --solver ddim --steps {steps} --grid '{grid}'` does so too, from its own noise."
    )


def _scheduler_words(trained: Trained) -> str:
    if not trained.trial.evaluation.full.clip:
        return "a DDIM scheduler"
    return (
        "DPM-Solver++ of first order, which is DDIM, whose thresholds clip each estimate of the image to [-1, 1] and "
        "take the noise from that, as diffusers' DDIM scheduler would not here"
    )


def _facts(trained: Trained, exported: Exported, story: Story) -> list[str]:
    trial, diffusion, shape = trained.trial, trained.diffusion, trained.codec.shape
    counts = trained.codec.label_counts
    examples = f", {sum(counts):,} examples" if counts else ""
    facts = [
        f"Data: {trial.data.label()}{examples}; {shape[0]} channel{'s' if shape[0] > 1 else ''} of "
        f"{shape[1]} x {shape[2]}; content {trained.fingerprint}",
        f"Network: {trial.model.label()}, {sum(p.numel() for p in trained.network.parameters()):,} parameters",
        f"Schedule {diffusion.schedule.label()}, timesteps {diffusion.timesteps.label()}, weighting "
        f"{diffusion.weighting.label()}, prediction {diffusion.prediction.label()}, objective "
        f"{diffusion.objective.label()}",
        f"Training: {trained.images / 1000:g} of {trial.total_images() / 1000:g} thousand images in batches of "
        f"{trial.train.batch_size}, {trial.optimizer.label()}, average {trial.averages()[0].label()}, "
        f"seed {trial.seed}",
        f"Scheduler: DDIM on a table of {exported.levels} levels"
        + ("" if diffusion.schedule.steps else ", which stands for the continuous schedule"),
    ]
    if diffusion.objective.extra_channels(shape[0]):
        facts.append("The learned variance of the reverse step is left out: DDIM has no use for it")
    if story.key:
        facts.append(f"Trial {story.key}; `diffsweep.json` has its whole specification")
    return facts


def _numbers(trained: Trained, story: Story) -> str:
    if not story.metrics:
        return "## What was measured\n\nNothing yet."
    rows = [
        f"| {name} | {value:.6g} | {story.protocols.get(name, '')} |"
        for name, value in story.metrics.items()
    ]
    table = "\n".join(["| metric | value | protocol |", "|---|---|---|", *rows])
    return f"## What was measured\n\n{table}\n\n{protocol_words(trained.trial.evaluation)}"


def protocol_words(evaluation: Evaluation) -> str:
    """How the numbers were measured, a sentence for each of the two protocols."""
    parts: dict[str, Generation | None] = {"eval": evaluation.full, "rung": evaluation.rung}
    draws = f"the mean over {evaluation.draws} sets of " if evaluation.draws > 1 else ""
    lines = []
    for name, generation in parts.items():
        if generation is None:
            continue
        grid = "the model's own schedule" if generation.grid is None else generation.grid.label()
        guided = f", guidance {generation.guidance.scale:g}" if generation.guidance else ""
        against = {"train": "the training data", "test": "the test split"}.get(
            evaluation.reference, f"the statistics in {Path(evaluation.reference).name}"
        )
        lines.append(
            f"`{name}/...`: {draws if name == 'eval' else ''}{generation.images:,} images, solver "
            f"{generation.solver.label()}, {generation.steps} steps on {grid}{guided}; compared with {against} "
            f"in {(evaluation.features if name == 'rung' else evaluation.features.reported()).called()}."
        )
    return "\n\n".join([*lines, "Numbers of different protocol ids are not comparable."])

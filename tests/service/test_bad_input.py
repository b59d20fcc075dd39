"""Whatever is wrong in a YAML is told in a line or two: file, line, path, what, and the way out. Exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import invoke
from service.experiment import Experiment
from trainer.errors import InputError, plain_text

PRESET = """\
data: {kind: gaussians, examples: 512}
model:
  kind: mlp
  width: 32
diffusion:
  schedule: {kind: cosine, steps: 100}
  timesteps: {kind: uniform}
optimizer:
  lr: 4e-3
  betas: [0.9, 0.99]
train: {kimg: 2.56, batch_size: 64}
evaluation:
  evaluations: 4
  features: {kind: pixels}
  rung: {images: 64, steps: 4}
  full: {images: 256, steps: 8}
"""
HEAD = "name: x\nbase: preset.yaml\n"


def arm(text: str) -> str:
    """An experiment whose second arm, on line 5, holds `text`."""
    return f"{HEAD}arms:\n  plain: {{}}\n  b: {{{text}}}\n"


def searched(text: str, trials: int = 4, by: str = "tpe", at: float | None = None) -> str:
    """Two arms, the second on line 5, and a search whose space, on line 10, holds `text`."""
    first = f"trials: {trials}" if at is None else f"at: {at}"
    head = arm("diffusion.timesteps: {kind: p2}")
    return f"{head}search:\n  {first}\n  by: {by}\n  space:\n    {text}\n"


CASES: dict[str, tuple[str, str]] = {
    # what the file itself can be
    "empty": ("", "x.yaml: is empty: an experiment needs `name:` and `base:`"),
    "only comments": ("# nothing\n", "x.yaml: is empty: an experiment needs `name:` and `base:`"),
    "a list": (
        "- a\n",
        "x.yaml:1: an experiment is a mapping that begins with `name:`, this is `[a]`",
    ),
    "no colon": (
        "name x\n",
        "x.yaml:1: an experiment is a mapping that begins with `name:`, this is `name x`",
    ),
    "a trial": (
        "data: {kind: digits}\nmodel: {kind: unet}\ntrain: {kimg: 1}\nevaluation: {}\n",
        "x.yaml: is a trial, this command takes an experiment: train it alone with `python -m trainer x.yaml`, or "
        "make it an experiment, a YAML with `name: mine`, `base: x.yaml`, `seeds: 6` and `arms:` or `axes:`",
    ),
    "no name": (
        "base: preset.yaml\n",
        "x.yaml:1: name: is missing (Name of the experiment: its MLflow experiment and its directory "
        "of results)",
    ),
    "a weight without end": (
        arm("diffusion.weighting: {kind: p2, gamma: 1000, k: 0}"),
        "x.yaml:5: arms.b.diffusion.weighting: weighs some of the noise levels that are drawn beyond what float32 "
        "holds, so the loss is infinite: weighting `p2(gamma=1000, k=0)`, timesteps `uniform`; write values that are "
        "less extreme",
    ),
    "a schedule without an end": (
        arm("diffusion.schedule: {kind: linear_beta, steps: 80000, rescale: false}"),
        "x.yaml:5: arms.b.diffusion.schedule: has no noise level from step 74906 of 80000 on: so little signal is "
        "left that its SNR is no number any more; write smaller betas, fewer steps or `rescale: true`, where it has "
        "them",
    ),
    "no base": (
        "name: x\n",
        "x.yaml:1: base: is missing (The trial that all cells start from: a preset file (relative to "
        "this one), or the trial itself)",
    ),
    "bad yaml": (
        "name: x\nbase: [a, b\nseeds: 3\n",
        "x.yaml:2: not valid YAML: a list opened with `[` is not closed",
    ),
    "tab": (
        "name: x\nset:\n\ttrain.kimg: 3\n",
        "x.yaml:3: not valid YAML: a tab: YAML is indented with spaces",
    ),
    "duplicate key": (
        f"{HEAD}seeds: 3\nseeds: 4\n",
        "x.yaml:4: seeds: is already given on line 3: rename or remove one",
    ),
    # keys and kinds
    "misspelt key": (f"{HEAD}seedz: 3\n", "x.yaml:3: seedz: unknown key, did you mean `seeds`?"),
    "misspelt inner key": (
        f"{HEAD}compare:\n  metrik: eval/fid\n",
        "x.yaml:4: compare.metrik: unknown key, did you mean `metric`?",
    ),
    "misspelt kind": (
        arm("diffusion.schedule: {kind: cosin}"),
        "x.yaml:5: arms.b.diffusion.schedule.kind: unknown kind `cosin`, did you mean `cosine`?",
    ),
    "misspelt kind on its own line": (
        f"{HEAD}arms:\n  a: {{}}\n  b:\n    diffusion.schedule:\n      kind: cosin\n      steps: 9\n",
        "x.yaml:7: arms.b.diffusion.schedule.kind: unknown kind `cosin`, did you mean `cosine`?",
    ),
    "kind without mapping": (
        arm("diffusion.schedule: cosine"),
        "x.yaml:5: arms.b.diffusion.schedule: must be a mapping such as {kind: cosine}, not `cosine`",
    ),
    "key of another kind": (
        arm("diffusion.timesteps.gamma: 1"),
        "x.yaml:5: arms.b.diffusion.timesteps.gamma: unknown key of `uniform`: it belongs to another "
        "kind of `diffusion.timesteps`",
    ),
    "misspelt key of a member": (
        arm("diffusion.timesteps: {kind: p2, gama: 1}"),
        "x.yaml:5: arms.b.diffusion.timesteps.gama: unknown key of `p2`, did you mean `gamma`?",
    ),
    "only the kind replaced": (
        arm("model.kind: unet"),
        "x.yaml:5: arms.b.model.kind: `unet` does not take `width`, which the former kind had: "
        "replace the whole value, `model: {kind: unet}`",
    ),
    # dotted paths
    "misspelt path": (
        arm("diffusion.shedule: {kind: cosine}"),
        "x.yaml:5: arms.b.diffusion.shedule: unknown key, did you mean `diffusion.schedule`?",
    ),
    "misspelt parent": (
        arm("optimiser.lr: 1e-3"),
        "x.yaml:5: arms.b.optimiser.lr: there is no `optimiser`, did you mean `optimizer.lr`?",
    ),
    "path too short": (
        arm("lr: 1e-3"),
        "x.yaml:5: arms.b.lr: unknown key, did you mean `optimizer.lr`?",
    ),
    "a learned grid": (
        arm("evaluation.full.grid: {kind: learned}"),
        "x.yaml:5: arms.b.evaluation.full.grid: a learned schedule is no grid here, it would stay at its "
        "start: use grid: null, which follows the trained one",
    ),
    "misspelt kind in a list": (
        arm("evaluation.metrics: [kid, {kind: fidd}]"),
        "x.yaml:5: arms.b.evaluation.metrics[1].kind: unknown kind `fidd`, did you mean `fid`?",
    ),
    "misspelt kind of an input": (
        arm("inputs: [{kind: mirored}]"),
        "x.yaml:5: arms.b.inputs[0].kind: unknown kind `mirored`, did you mean `mirrored`?",
    ),
    "an input that the data cannot give": (
        arm("inputs: [{kind: mirrored}]"),
        "x.yaml:5: arms.b.inputs: mirrored tells which images were flipped, and this data is never "
        "flipped: set data.flip: true where the data has that, or leave the input out",
    ),
    "no kind in a list": (
        arm("evaluation.metrics: [{features: {kind: pixels}}]"),
        "x.yaml:5: arms.b.evaluation.metrics[0]: needs a `kind`: `fid`, `fid_infinity`, `kid`, `precision`, `recall`, "
        "`density`, `coverage`, `mind`, `is`, `bpd`, `nll`",
    ),
    "misspelt key in a list": (
        arm("evaluation.metrics: [{kind: kid, featurs: 1}]"),
        "x.yaml:5: arms.b.evaluation.metrics[0].featurs: unknown key of `kid`, did you mean `features`?",
    ),
    "a key of another kind in a list": (
        arm("evaluation.metrics: [{kind: fid, features: {kind: pixels, width: 3}}]"),
        "x.yaml:5: arms.b.evaluation.metrics[0].features.width: unknown key of `pixels`: it belongs to "
        "another kind of `evaluation.metrics[0].features`",
    ),
    "a number for a metric": (
        arm("evaluation.metrics: [3]"),
        "x.yaml:5: arms.b.evaluation.metrics[0]: must be a kind such as `fid`, or a mapping such as "
        "{kind: fid}, not `3`; kinds: `fid`, `fid_infinity`, `kid`, `precision`, `recall`, "
        "`density`, `coverage`, `mind`, `is`, `bpd`, `nll`",
    ),
    "a number for an input": (
        arm("inputs: [3]"),
        "x.yaml:5: arms.b.inputs[0]: must be a mapping such as {kind: mirrored}, not `3`; kinds: "
        "`mirrored`, `augmented`, `super_resolution`, `tags`",
    ),
    "a metric for a list of them": (
        arm("evaluation.metrics: fid"),
        "x.yaml:5: arms.b.evaluation.metrics: must be a list such as [fid], not `fid`",
    ),
    "an input for a list of them": (
        arm("inputs: mirrored"),
        "x.yaml:5: arms.b.inputs: must be a list such as [{kind: mirrored}], not `mirrored`",
    ),
    "path to a misspelt key in a list": (
        arm("evaluation.metrics.0.featurs: {kind: pixels}"),
        "x.yaml:5: arms.b.evaluation.metrics.0.featurs: unknown key of `fid`, did you mean "
        "`evaluation.metrics.0.features`?",
    ),
    "path through an entry that is not there": (
        arm("evaluation.metrics.1.features: {kind: pixels}"),
        "x.yaml:5: arms.b.evaluation.metrics.1.features: `evaluation.metrics` is a list of 1, there is "
        "no entry `1`",
    ),
    "path into an entry": (
        arm("optimizer.betas.0.x: 1"),
        "x.yaml:5: arms.b.optimizer.betas.0.x: `optimizer.betas[0]` is a single value, there is nothing "
        "inside it",
    ),
    "path into a number": (
        arm("optimizer.lr.x: 1"),
        "x.yaml:5: arms.b.optimizer.lr.x: `optimizer.lr` is a single value, there is nothing inside it",
    ),
    "no such entry": (
        arm("optimizer.betas.2: 0.9"),
        "x.yaml:5: arms.b.optimizer.betas.2: `optimizer.betas` is a list of 2, there is no entry `2`",
    ),
    # search
    "no range": (
        searched("optimizer.lr: [1e-5, 1e-2]"),
        "x.yaml:10: search.space.optimizer.lr: must be a range such as {log: [1e-5, 1e-2]}, "
        "{linear: [0, 1]}, {int: [1, 4]} or {choice: [a, b]}, not `[1e-05, 0.01]`",
    ),
    "misspelt range": (
        searched("optimizer.lr: {lg: [1e-5, 1e-2]}"),
        "x.yaml:10: search.space.optimizer.lr: must be a range such as {log: [1e-5, 1e-2]}, "
        "{linear: [0, 1]}, {int: [1, 4]} or {choice: [a, b]}, not `{lg: [1e-05, 0.01]}`",
    ),
    "logarithm of nothing": (
        searched("optimizer.weight_decay: {log: [0, 1e-2]}"),
        "x.yaml:10: search.space.optimizer.weight_decay: begins at 0, and a logarithm needs more than 0",
    ),
    "ends the wrong way round": (
        searched("optimizer.lr: {log: [1e-2, 1e-5]}"),
        "x.yaml:10: search.space.optimizer.lr: log must rise from low to high, not [0.01, 1e-05]",
    ),
    "quoted end": (
        searched("optimizer.lr: {log: [1e-5, '1e-2']}"),
        "x.yaml:10: search.space.optimizer.lr: log must be two numbers [low, high], not "
        '`[1e-05, "1e-2"]`',
    ),
    "fraction for a whole end": (
        searched("model.width: {int: [8, 16.5]}"),
        "x.yaml:10: search.space.model.width: must have whole ends, not 16.5: use linear for that",
    ),
    "one choice": (
        searched("ema.decay: {choice: [0.9]}"),
        "x.yaml:10: search.space.ema.decay: choice must list two values or more, not `[0.9]`",
    ),
    "a choice twice": (
        searched("ema.decay: {choice: [0.9, 0.99, 0.9]}"),
        "x.yaml:10: search.space.ema.decay: choice lists 0.9 twice: remove one",
    ),
    "misspelt searched path": (
        searched("optimiser.lr: {log: [1e-5, 1e-2]}"),
        "x.yaml:10: search.space.optimiser.lr: there is no `optimiser`, did you mean `optimizer.lr`?",
    ),
    "end out of a field's range": (
        searched("ema.decay: {linear: [0.9, 1.5]}"),
        "x.yaml:10: search.space.ema.decay.linear[1]: must be less than 1, not `1.5`",
    ),
    "misspelt kind in a choice": (
        searched("ema: {choice: [{kind: rampp}, {kind: ramp}]}", trials=2),
        "x.yaml:10: search.space.ema.choice[0].kind: unknown kind `rampp`, did you mean `ramp`?",
    ),
    "a choice that the data does not allow": (
        searched("model: {choice: [{kind: mlp}, {kind: unet}]}", trials=2),
        "x.yaml:10: search.space.model.choice[1].kind: unet needs images, the data has shape (2,): "
        "use kind: mlp",
    ),
    "searched and varied by an arm": (
        searched("diffusion.timesteps: {choice: [{kind: uniform}, {kind: p2}]}", trials=2),
        "x.yaml:10: search.space.diffusion.timesteps: `arms.b.diffusion.timesteps` (line 5) varies this: "
        "search it or vary it, not both",
    ),
    "searched and varied by an axis": (
        searched("optimizer.lr: {log: [1e-5, 1e-2]}") + "axes: {optimizer.lr: [1e-3, 2e-3]}\n",
        "x.yaml:10: search.space.optimizer.lr: `axes.optimizer.lr` (line 11) varies this: search it or vary "
        "it, not both",
    ),
    "searched below a twin": (
        searched("diffusion.schedule.steps: {int: [10, 100]}") + "controls: equal_objective\n",
        "x.yaml:10: search.space.diffusion.schedule.steps: would change the objective of a cell but not of "
        "its twin: leave `controls` out, or search what is not below `diffusion`",
    ),
    "searched twice": (
        searched("optimizer.lr: {log: [1e-5, 1e-2]}")
        + "    optimizer: {choice: [{kind: adamw}, {kind: adamw, lr: 1}]}\n",
        "x.yaml:10: search.space.optimizer.lr: is part of `optimizer`, which is searched too: keep one",
    ),
    "searched protocol": (
        searched("evaluation.full.steps: {int: [4, 8]}"),
        "x.yaml:10: search.space.evaluation.full.steps: cannot be searched, all cells share it to be "
        "comparable: search another path",
    ),
    "searched budget": (
        searched("train.kimg: {linear: [1, 2]}"),
        "x.yaml:10: search.space.train.kimg: at 1, cell `plain` sees 1,024 images instead of 2,560: no "
        "verdict at unequal compute; search another path",
    ),
    "whole numbers searched as others": (
        searched("model.depth: {linear: [1, 3]}"),
        "x.yaml:10: search.space.model.depth: needs whole numbers, and linear draws such as 1.125: "
        "write {int: [1, 3]}",
    ),
    "whole numbers searched by their logarithm": (
        searched("model.width: {log: [1, 16]}"),
        "x.yaml:10: search.space.model.width: needs whole numbers, and log draws such as 1.18921: "
        "write {int: [1, 16]}",
    ),
    "searched batch sizes that do not divide the budget": (
        searched("train.batch_size: {int: [1, 128]}"),
        "x.yaml:10: search.space.train.batch_size: at 9, cell `plain` sees 2,556 images instead of 2,560: no "
        "verdict at unequal compute; search another path or list with `choice` what divides the budget",
    ),
    "more candidates than settings": (
        searched("ema.decay: {choice: [0.9, 0.99]}", trials=3),
        "x.yaml:7: search.trials: 3 are more than the 2 settings that the space holds: write 2 or fewer",
    ),
    "an order of what has none": (
        searched("ema.decay: {choice: [0.9, 0.99]}", trials=2, by="cmaes"),
        "x.yaml:8: search.by: cmaes needs an order, and `ema.decay` is a choice: use tpe, or give a range",
    ),
    "searched to the end and no less": (
        searched("optimizer.lr: {log: [1e-5, 1e-2]}", at=2.5),
        "x.yaml:7: search.at: 2.5 kimg have no evaluation before the end of cell `plain` (the last ones "
        "are at 0.64, 1.28, 1.92): write less, or leave `at` out to train to the end",
    ),
    "a judged seed of the search": (
        searched("optimizer.lr: {log: [1e-5, 1e-2]}") + "seeds: [0, 999999999]\n",
        "x.yaml:11: seeds: 999999999 is a seed of the search: winners are judged on fresh ones; use others",
    ),
    "nothing searched": (
        f"{HEAD}search: {{space: {{}}}}\n",
        "x.yaml:3: search.space: is empty: name a path and what may be tried there",
    ),
    # types and ranges
    "text for a number": (
        arm("optimizer.lr: fast"),
        "x.yaml:5: arms.b.optimizer.lr: must be a number, not `fast`",
    ),
    "quoted number": (
        arm("optimizer.lr: '1e-3'"),
        "x.yaml:5: arms.b.optimizer.lr: must be a number, not text: write 0.001 without quotes",
    ),
    "true for a number": (
        arm("optimizer.lr: true"),
        "x.yaml:5: arms.b.optimizer.lr: must be a number, not `true`",
    ),
    "fraction for a count": (
        arm("train.batch_size: 1.5"),
        "x.yaml:5: arms.b.train.batch_size: must be a whole number, not `1.5`",
    ),
    "negative": (
        arm("optimizer.lr: -1"),
        "x.yaml:5: arms.b.optimizer.lr: must be greater than 0, not `-1`",
    ),
    "too large in a list": (
        arm("optimizer.betas: [0.9, 1.2]"),
        "x.yaml:5: arms.b.optimizer.betas[1]: must be 0.99999 or less, not `1.2`",
    ),
    "a moment that forgets nothing": (
        arm("optimizer.betas: [0.9999999999999999, 0.99]"),
        "x.yaml:5: arms.b.optimizer.betas[0]: must be 0.99999 or less, not `0.9999999999999999`",
    ),
    "a momentum that forgets nothing": (
        arm("optimizer: {kind: sgd, momentum: 0.9999999}"),
        "x.yaml:5: arms.b.optimizer.momentum: must be 0.99999 or less, not `0.9999999`",
    ),
    "a decay that leaves no weights": (
        arm("optimizer.weight_decay: 300"),
        "x.yaml:5: arms.b.optimizer.weight_decay: 300 at a learning rate of 0.004 multiplies the weights by -0.2 at "
        "each update, and leaves nothing of them: write less than 250",
    ),
    "a network of which nothing is left": (
        arm("model: {kind: unet, dropout: 0.999999999}"),
        "x.yaml:5: arms.b.model.dropout: must be 0.95 or less, not `0.999999999`",
    ),
    "infinite": (
        arm("optimizer.lr: .inf"),
        "x.yaml:5: arms.b.optimizer.lr: must be a finite number, not `.inf`",
    ),
    "wrong choice": (
        arm("train.precision: bf61"),
        "x.yaml:5: arms.b.train.precision: must be `fp32` or `bf16` or `fp16` or `auto`, not `bf61`, did you mean "
        "`bf16`?",
    ),
    "seconds thoughts of a validator": (
        arm("train.kimg: 0.01"),
        "x.yaml:5: arms.b.train.kimg: 0.01 is less than one batch of 64: write 0.064 or more",
    ),
    "a network that does not fit": (
        arm("model: {kind: unet}"),
        "x.yaml:5: arms.b.model.kind: unet needs images, the data has shape (2,): use kind: mlp",
    ),
    # mappings in mappings
    "misspelt key of a nested arm": (
        f"{HEAD}arms:\n  a: {{}}\n  b:\n    optimizer:\n      lrr: 1\n",
        "x.yaml:7: arms.b.optimizer.lrr: unknown key of `adamw`, did you mean `optimizer.lr`?",
    ),
    "misspelt nested arm": (
        f"{HEAD}arms:\n  a: {{}}\n  b:\n    optimiser:\n      lr: 1\n",
        "x.yaml:6: arms.b.optimiser: unknown key, did you mean `optimizer`?",
    ),
    "nested arm of another kind": (
        arm("diffusion: {timesteps: {gamma: 1}}"),
        "x.yaml:5: arms.b.diffusion.timesteps.gamma: unknown key of `uniform`: it belongs to another "
        "kind of `diffusion.timesteps`",
    ),
    "nested and dotted say different things": (
        arm("optimizer.lr: 1, optimizer: {lr: 2}"),
        "x.yaml:5: arms.b.optimizer: replaces what `optimizer.lr` sets just above: keep one of them",
    ),
    "axis over a nested arm": (
        arm("diffusion: {timesteps: {draw: stratified}}")
        + "axes:\n  diffusion.timesteps: [{kind: uniform}, {kind: p2}]\n",
        "x.yaml:7: axes.diffusion.timesteps: overwrites `arms.b.diffusion`: vary each path in one "
        "place only",
    ),
    "nested arm that changes nothing": (
        arm("optimizer: {lr: 4e-3}"),
        "x.yaml:5: arms.b: changes nothing: `optimizer` is {lr: 0.004} already in the base; remove this "
        "arm",
    ),
    "seed in a nested arm": (
        f"{HEAD}arms:\n  a: {{}}\n  b: {{seed: 3}}\n",
        "x.yaml:5: arms.b.seed: seeds are no override: list them in `seeds`",
    ),
    # arms, axes, zip
    "duplicate arm": (
        f"{HEAD}arms:\n  a: {{}}\n  b: {{optimizer.lr: 1}}\n  b: {{optimizer.lr: 2}}\n",
        "x.yaml:6: arms.b: is already given on line 5: rename or remove one",
    ),
    "arms of one trial": (
        f"{HEAD}arms:\n  a: {{}}\n  b: {{optimizer.lr: 1e-3}}\n  c: {{optimizer.lr: 0.001}}\n",
        "x.yaml:6: arms.c: gives the same trial as `b` (line 5): remove one of them",
    ),
    "idle arm": (
        arm("optimizer.lr: 0.004"),
        "x.yaml:5: arms.b: changes nothing: `optimizer.lr` is 0.004 already in the base; remove this arm",
    ),
    "second empty arm": (
        f"{HEAD}arms:\n  a: {{}}\n  b: {{}}\n",
        "x.yaml:5: arms.b: gives the same trial as `a` (line 4): remove one of them",
    ),
    "no arms": (
        f"{HEAD}arms: {{}}\n",
        "x.yaml:3: arms: is empty: name the cells to compare, or leave `arms` out",
    ),
    "arm is a number": (
        f"{HEAD}arms:\n  a: 3\n",
        "x.yaml:4: arms.a: must be a mapping `key: value`, not `3`",
    ),
    "arm name": (
        f"{HEAD}arms:\n  a: {{}}\n  b c: {{optimizer.lr: 1}}\n",
        "x.yaml:5: arms.b c: `b c` is not a name for an arm: use letters from a to z, digits, `-`, `_`, `+` and `.`",
    ),
    "seed in an arm": (
        arm("seed: 3"),
        "x.yaml:5: arms.b.seed: seeds are no override: list them in `seeds`",
    ),
    "axis repeats": (
        f"{HEAD}axes:\n  optimizer.lr: [1e-3, 2e-3, 0.001]\n",
        "x.yaml:4: axes.optimizer.lr[2]: repeats value 1, 0.001: remove one",
    ),
    "axis repeats a trial": (
        f"{HEAD}axes:\n  diffusion.schedule:\n    - {{kind: cosine}}\n    - {{kind: cosine, offset: 0.008}}\n",
        "x.yaml:6: axes.diffusion.schedule[1]: gives the same trial as `schedule=cosine` (line 5): "
        "remove one of them",
    ),
    "axis is empty": (
        f"{HEAD}axes:\n  optimizer.lr: []\n",
        "x.yaml:4: axes.optimizer.lr: has no values: list them as [a, b], or leave the axis out",
    ),
    "axis is a number": (
        f"{HEAD}axes:\n  optimizer.lr: 3\n",
        "x.yaml:4: axes.optimizer.lr: must be a list such as [1, 2], not `3`",
    ),
    "axis value out of range": (
        f"{HEAD}axes:\n  optimizer.lr:\n    - 1e-3\n    - -1\n",
        "x.yaml:6: axes.optimizer.lr[1]: must be greater than 0, not `-1`",
    ),
    "axes explode": (
        f"{HEAD}axes:\n  optimizer.lr: {list(range(1, 101))}\n  train.kimg: {list(range(1, 101))}\n",
        "x.yaml:1: makes 10,000 cells, more than 1,000: shorten the axes",
    ),
    "cells explode by their twins": (
        f"{HEAD}controls: equal_objective\naxes:\n"
        f"  diffusion.timesteps: {[{'kind': 'p2', 'gamma': n / 1000} for n in range(1, 502)]}\n",
        "x.yaml:3: controls: equal_objective makes up to 1,001 cells of 501, with 6 seeds 6,006 trials, more than "
        "1,000 cells: shorten what varies the objective, or leave `controls` out",
    ),
    "trials explode by their twins": (
        f"{HEAD}controls: equal_objective\nseeds: 600\naxes:\n"
        f"  diffusion.timesteps: {[{'kind': 'p2', 'gamma': n / 10} for n in range(1, 11)]}\n",
        "x.yaml:3: controls: equal_objective makes up to 19 cells of 10, with 600 seeds 11,400 trials, more than "
        "10,000 trials: shorten what varies the objective, or leave `controls` out",
    ),
    "cells times seeds explode": (
        f"{HEAD}seeds: 300\naxes:\n  optimizer.lr: {[n / 1000 for n in range(1, 41)]}\n",
        "x.yaml:3: seeds: 40 cells with 300 seeds are 12,000 trials, more than 10,000: write fewer of one or the other",
    ),
    "seeds without end": (
        f"{HEAD}seeds: {list(range(5_000))}\n",
        "x.yaml:3: seeds: lists 5,000 seeds: at most 1,000 are used",
    ),
    "paths without end": (
        arm(", ".join(f"model.width{n}: 1" for n in range(5_000))),
        "x.yaml:5: arms.b: changes 5,000 paths, more than 100: write a preset",
    ),
    "zip of unequal lengths": (
        f"{HEAD}zip:\n  optimizer.lr: [1e-3, 2e-3]\n  train.kimg: [3, 4, 5]\n",
        "x.yaml:5: zip.train.kimg: has 3 entries, `optimizer.lr` has 2: zip pairs them one to one",
    ),
    "axis over an arm": (
        arm("diffusion.timesteps.draw: stratified")
        + "axes:\n  diffusion.timesteps: [{kind: uniform}, {kind: p2}]\n",
        "x.yaml:7: axes.diffusion.timesteps: overwrites `arms.b.diffusion.timesteps.draw`: vary each "
        "path in one place only",
    ),
    "axis over what a member of an axis says": (
        f"{HEAD}axes:\n  optimizer: [{{kind: sgd, lr: 0.1}}, {{kind: adam}}]\n  optimizer.lr: [1e-3, 2e-3]\n",
        "x.yaml:5: axes.optimizer.lr: overwrites `axes.optimizer[0]`: vary each path in one place only",
    ),
    "axis over what a member of an axis says, the other way round": (
        f"{HEAD}axes:\n  optimizer.lr: [1e-3, 2e-3]\n  optimizer: [{{kind: sgd, lr: 0.1}}, {{kind: adam}}]\n",
        "x.yaml:5: axes.optimizer: overwrites `axes.optimizer.lr[0]`: vary each path in one place only",
    ),
    "axis over what a member of an arm says": (
        f"{arm('optimizer: {kind: sgd, lr: 0.1}')}axes: {{optimizer.lr: [1e-3, 2e-3]}}\n",
        "x.yaml:6: axes.optimizer.lr: overwrites `arms.b.optimizer`: vary each path in one place only",
    ),
    "zip over what a member of an arm says": (
        f"{arm('optimizer: {kind: sgd, lr: 0.1}')}zip: {{optimizer.lr: [1e-3, 2e-3]}}\n",
        "x.yaml:6: zip.optimizer.lr: overwrites `arms.b.optimizer`: vary each path in one place only",
    ),
    "an arm that changes no number": (
        arm("train.log_every_kimg: 0.5"),
        "x.yaml:5: arms.b: differs from `plain` (line 4) in `train.log_every_kimg` alone, which changes no number: "
        "both would be one trial; remove one of them",
    ),
    "an axis that changes no number": (
        f"{HEAD}axes:\n  evaluation.batch_size: [100, 200]\n  optimizer.lr: [1e-3, 2e-3]\n",
        "x.yaml:4: axes.evaluation.batch_size[1]: differs from `batch_size=100` (line 4) in `evaluation.batch_size` "
        "alone, which changes no number: both would be one trial; remove one of them",
    ),
    "a feature space that no memory holds": (
        arm("evaluation.features: {kind: classifier, width: 65536, steps: 1000000}"),
        "x.yaml:5: arms.b.evaluation.features.width: must be 4,096 or less, not `65536`\n"
        "x.yaml:5: arms.b.evaluation.features.steps: must be 100,000 or less, not `1000000`\n"
        "2 problems; nothing has been run",
    ),
    "a churn between no levels": (
        arm("evaluation.full.solver: {kind: euler, churn: 1, churn_min: 10, churn_max: 1}"),
        "x.yaml:5: arms.b.evaluation.full.solver.churn_min: 10 exceeds churn_max: 1, so that nothing is churned: lower "
        "it, or raise churn_max",
    ),
    "a rung twice": (
        f"{HEAD}policy: {{kind: racing, at: [0.25, 0.5, 0.5]}}\n",
        "x.yaml:3: policy.at: lists 0.5 twice: remove one",
    ),
    "a rung of halving twice": (
        f"{HEAD}policy: {{kind: halving, at: [0.5, 0.5]}}\n",
        "x.yaml:3: policy.at: lists 0.5 twice: remove one",
    ),
    # comparison, seeds and the rest
    "unknown metric": (
        f"{HEAD}compare: {{metric: eval/fdi}}\n",
        "x.yaml:3: compare.metric: unknown metric `eval/fdi`, did you mean `eval/fid`? Measured are "
        "`eval/fid`, `rung/fid`",
    ),
    "metric without protocol": (
        f"{HEAD}compare: {{metric: fid}}\n",
        "x.yaml:3: compare.metric: unknown metric `fid`, did you mean `eval/fid`? Measured are "
        "`eval/fid`, `rung/fid`",
    ),
    "metric not measured": (
        f"{HEAD}compare: {{metric: eval/kid}}\n",
        "x.yaml:3: compare.metric: `eval/kid` is not measured by cell `base`: add `kid` to "
        "`evaluation.metrics`, or use `eval/fid`, `rung/fid`",
    ),
    "training loss as metric": (
        f"{HEAD}compare: {{metric: train/loss}}\n",
        "x.yaml:3: compare.metric: losses of different objectives have different scales: compare by "
        "`eval/fid`, `rung/fid`",
    ),
    "baseline is no cell": (
        arm("optimizer.lr: 1") + "compare: {baseline: plian}\n",
        "x.yaml:6: compare.baseline: `plian` is no cell, did you mean `plain`?",
    ),
    "baseline is split by axes": (
        arm("optimizer.lr: 1") + "axes: {train.kimg: [3, 4]}\ncompare: {baseline: plain}\n",
        "x.yaml:7: compare.baseline: `plain` is an arm, which the axes split into cells: choose one of "
        "`plain,kimg=3`, `plain,kimg=4`",
    ),
    "margin": (
        f"{HEAD}compare: {{margin: 2}}\n",
        "x.yaml:3: compare.margin: must be less than 1, not `2`",
    ),
    "no seeds": (
        f"{HEAD}seeds: 0\n",
        "x.yaml:3: seeds: must be a count from 1 to 1000, or a list of seeds, not 0",
    ),
    "seed twice": (
        f"{HEAD}seeds: [1, 2, 1]\n",
        "x.yaml:3: seeds: seed 1 is listed twice: remove one",
    ),
    "negative seed": (
        f"{HEAD}seeds: [1, -2]\n",
        "x.yaml:3: seeds: a seed is a whole number from 0 on, not -2",
    ),
    "seeds are text": (
        f"{HEAD}seeds: many\n",
        "x.yaml:3: seeds: must be a count such as 3, a list such as [0, 1, 2], or {first: 6, most: 24}",
    ),
    "unknown control": (
        f"{HEAD}controls: equal_objectiv\n",
        "x.yaml:3: controls: must be `equal_objective`, not `equal_objectiv`, did you mean "
        "`equal_objective`?",
    ),
    "unequal images": (
        f"{HEAD}axes:\n  train.batch_size: [64, 48]\ncompare: {{metric: eval/fid}}\n",
        "x.yaml:4: axes.train.batch_size[1]: cells see different numbers of images, 2,560 "
        "(`batch_size=64`) and 2,544 (`batch_size=48`): no verdict at unequal compute; set train.kimg: "
        "2.496, which every batch size divides, for all of them, or leave `compare` out",
    ),
    "unequal images far from a common budget": (
        f"{HEAD}axes:\n  train.batch_size: [64, 99]\ncompare: {{metric: eval/fid}}\n",
        "x.yaml:4: axes.train.batch_size[1]: cells see different numbers of images, 2,560 "
        "(`batch_size=64`) and 2,574 (`batch_size=99`): no verdict at unequal compute; choose batch sizes "
        "with a smaller common multiple, or set train.kimg: 6.336, which every batch size divides, for "
        "all of them, or leave `compare` out",
    ),
    "unequal budgets": (
        arm("train.kimg: 5.12") + "compare: {baseline: plain}\n",
        "x.yaml:5: arms.b.train.kimg: cells see different numbers of images, 2,560 (`plain`) and 5,120 "
        "(`b`): no verdict at unequal compute; set train.kimg: 2.56 for all of them, or leave `compare` "
        "out",
    ),
    "unequal protocols": (
        arm("evaluation.full.steps: 9") + "compare: {baseline: plain}\n",
        "x.yaml:5: arms.b.evaluation.full.steps: cells `plain` and `b` differ in `evaluation.full`: "
        "numbers of different protocols are not compared; give all cells the same `evaluation`, or leave "
        "`compare` out",
    ),
    "unequal draws": (
        arm("evaluation.draws: 2") + "compare: {baseline: plain}\n",
        "x.yaml:5: arms.b.evaluation.draws: cells `plain` and `b` differ in `evaluation.draws`: "
        "numbers of different protocols are not compared; give all cells the same `evaluation`, or leave "
        "`compare` out",
    ),
    "no draw": (
        arm("evaluation.draws: 0"),
        "x.yaml:5: arms.b.evaluation.draws: must be 1 or more, not `0`",
    ),
    "control without a baseline": (
        f"{HEAD}controls: equal_objective\n",
        "x.yaml:3: controls: there is only one cell: a control needs a baseline",
    ),
    "unknown policy": (
        f"{HEAD}policy: {{kind: asha}}\n",
        "x.yaml:3: policy.kind: unknown kind `asha`; known: `fixed`, `halving`, `racing`, `median`",
    ),
    "stopping of former days": (
        f"{HEAD}stopping: {{kind: none}}\n",
        "x.yaml:3: stopping: unknown key: every trial runs to its end unless a `policy` says otherwise: "
        "remove it, or set `policy`",
    ),
    "unknown launcher": (
        f"{HEAD}launcher: inprocess\n",
        "x.yaml:3: launcher: must be `train` or `inproc` or `ensemble`, not `inprocess`, did you mean `inproc`?",
    ),
    "inproc with workers": (
        f"{HEAD}launcher: inproc\nresources: {{workers: 2}}\n",
        "x.yaml:3: launcher: inproc trains in one process, resources.workers is 2: use launcher: train",
    ),
    "workers do not divide the batch": (
        f"{HEAD}resources:\n  workers: 3\n",
        "x.yaml:4: resources.workers: 3 workers cannot share train.batch_size 64 (cell `base`): use a "
        "divisor of 64",
    ),
    "elastic in the wrong order": (
        f"{HEAD}resources: {{workers: {{least: 4, most: 2}}}}\n",
        "x.yaml:3: resources.workers.least: 4 is more than most, 2",
    ),
    "elastic without an end": (
        f"{HEAD}resources: {{workers: {{least: 2}}}}\n",
        "x.yaml:3: resources.workers.most: is missing (With more it never trains)",
    ),
    "no number of workers divides the batch": (
        f"{HEAD}resources: {{workers: {{least: 5, most: 7}}}}\n",
        "x.yaml:3: resources.workers: no such number of workers can share train.batch_size 64 (cell `base`): "
        "use a divisor of 64",
    ),
    "inproc with elastic workers": (
        f"{HEAD}launcher: inproc\nresources: {{workers: {{most: 2}}}}\n",
        "x.yaml:3: launcher: inproc trains in one process, resources.workers is 1 to 2: use launcher: train",
    ),
    "workers are a word": (
        f"{HEAD}resources: {{workers: many}}\n",
        "x.yaml:3: resources.workers: must be a whole number, not `many`",
    ),
    "resources of an arm": (
        arm("model.width: 64, resources.gpuss: 1"),
        "x.yaml:5: arms.b.resources.gpuss: unknown key, did you mean `resources.gpus`?",
    ),
    "negative resources of an arm": (
        arm("model.width: 64, resources: {gpus: -1}"),
        "x.yaml:5: arms.b.resources.gpus: must be 0 or more or `auto`, not `-1`",
    ),
    "resources of an arm are a word": (
        arm("model.width: 64, resources: many"),
        "x.yaml:5: arms.b.resources: must be a mapping `key: value`, not `many`",
    ),
    "workers of an arm do not divide the batch": (
        arm("model.width: 64, resources.workers: 3"),
        "x.yaml:5: arms.b.resources.workers: 3 workers cannot share train.batch_size 64 (cell `b`): "
        "use a divisor of 64",
    ),
    "inproc with an arm of two workers": (
        f"{arm('model.width: 64, resources.workers: 2')}launcher: inproc\n",
        "x.yaml:5: arms.b.resources.workers: launcher: inproc trains in one process, not in 2 workers: use "
        "launcher: train",
    ),
    "an arm of resources alone": (
        arm("resources.cpus: 2"),
        "x.yaml:5: arms.b: differs from `plain` (line 4) in resources alone, which are no part of a trial: "
        "both would be one; remove one of them",
    ),
    "an axis of resources": (
        f"{HEAD}axes:\n  resources.workers: [1, 2]\n",
        "x.yaml:4: axes.resources.workers[1]: differs from `workers=1` (line 4) in resources alone, which "
        "are no part of a trial: both would be one; remove one of them",
    ),
    "resources in set": (
        f"{HEAD}set:\n  resources.gpus: 1\n",
        "x.yaml:4: set.resources.gpus: is no part of a trial: write it below `resources` of the experiment",
    ),
    "resources that two dimensions set": (
        f"{arm('model.width: 64, resources.cpus: 2')}axes:\n  resources.cpus: [1, 2]\n",
        "x.yaml:7: axes.resources.cpus: overwrites `arms.b.resources.cpus`: vary each path in one place only",
    ),
    "a search of resources": (
        searched("resources.cpus: {linear: [1, 2]}"),
        "x.yaml:10: search.space.resources.cpus: there is no `resources`; known: `data`, `model`, `inputs`, "
        "`start_from`, `diffusion`, `optimizer`, `ema`, `train`, `evaluation`, `seed`",
    ),
    "a GPU budget where no cell has one": (
        f"{arm('model.width: 64, resources.cpus: 2')}budget: {{gpu_hours: 1}}\n",
        "x.yaml:6: budget.gpu_hours: its trials use no GPU (resources.gpus): give cpu_hours",
    ),
    "negative resources": (
        f"{HEAD}resources: {{gpus: -1}}\n",
        "x.yaml:3: resources.gpus: must be 0 or more or `auto`, not `-1`",
    ),
    "name": (
        "name: a/b\nbase: preset.yaml\n",
        "x.yaml:1: name: `a/b` is not a name: use letters from a to z, digits, `-`, `_`, `+` and `.`",
    ),
    "name of 300 letters": (
        f"name: {'x' * 300}\nbase: preset.yaml\n",
        f"x.yaml:1: name: `{'x' * 20}...` has 300 characters: use at most 120",
    ),
    "name begins with a dash": (
        "name: -x\nbase: preset.yaml\n",
        "x.yaml:1: name: `-x` is not a name: begin with a letter from a to z or a digit",
    ),
    "name is a number": (
        "name: 0.10\nbase: preset.yaml\n",
        "x.yaml:1: name: must be text, not `0.1`: put it in quotes",
    ),
    "name of two lines": (
        'name: "a\\nb"\nbase: preset.yaml\n',
        'x.yaml:1: name: "a\\nb" is not a name: use letters from a to z, digits, `-`, `_`, `+` and `.`',
    ),
    "preset is a number": (
        "name: x\nbase: 3\n",
        "x.yaml:2: base: must be text or a mapping `key: value`, not `3`",
    ),
    "preset is empty text": (
        "name: x\nbase: ''\n",
        "x.yaml:2: base: is empty: write the name of a preset's file, or a whole trial",
    ),
    "preset is an experiment": (
        "name: x\nbase: x.yaml\n",
        "x.yaml: is an experiment itself: a preset is one whole trial, with data, model and train",
    ),
    "kind without a name": (
        arm("ema: {kind: }"),
        "x.yaml:5: arms.b.ema: needs a `kind`: `ramp`, `constant`, `inverse_power`, `power`",
    ),
    "kind is a list": (
        arm("ema: {kind: [a]}"),
        "x.yaml:5: arms.b.ema.kind: must be the name of a kind, not `[a]`: `ramp`, `constant`, "
        "`inverse_power`, `power`",
    ),
    "preset is a device": (
        "name: x\nbase: /dev/null\n",
        "x.yaml:2: base: /dev/null is a device, not a YAML file",
    ),
    "preset is a folder": (
        "name: x\nbase: .\n",
        "x.yaml:2: base: . is a directory, not a YAML file",
    ),
    "preset is pasted as text": (
        "name: x\nbase: |\n  data: {kind: digits}\n  model: {kind: mlp}\n",
        "x.yaml:2: base: is a text of several lines: write the mapping without `|`, or the name of a file",
    ),
    "preset of 300 letters": (
        f"name: x\nbase: {'p' * 300}\n",
        f"x.yaml:2: base: {'p' * 57}... cannot be read: File name too long",
    ),
    "endless nesting": (
        f"{HEAD}set: {'{a: ' * 2000}1{'}' * 2000}\n",
        "x.yaml:3: set: is nested more than 50 deep",
    ),
    "endless number": (
        f"{HEAD}set: {{train.batch_size: {'9' * 5000}}}\n",
        "x.yaml:3: set.train.batch_size: is a whole number of 5,000 digits, at most 600 are read: write "
        "it shorter, or put it in quotes if it is text",
    ),
    "a number no machine counts with": (
        f"{HEAD}set:\n  model.width: 1{'0' * 30}\n",
        f"x.yaml:4: set.model.width: `1{'0' * 30}` is too large: write a smaller number",
    ),
    "a network that no machine holds": (
        f"{HEAD}set:\n  model.width: 1{'0' * 12}\n",
        "x.yaml:4: set.model.width: must be 65,536 or less, not `1000000000000`",
    ),
    "a network whose parts are possible and whose whole is not": (
        f"{HEAD}set:\n  model: {{width: 65536, depth: 1000}}\n",
        "x.yaml:4: set.model.depth: has 4.3e+12 parameters, more than 1e+11, which no machine trains: write smaller "
        "widths, channels or depths",
    ),
    "a share that is none": (
        f"{HEAD}resources: {{cpus: 1.0e-300}}\n",
        "x.yaml:3: resources.cpus: `1e-300` is too small to be told from 0: write a larger number, or 0 if it may be 0",
    ),
    "a seed with a point": (
        f"{HEAD}seeds: [0, 1.0, 2]\n",
        "x.yaml:3: seeds: a seed is a whole number from 0 on, not 1.0",
    ),
    "a seed with an exponent": (
        f"{HEAD}seeds: [1e3]\n",
        "x.yaml:3: seeds: a seed is a whole number from 0 on, not 1000.0",
    ),
    "a whole number far below 0": (
        f"{HEAD}set: {{evaluation.noise_seed: -9223372036854775809}}\n",
        "x.yaml:3: set.evaluation.noise_seed: `-9223372036854775809` is too far below 0: write a larger number",
    ),
    "a count far below 0": (
        f"{HEAD}set: {{model.width: -1.0e+308}}\n",
        "x.yaml:3: set.model.width: must be a larger number, not `-1e+308`",
    ),
    "one occasion alone": (
        f"{HEAD}notify: failure\n",
        "x.yaml:3: notify: must be a list such as [failure], not `failure`",
    ),
    "controls that are true": (
        f"{HEAD}controls: true\n",
        "x.yaml:3: controls: must be a list such as [equal_objective], not `true`",
    ),
    "an arm with an accent": (
        f"{HEAD}arms: {{é: {{}}, b: {{optimizer.lr: 0.1}}}}\n",
        "x.yaml:3: arms.é: `é` is not a name for an arm: begin with a letter from a to z or a digit",
    ),
    "an arm as a baseline beside a zip that is wrong": (
        f"{HEAD}arms: {{a: {{}}, b: {{optimizer.lr: 0.1}}}}\nzip: {{model.width: [8, 16], model.depth: [1]}}\n"
        "compare: {baseline: a}\n",
        "x.yaml:4: zip.model.depth: has 1 entries, `model.width` has 2: zip pairs them one to one",
    ),
    "an address as a base": (
        "name: x\nbase: https://example.org/trial.yaml\n",
        "x.yaml:2: base: https://example.org/trial.yaml is an address: a base is a file on this machine, or a whole "
        "trial",
    ),
    "digits of another alphabet": (
        f"{HEAD}set:\n  diffusion.schedule: {{kind: respaced, of: {{kind: cosine, steps: 9}}, rule: '\u0665'}}\n",
        'x.yaml:4: set.diffusion.schedule: rule \'\u0665\' is not "N", "a,b,c", "ddimN" or "trailingN" with whole '
        "numbers",
    ),
    "half a GPU too many": (
        f"{HEAD}resources: {{gpus: 1.5}}\n",
        "x.yaml:3: resources.gpus: must be 0, a share from 0.01 to 1, or a whole number, not 1.5",
    ),
    "a rate with too many zeros": (
        arm("optimizer.lr: 1e300"),
        "x.yaml:5: arms.b.optimizer.lr: must be 1,000 or less, not `1e+300`",
    ),
    "an interval shorter than an image": (
        arm("evaluation.every_kimg: 1e-9"),
        "x.yaml:5: arms.b.evaluation.every_kimg: must be 0.001 or more, not `1e-09`",
    ),
    "axis of nan": (
        f"{HEAD}axes:\n  optimizer.lr: [.nan, .nan]\n",
        "x.yaml:4: axes.optimizer.lr[1]: repeats value 1, .nan: remove one\n"
        "x.yaml:4: axes.optimizer.lr[0]: must be a finite number, not `.nan`\n"
        "2 problems; nothing has been run",
    ),
    "preset is not there": (
        "name: x\nbase: preset.yml\n",
        "x.yaml:2: base: preset.yml does not exist, did you mean preset.yaml?",
    ),
    "misspelt set": (
        f"{HEAD}set:\n  train.kmig: 3\n",
        "x.yaml:4: set.train.kmig: unknown key, did you mean `train.kimg`?",
    ),
    "set makes the base wrong": (
        f"{HEAD}set:\n  train.batch_size: 8192\n",
        "preset.yaml:11: train.kimg: 2.56 is less than one batch of 8192: write 8.192 or more (after what "
        "`set` and -o change)",
    ),
    "an arm makes the base wrong": (
        arm("train.batch_size: 8192"),
        "preset.yaml:11: train.kimg: 2.56 is less than one batch of 8192: write 8.192 or more (in cell `b`)",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a preset in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFSWEEP_HOME", raising=False)
    (tmp_path / "preset.yaml").write_text(PRESET)
    return tmp_path


@pytest.mark.parametrize(("text", "message"), CASES.values(), ids=CASES)
def test_the_message_and_the_exit_code(
    folder: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.yaml").write_text(text)

    assert invoke(["validate", "x.yaml"]) == 2

    printed = capsys.readouterr()
    assert printed.err == message + "\n"
    assert printed.out == ""


def test_the_preset_of_these_cases_is_right(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.yaml").write_text(arm("optimizer.lr: 1e-3"))

    assert invoke(["validate", "x.yaml"]) == 0
    assert "2 cells x 6 seeds = 12 trials" in capsys.readouterr().out


def test_several_errors_are_told_at_once_in_the_order_of_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.yaml").write_text(
        f"{HEAD}seedz: 3\nseeds: -1\narms:\n  a: {{}}\n  b: {{optimizer.lr: -1}}\n"
        "  c: {diffusion.schedule: {kind: cosin}}\ncompare: {metric: eval/fdi, baseline: d}\n"
    )

    assert invoke(["validate", "x.yaml"]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines[:-1]] == [
        ["x.yaml:3", "seedz"],
        ["x.yaml:4", "seeds"],
        ["x.yaml:7", "arms.b.optimizer.lr"],
        ["x.yaml:8", "arms.c.diffusion.schedule.kind"],
        ["x.yaml:9", "compare.baseline"],
        ["x.yaml:9", "compare.metric"],
    ]
    assert lines[-1] == "6 problems; nothing has been run"


def test_an_error_in_the_preset_is_told_once_and_where_it_is(folder: Path) -> None:
    (folder / "preset.yaml").write_text(PRESET.replace("kind: cosine", "kind: cosin"))
    (folder / "x.yaml").write_text(arm("optimizer.lr: 1e-3"))

    with pytest.raises(InputError) as caught:
        Experiment.from_yaml("x.yaml")

    assert str(caught.value) == (
        "preset.yaml:6: diffusion.schedule.kind: unknown kind `cosin`, did you mean `cosine`?"
    )


def test_a_preset_in_another_folder_is_named_by_its_path(folder: Path) -> None:
    (folder / "presets").mkdir()
    (folder / "presets" / "p.yaml").write_text(PRESET.replace("lr: 4e-3", "lr: zero"))
    (folder / "x.yaml").write_text("name: x\nbase: presets/p.yaml\n")

    with pytest.raises(InputError, match=r"^presets/p\.yaml:9: optimizer\.lr: must be a number"):
        Experiment.from_yaml("x.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "preset.yaml: is empty: a preset is a whole trial"),
        ("- 1\n", "preset.yaml:1: must be a mapping `key: value`: a preset is a whole trial"),
        ("a: [1\n", "preset.yaml:1: not valid YAML: a list opened with `[` is not closed"),
    ],
)
def test_a_preset_that_is_no_mapping(folder: Path, content: str, said: str) -> None:
    (folder / "preset.yaml").write_text(content)
    (folder / "x.yaml").write_text(HEAD)

    with pytest.raises(InputError) as caught:
        Experiment.from_yaml("x.yaml")

    assert str(caught.value) == said


def test_a_seed_in_the_preset_is_refused(folder: Path) -> None:
    (folder / "preset.yaml").write_text(PRESET + "seed: 7\n")
    (folder / "x.yaml").write_text(HEAD)

    with pytest.raises(
        InputError, match=r"^preset\.yaml:17: seed: is set by the experiment's `seeds`"
    ):
        Experiment.from_yaml("x.yaml")


def test_an_inline_base_is_told_with_its_path(folder: Path) -> None:
    inline = "".join(f"  {line}\n" for line in PRESET.splitlines())
    (folder / "x.yaml").write_text("name: x\nbase:\n" + inline.replace("width: 32", "widht: 32"))

    with pytest.raises(InputError) as caught:
        Experiment.from_yaml("x.yaml")

    assert (
        str(caught.value)
        == "x.yaml:6: base.model.widht: unknown key of `mlp`, did you mean `width`?"
    )


def test_a_wrong_value_that_every_cell_replaces_is_told_of(folder: Path) -> None:
    inline = "".join(f"  {line}\n" for line in PRESET.splitlines())
    text = "name: x\nbase:\n" + inline.replace("lr: 4e-3", "lr: 1e300")
    assert "1e300" in text
    (folder / "x.yaml").write_text(text + "axes: {optimizer.lr: [1e-3, 2e-3]}\n")

    (told,) = [note for note in Experiment.from_yaml("x.yaml").notes if "optimizer.lr" in note]
    assert "x.yaml:" in told
    assert told.endswith("nothing uses it, every cell has a value of its own")


OPTIONS = {
    "train.kmig=3": "train.kmig: unknown key, did you mean `train.kimg`?",
    "lr=1": "lr: there is no `lr`, did you mean `optimizer.lr`?",
    "trian.kimg=3": "trian.kimg: there is no `trian`, did you mean `train.kimg`?",
    "train.kimg=fast": "train.kimg: must be a number, not `fast`",
    "train.kimg=[1": "train.kimg: not valid YAML: a list opened with `[` is not closed",
    "train.kimg": "write an override as -o path=value, such as -o train.kimg=20",
    "seeds=0": "seeds: must be a count from 1 to 1000, or a list of seeds, not 0",
    "seed=3": "seed: seeds are an experiment's: -o 'seeds=[7]'",
    "optimizer.lr=1e-2": (
        "optimizer.lr: the experiment varies this itself: change it there, with -o "
        "'arms.b.optimizer.lr=...'"
    ),
    "diffusion.schedule={kind: cosin}": (
        "diffusion.schedule.kind: unknown kind `cosin`, did you mean `cosine`?"
    ),
}


def test_an_error_in_an_option_for_an_inline_base_names_the_option(folder: Path) -> None:
    inline = "".join(f"  {line}\n" for line in PRESET.splitlines())
    (folder / "x.yaml").write_text("name: x\nbase:\n" + inline.replace("width: 32", "width: 0"))

    with pytest.raises(InputError) as caught:
        Experiment.from_yaml("x.yaml", ["base.optimizer.lr=fast", "base.optimizer={eps: slow}"])

    assert [str(problem) for problem in caught.value.problems] == [
        "-o base.optimizer.lr=fast: base.optimizer.lr: must be a number, not `fast`",
        "-o base.optimizer={eps: slow}: base.optimizer.eps: must be a number, not `slow`",
        "x.yaml:6: base.model.width: must be 1 or more, not `0`",
    ]


def test_a_long_option_is_cut_in_the_message(folder: Path) -> None:
    (folder / "x.yaml").write_text(HEAD)

    with pytest.raises(InputError, match=r"^-o train\.kimg=9{189}\.\.\.: train\.kimg: is a whole"):
        Experiment.from_yaml("x.yaml", ["train.kimg=" + "9" * 5000])


@pytest.mark.parametrize("target", ["x" * 300, "x" * 300 + ".yaml", "a\0b", "/dev/null", "."])
@pytest.mark.parametrize("verb", ["show", "compare"])
@pytest.mark.usefixtures("folder")
def test_what_is_no_experiment_is_told(
    verb: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([verb, target]) == 2
    assert capsys.readouterr().err.startswith(f"{plain_text(target)}: ")


@pytest.mark.parametrize(("option", "message"), OPTIONS.items(), ids=OPTIONS)
def test_an_error_in_an_option_names_the_option(
    folder: Path, option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.yaml").write_text(arm("optimizer.lr: 1e-3"))

    assert invoke(["validate", "x.yaml", "-o", option]) == 2
    assert capsys.readouterr().err == f"-o {option}: {message}\n"


def test_an_unreadable_data_set_is_told_at_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "preset.yaml").write_text(
        PRESET.replace(
            "data: {kind: gaussians, examples: 512}", "data: {kind: image_folder, path: pictures}"
        ).replace(
            "model:\n  kind: mlp\n  width: 32\n",
            "model: {kind: unet, channels: [8, 16], groups: 4}\n",
        )
    )
    (folder / "x.yaml").write_text(HEAD)

    assert invoke(["validate", "x.yaml"]) == 2
    assert capsys.readouterr().err == (
        f"preset.yaml:1: data.path: {folder}/pictures is not a folder on this machine: write where the "
        "images are\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["run", "plan", "show", "compare", "submit"])
def test_every_verb_refuses_without_a_traceback(folder: Path, verb: str) -> None:
    (folder / "x.yaml").write_text(f"{HEAD}seedz: 3\n")

    done = subprocess.run(
        [sys.executable, "-m", "service", verb, "x.yaml"],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == "x.yaml:3: seedz: unknown key, did you mean `seeds`?\n"
    assert done.stdout == ""


def _environment() -> dict[str, str]:
    import os

    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root)}

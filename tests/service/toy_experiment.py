"""The YAML of a small experiment and of its preset."""

EXPERIMENT = """\
name: toy
base: toy.yaml
arms:
  uniform: {}
  under: {diffusion.timesteps: {kind: p2, gamma: 0.5, k: 1.0}}
seeds: 2
launcher: inproc
compare: {metric: eval/fid, baseline: uniform}
"""
TOY = """\
data: {kind: gaussians, examples: 256}
model: {kind: mlp, width: 16, depth: 1}
ema: {kind: ramp, decay: 0.9}
train: {kimg: 1.28, batch_size: 64}
evaluation:
  evaluations: 2
  features: {kind: pixels}
  full: {images: 64, steps: 4}
  rung: {images: 32, steps: 2}
"""

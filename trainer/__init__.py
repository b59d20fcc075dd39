"""The diffusion-training core: runs alone, without ray or mlflow (`python -m trainer trial.yaml`)."""

CORE_VERSION = "2"
"""Part of every trial's key. Raised whenever a change to the core alters the numbers a trial gives."""

"""How is a trial measured? Generation, feature spaces, metrics, and the protocols that make numbers comparable."""

METRIC_VERSION = "2"
"""Part of every protocol id. Raised whenever a metric's code changes its numbers."""

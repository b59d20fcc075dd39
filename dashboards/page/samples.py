"""Which pictures does the page show? A grid of samples for every trial that has one."""

from __future__ import annotations

from typing import Any

from dashboards.html import data_uri
from dashboards.page.rows import shown
from dashboards.sweep import Sweep
from trainer.report import Status


def rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Rows of cells, columns of seeds; a missing grid says why it is missing."""
    if not sweep.samples:
        return []
    status = sweep.trials.set_index(["cell", "seed"])["status"].to_dict()
    seeds = sorted({seed for _, seed in sweep.samples})
    found = []
    for cell in sweep.cells:
        images = []
        for seed in seeds:
            path = sweep.samples.get((cell, seed))
            uri = data_uri(path) if path is not None and path.is_file() else ""
            why = shown(status.get((cell, seed), Status.WAITING))
            images.append({"seed": seed, "uri": uri, "why": why})
        found.append({"cell": cell, "images": images})
    return found

"""Does generation walk where training looked? A cell's trained range of log-SNR beside its generation grids."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from trainer.diffusion.passport import trained_range
from trainer.diffusion.process import Diffusion
from trainer.evaluation.protocol import Evaluation

A_LITTLE = 0.5
"""log-SNR by which a grid may go beyond what is trained before a sentence is due: a factor 1.6 of SNR."""


class Coverage(NamedTuple):
    """One protocol's grid beside the levels that training visits; (noisiest, cleanest) log-SNR each."""

    protocol: Literal["full", "rung"]
    trained: tuple[float, float]
    grid: tuple[float, float]
    own: bool
    """Whether the grid is the trial's own schedule."""

    @property
    def beyond(self) -> float:
        """Largest distance in log-SNR of the grid from what is trained; 0 if it lies within."""
        noisy, clean = self.trained
        return max(0.0, noisy - self.grid[0], self.grid[1] - clean)


def coverage(diffusion: Diffusion, evaluation: Evaluation) -> list[Coverage]:
    """Of each protocol of a cell."""
    trained = trained_range(diffusion)
    rows = []
    for name in ("full", "rung"):
        generation = getattr(evaluation, name)
        if generation is None:
            continue
        grid = (generation.grid or diffusion.schedule).grid(generation.steps)
        ends = float(grid[0]), float(grid[-1])
        rows.append(Coverage(name, trained, ends, generation.grid is None))
    return rows


def coverage_findings(cells: Mapping[str, tuple[Diffusion, Evaluation]]) -> list[str]:
    """Sentences about cells that are generated on levels they hardly train."""
    lines = []
    for name, (diffusion, evaluation) in cells.items():
        rows = coverage(diffusion, evaluation)
        far = [row for row in rows if row.beyond > A_LITTLE and not row.own]
        if not far:
            continue
        where = " and ".join(f"evaluation.{row.protocol}" for row in far)
        lines.append(
            f"`{name}` trains log-SNR from {span(far[0].trained)} and is generated on a grid from {span(far[0].grid)} "
            f"({where}): its network hardly ever saw what lies beyond, which shifts its numbers against other "
            "schedules'; grid: null is each cell's own"
        )
    return lines


def span(ends: tuple[float, float]) -> str:
    """`9 to -9`: the cleanest, then the noisiest level."""
    noisy, clean = ends
    return f"{clean:.3g} to {noisy:.3g}"


def guidance_findings(name: str, diffusion: Diffusion, evaluation: Evaluation) -> list[str]:
    """Sentences about guidance between levels that a cell's generation never meets."""
    lines = []
    for protocol, generation in evaluation.generations():
        guidance = generation.guidance
        grid = (generation.grid or diffusion.schedule).grid(generation.steps)
        if guidance is None or guidance.scale == 0.0 or any(map(guidance.active, grid)):
            continue
        low, high = guidance.log_snr_min, guidance.log_snr_max
        between = " and ".join(
            words
            for words in (
                low is not None and f"from {low:g} on",
                high is not None and f"up to {high:g}",
            )
            if words
        )
        lines.append(
            f"`{name}` is guided at log-SNR {between} (evaluation.{protocol}.guidance) and generated at "
            f"{span((float(grid[0]), float(grid[-1])))}: no step is guided; write other ends, or leave guidance out"
        )
    return lines

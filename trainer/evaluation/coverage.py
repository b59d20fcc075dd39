"""Does generation walk where training looked? A cell's trained range of log-SNR beside its generation grids."""

from collections.abc import Mapping
from typing import NamedTuple

from trainer.diffusion.passport import trained_range
from trainer.diffusion.process import Diffusion
from trainer.evaluation.generation import Generation
from trainer.evaluation.protocol import Evaluation

A_LITTLE = 0.5
"""log-SNR by which a grid may go beyond what is trained before a sentence is due: a factor 1.6 of SNR."""
STARTS, STOPS = -4.0, 3.0
"""log-SNR above which a grid starts from noise that held some of the data, and below which its last step has to guess
more than a fifth of an image's contrast: a sentence is due."""


class Coverage(NamedTuple):
    """One protocol's grid beside the levels that training visits; (noisiest, cleanest) log-SNR each."""

    protocol: str
    """`full`, `rung`, or the path of a further one."""
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
    for name, generation in evaluation.generations():
        ends = _ends(diffusion, generation)
        rows.append(Coverage(name, trained, ends, generation.grid is None))
    return rows


def _ends(diffusion: Diffusion, generation: Generation) -> tuple[float, float]:
    grid = (generation.grid or diffusion.schedule).grid(generation.steps)
    return float(grid[0]), float(grid[-1])


def coverage_findings(cells: Mapping[str, tuple[Diffusion, Evaluation]]) -> list[str]:
    """Sentences about cells that are generated on levels they hardly train, or on too few of those that there are."""
    lines = []
    for name, (diffusion, evaluation) in cells.items():
        rows = [row for row in coverage(diffusion, evaluation) if not row.own]
        lines += [*_beyond(name, rows), *_short(name, rows)]
    return lines


def _beyond(name: str, rows: list[Coverage]) -> list[str]:
    far = [row for row in rows if row.beyond > A_LITTLE]
    if not far:
        return []
    return [
        f"`{name}` trains log-SNR from {span(far[0].trained)} and is generated on a grid from {span(far[0].grid)} "
        f"({_where(far)}): its network hardly ever saw what lies beyond, which shifts its numbers against other "
        "schedules'; grid: null is each cell's own"
    ]


def _short(name: str, rows: list[Coverage]) -> list[str]:
    lines = []
    if late := [row for row in rows if row.grid[0] > STARTS]:
        lines.append(
            f"`{name}` is generated from log-SNR {_level(late[0].grid[0])} on ({_where(late)}), where images show "
            "through the noise, but starts from noise alone: give the grid a noisier first level (log-SNR -6, or less)"
        )
    if early := [row for row in rows if row.grid[1] < STOPS]:
        lines.append(
            f"`{name}` is generated up to log-SNR {_level(early[0].grid[1])} only ({_where(early)}): its last step "
            "guesses what is still noise there, so its images are blurred; give the grid a cleaner last level "
            "(log-SNR 6, or more)"
        )
    return lines


def _level(log_snr: float) -> str:
    return f"{round(log_snr, 2) + 0.0:.3g}"


def _where(rows: list[Coverage]) -> str:
    return " and ".join(f"evaluation.{row.protocol}" for row in rows)


def span(ends: tuple[float, float]) -> str:
    """`9 to -9`: the cleanest, then the noisiest level."""
    noisy, clean = ends
    return f"{_level(clean)} to {_level(noisy)}"


def guidance_findings(name: str, diffusion: Diffusion, evaluation: Evaluation) -> list[str]:
    """Sentences about guidance between levels that a cell's generation never meets."""
    lines = []
    for protocol, generation in evaluation.generations():
        guidance = generation.guidance
        if guidance is None or guidance.scale == 0.0:
            continue
        low, high = guidance.log_snr_min, guidance.log_snr_max
        noisy, clean = _ends(diffusion, generation)  # some solvers look between the levels
        if (high is None or high >= noisy) and (low is None or low <= clean):
            continue
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
            f"{span((noisy, clean))}: no step is guided; write other ends, or leave guidance out"
        )
    return lines

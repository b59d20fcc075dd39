"""Which figures of an experiment are there, by name? Those of the report, for a notebook or a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from service.errors import ServiceError
from trainer.errors import suggestion

if TYPE_CHECKING:
    from service.experiment import Experiment
    from service.results import Judged

Draw = Callable[[], Any]


def available(experiment: Experiment, judged: Judged) -> list[str]:
    """Names of the figures for which there is data."""
    return list(_figures(experiment, judged))


def figure(experiment: Experiment, judged: Judged, name: str) -> Any:
    """One of them as a plotly figure; ServiceError where there is none of that name.

    Raises IncomparableError where its cells were measured under different protocols.
    """
    drawn = _figures(experiment, judged)
    if name not in drawn:
        why = f" ({judged.refusal})" if judged.refusal else ""
        raise ServiceError(
            f"{experiment.name} has no figure `{name}`{suggestion(name, list(drawn))}{why}",
            f"there are {', '.join(drawn)}; others come with the trials they are drawn from",
        )
    return drawn[name]()


def _figures(experiment: Experiment, judged: Judged) -> dict[str, Draw]:
    """Name to what draws it."""
    from dashboards.charts.differences import differences
    from dashboards.charts.style import colours
    from dashboards.page.figures import available as drawable
    from dashboards.page.figures import available_passports
    from dashboards.page.tuning import available as searched
    from service.results import passports

    sweep, verdicts = judged.sweep, judged.verdicts
    found = drawable(sweep, verdicts)
    if verdicts is not None:
        finals = [c.final for c in verdicts.comparisons if c.final is not None]
        paired = [final for final in finals if final.seeds]
        rows = [(row, row.final) for row in verdicts.rows if row.final and row.final.seeds]
        shade, cells = colours(sweep.cells), [final.cell for final in paired]
        if paired:
            found["paired_differences"] = lambda: differences(paired, cells, shade)
        if rows:
            names = [f"{row.row.name} \N{MINUS SIGN} {row.against.name}" for row, _ in rows]
            measures = [final for _, final in rows]
            found["row_differences"] = lambda: differences(measures, names, shade)
    return found | available_passports(lambda: passports(experiment)) | searched(sweep)

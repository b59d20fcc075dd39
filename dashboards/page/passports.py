"""What does each cell minimize, before any training? Objective passports as a page of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.charts.style import colours
from dashboards.html import environment_of
from dashboards.page.figures import carried, of_passports


def render_passports(
    cards: Mapping[str, Mapping[str, Any]],
    distances: Mapping[str, Sequence[float]],
    findings: Sequence[str] = (),
    note: str = "",
) -> str:
    """Objective passports as one self-contained HTML text; `note` says which cells it leaves out.

    `cards` is {cell: trainer.diffusion.passport.Passport.to_dict()}; `distances` has for every cell
    its total-variation distance to each cell, in the same order.
    """
    drawn = of_passports(cards)
    rows = [
        {
            "cell": cell,
            "initial": f"{card['initial_snr']:.3g}",
            "terminal": f"{card['terminal_snr']:.3g}",
            "sample_size": f"{card['effective_sample_size']:.0%}",
            "distances": [f"{value:.3f}" for value in distances[cell]],
        }
        for cell, card in cards.items()
    ]
    template = environment_of(colours(list(cards))).get_template("passports.html")
    return template.render(
        cells=list(cards),
        rows=rows,
        findings=findings,
        note=note,
        chart_names=list(drawn),
        charts=carried(drawn),
    )

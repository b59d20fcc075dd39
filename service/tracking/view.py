"""Which charts does MLflow show at the first look? A saved view, kept as a tag of the experiment.

MLflow's own first look is the sweep's run alone, with an empty section for each metric of the trials. This view has the
cells, one colour each: their verdicts, their curves with intervals, their final numbers.
"""

from __future__ import annotations

import json
from typing import Any

from dashboards.verdict.evidence import rung_twin
from service.tracking.cells import HIGH, LOW, SO_FAR
from service.tracking.notes import VIEW

TAG = f"mlflow.sharedViewState.{VIEW}"
"""Where MLflow's page looks for saved views."""
_CELLS = "tags.`diffsweep.kind` = 'cell'"
_MOST = 50
"""Cells in a chart."""


def saved_view(metric: str) -> str:
    """The tag's value, for an experiment that is decided by this metric."""
    curve, mean = rung_twin(metric), f"{SO_FAR}{metric}"
    sections = {
        "verdict": [_bar("verdict/difference"), _bar("verdict/p")],
        "curve": [_line(curve, curve, f"{curve}.{LOW}", f"{curve}.{HIGH}")],
        "final": [_bar(metric)],
        "so_far": [_line(mean, mean, f"{mean}.{LOW}", f"{mean}.{HIGH}")],
    }
    titles = {
        "verdict": "Difference to the baseline",
        "curve": "Mean and 95 % interval",
        "final": "Final metric",
        "so_far": "Mean over the first seeds, by their number",
    }
    state = {
        "searchFilter": _CELLS,
        "orderByKey": "metrics.`verdict/difference`",  # by time it would fold cells below the sweep
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [
            {
                "uuid": uuid,
                "name": titles[uuid],
                "display": True,
                "isReordered": True,
            }
            for uuid in sections
        ],
        "compareRunCharts": [
            {**chart, "metricSectionId": uuid, "uuid": f"{uuid}-{number}"}
            for uuid, charts in sections.items()
            for number, chart in enumerate(charts)
        ],
    }
    view = {"name": "Cells", "createdAt": 0, "updatedAt": 0}
    return json.dumps({**view, "state": json.dumps(state)})


def _bar(metric: str) -> dict[str, Any]:
    return {
        "type": "BAR",
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": _MOST,
        "metricKey": metric,
        "dataAccessKey": metric,
    }


def _line(metric: str, *selected: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": _MOST,
        "metricKey": metric,
        "selectedMetricKeys": selected,
        "scaleType": "linear",
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "selectedYAxisMetricKeys": [],
        "selectedYAxisExpressions": [],
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "useGlobalXaxisKey": False,
        "range": {},
    }

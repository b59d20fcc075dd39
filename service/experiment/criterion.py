"""By which number are cells judged, and against which cell?"""

# Field types are read at run time by pydantic: no `from __future__ import annotations` here.

from typing import Annotated

from pydantic import Field

from trainer.spec import Spec


class Compare(Spec):
    """Which number decides, against which cell, and how much is worth talking about."""

    metric: str = "eval/fid"
    """The deciding number: eval/... is the reported protocol, rung/... the cheap one."""
    baseline: str | None = None
    """The cell that all others are compared with; null: the arm `{}`, else the first cell."""
    margin: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    """Differences below this share of the baseline's value count as the same."""
    own_margin: Annotated[float | None, Field(ge=1e-9, le=1e6)] = None
    """The same for a metric that may be near zero or negative (KID, precision, recall), in its own unit. Without
    it such a metric is never called the SAME."""

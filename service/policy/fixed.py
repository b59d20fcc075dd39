"""Everything to the end: the policy of an experiment whose size is decided beforehand."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from service.policy.base import Design, PlanPolicy, Standing, Work


class Fixed(PlanPolicy):
    """All cells with all seeds that are open to them, each to the end of its budget.

    Seeds are in the outer loop: every cell gets its first seeds first, so that pairs end together.
    """

    foreseen: ClassVar[bool] = True
    kind: Literal["fixed"] = "fixed"

    def wanted(
        self, design: Design, standings: Mapping[tuple[str, int], Standing]
    ) -> Sequence[Work]:
        """Every trial that is open, whatever the records say of it."""
        return [
            Work(cell, seed, trial.total_images())
            for seed in design.seeds
            for cell, trial in design.cells.items()
            if seed in design.seeds_of(cell)
        ]


WholePolicies = Fixed
"""The members of this file: a new policy is one class above and one name here."""

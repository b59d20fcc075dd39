"""Which plan policies are there? The union of them; each says what should run, in order of priority."""

from service.policy.base import PlanPolicy, Standing, Sweep, Work
from service.policy.fixed import Fixed

AnyPolicy = Fixed
"""The members of the family. A new policy is one file beside this one and one name here, as
`Annotated[Fixed | Halving, Field(discriminator="kind")]`."""

__all__ = ["AnyPolicy", "Fixed", "PlanPolicy", "Standing", "Sweep", "Work"]

"""Which plan policies are there? The union of them; each says what should run, in order of priority."""

from service.policy.base import Design, PlanPolicy, Standing, Work
from service.policy.fixed import Fixed, WholePolicies
from trainer.spec import Family

AnyPolicy = Family[WholePolicies]
"""The members of the family, listed at the bottom of the files that hold them."""

__all__ = ["AnyPolicy", "Design", "Fixed", "PlanPolicy", "Standing", "Work"]

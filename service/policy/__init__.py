"""Which plan policies are there? The union of them; each says what should run, in order of priority."""

from service.policy.base import Design, PlanPolicy, Standing, Work
from service.policy.fixed import Fixed, WholePolicies
from service.policy.halving import Halving, HalvingPolicies
from service.policy.median import Median, MedianPolicies
from service.policy.racing import Racing, RacingPolicies
from trainer.spec import Family

AnyPolicy = Family[WholePolicies | HalvingPolicies | RacingPolicies | MedianPolicies]
"""The members of the family, listed at the bottom of the files that hold them."""

__all__ = [
    "AnyPolicy",
    "Design",
    "Fixed",
    "Halving",
    "Median",
    "PlanPolicy",
    "Racing",
    "Standing",
    "Work",
]

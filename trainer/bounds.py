"""Which numbers can a spec mean? Ends that follow from what a field is, shared by all fields that are the same.

They refuse the slip of a keyboard and what float32 cannot hold, never a setting that somebody may want to try.
"""

from typing import Annotated

from pydantic import Field

MANY = 1_000_000
MOST_EVALUATIONS = 10_000
MIN_SCALE, MAX_SCALE = 1e-6, 1e6

Count = Annotated[int, Field(ge=1, le=MANY)]
"""A number of things that are made or walked one by one: more is a slip of the keyboard that would fill the memory."""
Images = Annotated[int, Field(ge=2, le=MANY)]
"""A number of images whose spread is measured."""
Evaluations = Annotated[int, Field(ge=1, le=MOST_EVALUATIONS)]
"""How often one training is measured."""
Draws = Annotated[int, Field(ge=1, le=1000)]
"""A number of sets of noises."""
Size = Annotated[int, Field(ge=1, le=65_536)]
"""A width of a network, a number of channels or heads, a side of an image in pixels."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What begins a stream of random numbers."""
NoiseSeed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""The same of generation noise, whose further draws are named by numbers of either sign."""

Level = Annotated[float, Field(ge=-80.0, le=80.0)]
"""A log-SNR, or a place among them, such as a mean: exp(80) is nearly the largest number of float32."""
Scale = Annotated[float, Field(ge=MIN_SCALE, le=MAX_SCALE)]
"""A positive factor or width, a noise level."""
Amount = Annotated[float, Field(ge=0.0, le=1e6)]
"""The same, or nothing at all."""
Exponent = Annotated[float, Field(ge=0.0, le=1000.0)]
"""A power; rho = 100 is the largest in a paper."""
NoiseRate = Annotated[float, Field(ge=1e-12, le=1000.0)]
"""A rate of noise, per step or per unit of time."""
Gain = Annotated[float, Field(ge=-1000.0, le=1000.0)]
"""A factor of either sign."""

Rate = Annotated[float, Field(ge=1e-12, le=1000.0)]
"""A learning rate."""
Beta = Annotated[float, Field(ge=0.0, le=0.99999)]
"""How much of a moment one update keeps: of more, 100,000 updates leave nothing, and float32 cannot tell the rest."""
Dropout = Annotated[float, Field(ge=0.0, le=0.95)]
"""Share of activations that a training step leaves out: of more, hardly a gradient is left."""
Clip = Annotated[float, Field(ge=1e-9, le=1e12)]
"""The largest norm of a gradient; a very large one measures it and clips nothing."""
Epsilon = Annotated[float, Field(ge=1e-30, le=1.0)]
"""What keeps a quotient finite."""
Kimg = Annotated[float, Field(ge=0.001, le=1e9)]
"""An interval in thousands of images, of one image or more."""
Wait = Annotated[float, Field(ge=0.0, le=1e9)]
"""The same, or no interval at all."""
Anything = Annotated[float, Field(ge=-1e12, le=1e12)]
"""An end of a range whose place in the spec has ends of its own."""
AnyWhole = Annotated[int, Field(ge=-(10**12), le=10**12)]
"""The same for whole numbers."""

"""What does a configuration really optimize? Its objective passport, from the spec alone, in milliseconds.

In a mean square only the product density x weight over log-SNR decides the expected loss; how the product is split
between looking often and counting much changes its variance, not its minimum. Other objectives have further terms.
"""

from trainer.diffusion.passport.card import SAME_OBJECTIVE as SAME_OBJECTIVE
from trainer.diffusion.passport.card import Passport as Passport
from trainer.diffusion.passport.card import passport as passport
from trainer.diffusion.passport.card import trained_range as trained_range
from trainer.diffusion.passport.card import vlb_distortion as vlb_distortion
from trainer.diffusion.passport.expected import Expected as Expected
from trainer.diffusion.passport.expected import distances as distances
from trainer.diffusion.passport.expected import loss_distance as loss_distance
from trainer.diffusion.passport.expected import total_variation as total_variation
from trainer.diffusion.passport.finding import findings as findings
from trainer.diffusion.passport.twin import equal_objective_twin as equal_objective_twin
from trainer.diffusion.passport.twin import twin_refusal as twin_refusal
from trainer.diffusion.passport.untrainable import untrainable as untrainable

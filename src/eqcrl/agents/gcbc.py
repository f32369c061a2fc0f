"""Goal-conditioned behavioral cloning."""

import equinox as eqx

from eqcrl.agents.cloning import AbstractCloning, Rate, Rounding
from eqcrl.agents.sparse import RandomActions
from eqcrl.nn.base import AbstractArch


class GCBC(AbstractCloning):
    """max E log pi(a_t | s_t, g), g as the configured relabeller draws it: contrastive RL's pairs without its critic.

    Source: Lynch et al. 2019 (arXiv 1903.01973); as a baseline on the same pairs Eysenbach et al. 2022
    (arXiv 2206.07568), section 5.
    """

    actor_arch: AbstractArch
    random_actions: RandomActions = 0.2
    actor_rate: Rate = 3e-4
    precision: Rounding = eqx.field(default="fp32", static=True)

"""Goal-conditioned supervised learning."""

import equinox as eqx

from eqcrl.agents.base import AbstractRelabels
from eqcrl.agents.cloning import AbstractCloning, Rate, Rounding
from eqcrl.agents.sparse import RandomActions
from eqcrl.nn.base import AbstractArch
from eqcrl.relabel import AbstractRelabeller, Uniform


class GCSL(AbstractCloning, AbstractRelabels):
    """Iterated hindsight imitation: max E log pi(a_t | s_t, g = g(s_{t+d})), d uniform over the rest of the episode.

    The policy collects, towards commanded goals, what it learns from; a relabeller that is configured is not used. It
    is not told how many steps are left, which the source tries both ways.
    Source: Ghosh et al. 2019 (arXiv 1912.06088), algorithm 1.
    """

    actor_arch: AbstractArch
    random_actions: RandomActions = 0.2
    actor_rate: Rate = 3e-4
    precision: Rounding = eqx.field(default="fp32", static=True)

    def relabeller(self) -> AbstractRelabeller:
        """Uniform over the future."""
        return Uniform()

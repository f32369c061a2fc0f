"""Which goals the actor is trained on, given the relabelled goals of the batch."""

import abc
from typing import Annotated

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl import spread
from eqcrl.settings import Meta


class AbstractActorGoals(eqx.Module):
    """Pairs each state of the batch with the goal that the actor shall pursue from it.

    Rows of a batch are drawn independently, so the goals of a neighboring row are a random draw and no further
    randomness is needed. The result is made of rows of `goal`: their psi is known already.
    """

    @abc.abstractmethod
    def rows(self, batch_size: int) -> tuple[int, int]:
        """(shift, count): the first `count` rows take the goal of the row `shift` further on, the rest their own."""

    def __call__(self, goal: Float[Array, "batch goal"]) -> Float[Array, "batch goal"]:
        """The goal for each row of the batch."""
        shift, count = self.rows(goal.shape[0])

        def exchanged(goal: Array) -> Array:
            return jnp.concatenate([jnp.roll(goal, -shift, axis=0)[:count], goal[count:]])

        return spread.split(spread.everywhere(exchanged, goal))


class Future(AbstractActorGoals):
    """The goal reached later from that very state, as in the paper's released code."""

    def rows(self, batch_size: int) -> tuple[int, int]:
        """None is exchanged."""
        return 0, 0


class Random(AbstractActorGoals):
    """A goal reached in some other episode."""

    def rows(self, batch_size: int) -> tuple[int, int]:
        """All are exchanged."""
        return 1, batch_size


class Mixed(AbstractActorGoals):
    """A share of random goals, the rest future ones.

    Without random goals the actor never trains on a goal behind a wall and pushes straight at it.
    Source: Eysenbach et al. 2022 (arXiv 2206.07568), where half of the actor's goals are random.
    """

    fraction: Annotated[float, Meta(ge=0.0, le=1.0, description="share of rows with a goal of another row")] = (
        eqx.field(default=0.5, static=True)
    )

    def rows(self, batch_size: int) -> tuple[int, int]:
        """round(fraction * batch) are exchanged."""
        return 1, round(self.fraction * batch_size)

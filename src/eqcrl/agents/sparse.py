"""What agents with a reward have in common: the sparse reward at the success radius, goals in hindsight, targets."""

from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from eqcrl import spread
from eqcrl.envs.base import AbstractEnv
from eqcrl.settings import Meta
from eqcrl.types import Batch, Key, Outcome

RewardScale = Annotated[
    Literal["-1/0", "0/1"],
    Meta(description="reward of a step that does not end within the success radius of the goal / of one that does"),
]
Discount = Annotated[float, Meta(gt=0.0, lt=1.0, description="discount of rewards")]
Relabelled = Annotated[
    float,
    Meta(
        ge=0.0,
        le=1.0,
        description="share of the batch whose goal is one achieved later (HER; drawn by the relabeller), "
        "not the one commanded",
    ),
]
RandomActions = Annotated[
    float, Meta(ge=0.0, le=1.0, description="share of exploring steps with an action drawn uniformly")
]
Tau = Annotated[float, Meta(gt=0.0, le=1.0, description="share of the networks that goes into their targets per step")]
TAU = 0.02
"""Haarnoja et al. and Fujimoto et al. take 0.005, Andrychowicz et al. 0.05. With 0.005 a sparse reward has hardly
traveled through a maze after 10,000 gradient steps (docs/decisions.md)."""


class SparseReward(eqx.Module):
    """r(s', g) = high if the goal that s' achieves lies within the success radius of g, else low.

    Reaching the goal ends nothing: staying there pays. Time that runs out ends nothing either, so values look
    beyond it. A termination (a fall) is worth what never reaching the goal again is worth, low / (1 - gamma): with
    rewards of -1 and 0 the usual value 0 would make falling as good as arriving.
    Source: Andrychowicz et al. 2017 (arXiv 1707.01495), section 3; time limits: Pardo et al. 2018 (arXiv 1712.00378).
    """

    env: AbstractEnv
    scale: str = eqx.field(static=True)
    gamma: float

    def bounds(self) -> tuple[float, float]:
        """Least and greatest reward."""
        return (-1.0, 0.0) if self.scale == "-1/0" else (0.0, 1.0)

    def reached(
        self, achieved_goal: Float[Array, "batch goal"], goal: Float[Array, "batch goal"]
    ) -> Bool[Array, "batch"]:
        """Whether each achieved goal lies within the success radius."""
        return jax.vmap(self.env.goal_distance)(achieved_goal, goal) < self.env.success_radius

    def target(
        self, outcome: Outcome, goal: Float[Array, "batch goal"], next_value: Float[Array, "batch"]
    ) -> tuple[Float[Array, "batch"], Float[Array, ""]]:
        """r + gamma V(s', g), with the worst value after a termination; and the share of rows that reached the goal."""
        low, high = self.bounds()
        reached = self.reached(outcome.next_achieved_goal, goal)
        after = jnp.where(outcome.terminated, low / (1.0 - self.gamma), next_value)
        return jnp.where(reached, high, low) + self.gamma * after, jnp.mean(reached.astype(float))

    def possible(self, value: Float[Array, "batch"]) -> Float[Array, "batch"]:
        """Clipped to what discounted sums of rewards can be: [low, high] / (1 - gamma)."""
        low, high = self.bounds()
        return jnp.clip(value, low / (1.0 - self.gamma), high / (1.0 - self.gamma))


def outcome_of(batch: Batch) -> Outcome:
    """The outcome of a batch. Raises: ValueError for a batch of pairs alone."""
    if batch.outcome is None:
        raise ValueError("this agent learns from transitions; the batch holds pairs alone (Batch.outcome is None)")
    return batch.outcome


def hindsight(batch: Batch, share: float) -> Float[Array, "batch goal"]:
    """The goal of each row: one achieved later for that share of the rows, for the rest the one commanded.

    Rows are drawn independently, so which of them are relabelled needs no random numbers.
    """
    count = round(share * batch.goal.shape[0])

    def mixed(achieved: Array, commanded: Array) -> Array:
        return jnp.concatenate([achieved[:count], commanded[count:]])

    return spread.split(spread.everywhere(mixed, batch.goal, outcome_of(batch).desired_goal))


def squared_error(
    values: Float[Array, "2 batch"], target: Float[Array, "batch"], known: Bool[Array, "batch"]
) -> Float[Array, ""]:
    """sum_k mean_i (Q_k - y)^2 over the rows whose next observation is known."""
    weight = known.astype(values.dtype)
    return jnp.sum(weight * (values - jax.lax.stop_gradient(target)) ** 2) / jnp.maximum(jnp.sum(weight), 1.0)


def sometimes_random(
    action: Float[Array, "batch action"], share: float | Float[Array, ""], *, key: Key
) -> Float[Array, "batch action"]:
    """Each row with that probability exchanged for one uniform in [-1, 1]."""
    which_key, action_key = jax.random.split(key)
    anywhere = jax.random.uniform(action_key, action.shape, minval=-1.0, maxval=1.0)
    return jnp.where(jax.random.uniform(which_key, (action.shape[0], 1)) < share, anywhere, action)


def towards(targets: Any, networks: Any, tau: float) -> Any:
    """(1 - tau) targets + tau networks, leaf by leaf."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), targets, networks)


def leaf_count(network: Any) -> int:
    """Parameters; the network may hold shapes only."""
    return sum(leaf.size for leaf in jax.tree.leaves(network))

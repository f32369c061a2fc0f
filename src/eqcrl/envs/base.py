"""The contract of an environment, and the records that its users see."""

import abc
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.types import EnvSpec, Key

State = Any
"""The physics state of one environment: any pytree of arrays. The commanded goal is not part of it."""


@dataclass(frozen=True)
class TopView:
    """What a picture of the plane needs: fixed boxes and bounds, in the units of `achieved_goal[:2]`.

    The first coordinate points down and the second to the right, so that a layout looks as it is written.
    """

    walls: Float[np.ndarray, "walls 4"]
    """One row a box: first and second coordinate of its upper left corner, then of its lower right."""
    low: tuple[float, float]
    high: tuple[float, float]


class AbstractEnv(eqx.Module):
    """A goal-conditioned environment without reward; every method is pure and acts on one environment.

    eqcrl batches it with `jax.vmap`, cuts episodes at `episode_length` and resets it (`eqcrl.envs.wrap`).
    Actions lie in [-1, 1]^action_size. `eqcrl check env NAME` tests the contract.
    """

    action_size: eqx.AbstractVar[int]
    episode_length: eqx.AbstractVar[int]
    """Steps after which an episode is truncated."""
    success_radius: eqx.AbstractVar[float]
    """A goal counts as reached while `goal_distance` is less than this, in the unit of the goal."""

    @abc.abstractmethod
    def reset(self, key: Key) -> tuple[State, Float[Array, "goal"]]:
        """Draw a start state and the desired goal, jointly."""

    @abc.abstractmethod
    def step(self, state: State, action: Float[Array, "action"], key: Key) -> State:
        """The state one control step later; `key` is for stochastic dynamics."""

    @abc.abstractmethod
    def terminated(self, state: State) -> Bool[Array, ""]:
        """Whether the episode ends in this state (a fall, say). Running out of time is not termination."""

    @abc.abstractmethod
    def observation(self, state: State) -> Float[Array, "observation"]:
        """What the agent sees of the state; the desired goal is not part of it."""

    @abc.abstractmethod
    def achieved_goal(self, state: State) -> Float[Array, "goal"]:
        """The goal that this state reaches."""

    @abc.abstractmethod
    def goal_distance(
        self, achieved_goal: Float[Array, "goal"], desired_goal: Float[Array, "goal"]
    ) -> Float[Array, ""]:
        """How far an achieved goal is from a desired one; 0 for the same."""

    @abc.abstractmethod
    def goal_reachable(self, state: State, desired_goal: Float[Array, "goal"]) -> Bool[Array, ""]:
        """Whether the goal can be reached from the state by construction (same connected region, in range)."""

    @abc.abstractmethod
    def evaluation(self) -> "AbstractEnv":
        """The environment to evaluate on when none is named: another layout or start, or `self`."""

    @abc.abstractmethod
    def top_view(self) -> TopView | None:
        """The plane to draw trajectories on, or None where the task does not live in a plane."""


def spec_of(env: AbstractEnv) -> EnvSpec:
    """Sizes of observation, action and goal, found by abstract evaluation (nothing is computed)."""

    def sizes(key: Key) -> tuple[Array, Array]:
        state, _ = env.reset(key)
        return env.observation(state), env.achieved_goal(state)

    observation, goal = jax.eval_shape(sizes, jax.random.key(0))
    return EnvSpec(observation.shape[-1], env.action_size, goal.shape[-1])

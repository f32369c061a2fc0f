"""The contract's base: sizes by abstract evaluation, and no environment with a part missing."""

import jax
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float

from eqcrl.envs.base import AbstractEnv, TopView, spec_of
from eqcrl.envs.point import PointMaze, PointState
from eqcrl.types import EnvSpec, Key


def test_sizes_of_the_point_maze() -> None:
    assert spec_of(PointMaze()) == EnvSpec(observation_size=4, action_size=2, goal_size=2)


class Counting(AbstractEnv):
    """Observation of 5, goal of 3, action of 7; its reset must never be run to learn that."""

    action_size: int = 7
    episode_length: int = 9
    success_radius: float = 0.1

    def reset(self, key: Key) -> tuple[Float[Array, "5"], Float[Array, "3"]]:
        def fail(_: np.ndarray) -> None:
            raise AssertionError("reset was computed")

        state = jax.random.normal(key, (5,))
        jax.debug.callback(fail, state)
        return state, state[:3]

    def step(self, state: Float[Array, "5"], action: Float[Array, "7"], key: Key) -> Float[Array, "5"]:
        return state + action[:5]

    def terminated(self, state: Float[Array, "5"]) -> Bool[Array, ""]:
        return state[0] > 1.0

    def observation(self, state: Float[Array, "5"]) -> Float[Array, "5"]:
        return state

    def achieved_goal(self, state: Float[Array, "5"]) -> Float[Array, "3"]:
        return state[:3]

    def goal_distance(self, achieved_goal: Float[Array, "3"], desired_goal: Array) -> Float[Array, ""]:
        return abs(achieved_goal - desired_goal).max()

    def goal_reachable(self, state: Float[Array, "5"], desired_goal: Float[Array, "3"]) -> Bool[Array, ""]:
        return abs(desired_goal).max() < 100.0

    def evaluation(self) -> AbstractEnv:
        return self

    def top_view(self) -> TopView | None:
        return None


def test_sizes_are_found_without_computing_anything() -> None:
    assert spec_of(Counting()) == EnvSpec(observation_size=5, action_size=7, goal_size=3)


CONTRACT = (
    "reset",
    "step",
    "terminated",
    "observation",
    "achieved_goal",
    "goal_distance",
    "goal_reachable",
    "evaluation",
    "top_view",
)


FIELDS = {"action_size": int, "episode_length": int, "success_radius": float}


@pytest.mark.parametrize("missing", [*CONTRACT, *FIELDS])
def test_an_environment_with_a_part_missing_cannot_be_made(missing: str) -> None:
    body = {name: vars(Counting)[name] for name in (*CONTRACT, *FIELDS) if name != missing}
    body["__annotations__"] = {name: kind for name, kind in FIELDS.items() if name != missing}
    incomplete = type(AbstractEnv)("Incomplete", (AbstractEnv,), body)
    with pytest.raises(TypeError, match=missing):
        incomplete()


def test_an_environment_with_nothing_missing_can_be_made_that_way() -> None:
    body = {name: vars(Counting)[name] for name in (*CONTRACT, *FIELDS)} | {"__annotations__": FIELDS}
    assert spec_of(type(AbstractEnv)("Complete", (AbstractEnv,), body)()).action_size == 7


def test_the_goal_is_not_part_of_the_physics_state() -> None:
    """The same state under two goals: nothing that the environment computes can tell them apart."""
    env = PointMaze()
    state, goal = env.reset(jax.random.key(0))
    assert isinstance(state, PointState)
    leaves = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state)])
    assert not np.isin(np.asarray(goal), leaves).any()
    assert not np.isin(np.asarray(goal), np.asarray(env.observation(state))).any()

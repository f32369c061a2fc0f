"""Evaluation: whole episodes from fresh starts to fresh goals, scored until the first termination. Pure."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from eqcrl import spread
from eqcrl.agents.base import AbstractAgent, AgentState, chunk_of
from eqcrl.envs.base import AbstractEnv, State
from eqcrl.envs.wrap import not_a_number, select
from eqcrl.rollout import walk
from eqcrl.types import Key, Metrics

Record = Callable[[State], Float[Array, "numbers"]]
"""Picks from a state what should be kept of every moment."""


class Episodes(eqx.Module):
    """What happened, step by step; row t of `achieved_goal` is the state after t steps, frozen at termination
    (so it has time + 1 rows)."""

    achieved_goal: Float[Array, "moments episodes goal"]
    desired_goal: Float[Array, "episodes goal"]
    at_goal: Bool[Array, "time episodes"]
    """Within the success radius after this step, no termination before."""
    alive: Bool[Array, "time episodes"]
    """The step was taken: no termination before."""
    distance: Float[Array, "time episodes"]
    """Distance to the desired goal after the step."""
    record: Float[Array, "moments episodes numbers"] | None = None
    """What the caller asked to keep of each state, such as the pose of a robot."""

    def success(self) -> Bool[Array, "episodes"]:
        """Episodes that were at the goal at least once."""
        return jnp.any(self.at_goal, axis=0)


def run_episodes(
    env: AbstractEnv,
    agent: AbstractAgent,
    agent_state: AgentState,
    num_episodes: int,
    *,
    key: Key,
    deterministic: bool = True,
    record: Record | None = None,
) -> Episodes:
    """`num_episodes` episodes of `env.episode_length` steps, side by side, without reset.

    `record` picks from each state, the start included, what `Episodes.record` keeps. An episode whose physics diverges
    (NaN) ends in the state before.
    """
    reset_key, steps_key = jax.random.split(key)
    physics, goal = spread.by_rows(jax.vmap(env.reset), jax.random.split(reset_key, num_episodes))
    ended = spread.by_rows(jax.vmap(env.terminated), physics)

    def kept(physics: State) -> Array | None:
        return None if record is None else jax.vmap(record)(physics)

    def decide(carry: tuple[State, Bool[Array, "episodes"]], key: Key) -> Float[Array, "episodes actions"]:
        observation = spread.by_rows(jax.vmap(env.observation), carry[0])
        if deterministic:
            return agent.act_deterministic(agent_state, observation, goal)
        return agent.act(agent_state, observation, goal, key=key)

    def advance(
        carry: tuple[State, Bool[Array, "episodes"]], action: Float[Array, "episodes action"], key: Key
    ) -> tuple[tuple[State, Bool[Array, "episodes"]], tuple[Array, Array, Array, Array, Array | None]]:
        physics, ended = carry
        stepped = spread.by_rows(jax.vmap(env.step), physics, action, jax.random.split(key, num_episodes))
        ended = ended | not_a_number(stepped)
        physics = select(ended, physics, stepped)
        achieved = spread.by_rows(jax.vmap(env.achieved_goal), physics)
        distance = spread.by_rows(jax.vmap(env.goal_distance), achieved, goal)
        at_goal = (distance < env.success_radius) & ~ended
        return (physics, ended | spread.by_rows(jax.vmap(env.terminated), physics)), (
            achieved,
            at_goal,
            ~ended,
            distance,
            kept(physics),
        )

    start = spread.by_rows(jax.vmap(env.achieved_goal), physics)
    first = kept(physics)
    keys = jax.random.split(steps_key, env.episode_length)
    _, (achieved, at_goal, alive, distance, later) = walk(decide, advance, (physics, ended), keys, chunk_of(agent))
    whole = None if first is None or later is None else jnp.concatenate([first[None], later])
    return Episodes(jnp.concatenate([start[None], achieved]), goal, at_goal, alive, distance, whole)


def score(episodes: Episodes) -> Metrics:
    """Means over episodes of the paper's measures (section 4).

    time_at_goal: steps within the success radius before the first termination, in steps per episode.
    success_any, success_end: share of episodes at the goal at least once, and after their last step.
    distance_end: distance to the goal after the last step, in the goal's unit. episode_length: steps taken.
    """
    length = jnp.sum(episodes.alive, axis=0)
    end = jnp.maximum(length - 1, 0)[None]
    return {
        "time_at_goal": jnp.mean(jnp.sum(episodes.at_goal, axis=0).astype(float)),
        "success_any": jnp.mean(episodes.success().astype(float)),
        "success_end": jnp.mean(jnp.take_along_axis(episodes.at_goal, end, axis=0).astype(float)),
        "distance_end": jnp.mean(jnp.take_along_axis(episodes.distance, end, axis=0)),
        "episode_length": jnp.mean(length.astype(float)),
    }

"""Collecting: the policy acts in every environment at once, by one scan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
from jaxtyping import Key as Keys

from eqcrl.agents.base import AbstractAgent, AgentState, chunk_of
from eqcrl.envs.wrap import BatchedEnv, BatchState
from eqcrl.types import Key, Transition

Decide = Callable[[Any, Key], Float[Array, "batch actions"]]
Advance = Callable[[Any, Float[Array, "batch action"], Key], tuple[Any, Any]]


def rollout(
    env: BatchedEnv, agent: AbstractAgent, agent_state: AgentState, env_state: BatchState, length: int, *, key: Key
) -> tuple[BatchState, PyTree]:
    """`length` steps with sampled actions towards the commanded goals.

    Returns the state after them and a `Transition` with leaves (length, envs, ...).
    """

    def decide(state: BatchState, key: Key) -> Float[Array, "envs actions"]:
        return agent.act(agent_state, env.observation(state), state.desired_goal, key=key)

    def advance(state: BatchState, action: Float[Array, "envs action"], key: Key) -> tuple[BatchState, Transition]:
        observation = env.observation(state)
        after, result = env.step(state, action, key)
        return after, Transition(
            observation,
            action,
            result.next_achieved_goal,
            state.episode,
            state.desired_goal,
            result.terminated,
        )

    return walk(decide, advance, env_state, jax.random.split(key, length), chunk_of(agent))


def walk(decide: Decide, advance: Advance, state: Any, keys: Keys[Array, "time"], chunk: int) -> tuple[Any, PyTree]:
    """A step for each key: `decide` on `chunk` actions, `advance` by one after another, decide again.

    Returns the last state and what `advance` reported, stacked over time. A chunk that the last key cuts short is
    decided on anew in the next walk; one that outlasts an episode goes on in the next one.
    """

    def one_step(state: Any, key: Key) -> tuple[Any, Any]:
        act_key, step_key = jax.random.split(key)
        return advance(state, decide(state, act_key), step_key)

    def several(state: Any, keys: Keys[Array, "steps"]) -> tuple[Any, Any]:
        act_key, step_keys = jax.random.fold_in(keys[0], chunk), keys
        planned = decide(state, act_key)
        steps = planned.reshape(planned.shape[0], chunk, -1).swapaxes(0, 1)[: len(keys)]
        return jax.lax.scan(lambda state, given: advance(state, *given), state, (steps, step_keys))

    if chunk == 1:
        return jax.lax.scan(one_step, state, keys)
    whole, rest = divmod(len(keys), chunk)
    parts = []
    if whole:
        state, seen = jax.lax.scan(several, state, keys[: whole * chunk].reshape(whole, chunk))
        parts.append(jax.tree.map(lambda leaf: leaf.reshape(whole * chunk, *leaf.shape[2:]), seen))
    if rest:
        state, seen = several(state, keys[whole * chunk :])
        parts.append(seen)
    return state, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

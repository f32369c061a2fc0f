"""Baseline for `eqcrl.rollout`: a Python loop around one compiled step, as with environments on the host."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from eqcrl.agents.base import AbstractAgent, AgentState
from eqcrl.envs.wrap import BatchedEnv, BatchState
from eqcrl.types import Key, Transition

Step = Callable[[AgentState, BatchState, Key], tuple[BatchState, Transition]]


def compiled_step(env: BatchedEnv, agent: AbstractAgent) -> Step:
    """Act and step once in every environment."""

    def one_step(agent_state: AgentState, state: BatchState, key: Key) -> tuple[BatchState, Transition]:
        act_key, step_key = jax.random.split(key)
        observation = env.observation(state)
        action = agent.act(agent_state, observation, state.desired_goal, key=act_key)
        after, result = env.step(state, action, step_key)
        return after, Transition(
            observation,
            action,
            result.next_achieved_goal,
            state.episode,
            state.desired_goal,
            result.terminated,
        )

    return jax.jit(one_step)


def rollout(step: Step, agent_state: AgentState, state: BatchState, length: int, *, key: Key) -> tuple[Any, Any]:
    """`length` steps; the same result as `eqcrl.rollout.rollout` with the same key."""
    steps = []
    for step_key in jax.random.split(key, length):
        state, transition = step(agent_state, state, step_key)
        steps.append(transition)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)

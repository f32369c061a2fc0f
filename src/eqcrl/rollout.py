"""Collecting: the policy acts in every environment at once, by one scan."""

import jax
from jaxtyping import PyTree

from eqcrl.agents.base import AbstractAgent, AgentState
from eqcrl.envs.wrap import BatchedEnv, BatchState
from eqcrl.types import Key, Transition


def rollout(
    env: BatchedEnv, agent: AbstractAgent, agent_state: AgentState, env_state: BatchState, length: int, *, key: Key
) -> tuple[BatchState, PyTree]:
    """`length` steps with sampled actions towards the commanded goals.

    Returns the state after them and a `Transition` with leaves (length, envs, ...).
    """

    def one_step(state: BatchState, key: Key) -> tuple[BatchState, Transition]:
        act_key, step_key = jax.random.split(key)
        observation = env.observation(state)
        action = agent.act(agent_state, observation, state.desired_goal, key=act_key)
        after, result = env.step(state, action, step_key)
        return after, Transition(observation, action, result.next_achieved_goal, state.episode)

    return jax.lax.scan(one_step, env_state, jax.random.split(key, length))

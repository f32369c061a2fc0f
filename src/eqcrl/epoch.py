"""The paper's algorithm: collect, store, then learn from relabelled pairs. Pure; jitted by the trainer."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from eqcrl import replay as rb
from eqcrl import spread
from eqcrl.agents.base import AbstractAgent, AgentState, chunk_of
from eqcrl.envs.base import spec_of
from eqcrl.envs.wrap import BatchedEnv, BatchState
from eqcrl.health import judged, summary
from eqcrl.relabel import AbstractRelabeller
from eqcrl.rollout import rollout
from eqcrl.types import Batch, Key, Metrics


class Algorithm(eqx.Module):
    """The parts and sizes that define training; nothing in it changes while training."""

    env: BatchedEnv
    agent: AbstractAgent
    relabeller: AbstractRelabeller
    capacity: int = eqx.field(static=True)
    unroll_length: int = eqx.field(static=True)
    updates: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    skip_bad_updates: bool = eqx.field(static=True, default=False)
    """Leave out gradient steps after which a loss or a network is not finite; each step then looks at all of them."""

    def sample(self, replay: rb.Replay, *, key: Key) -> Batch:
        """A batch for one gradient step."""
        return spread.split(rb.sample(replay, self.relabeller, self.batch_size, key=key, chunk=chunk_of(self.agent)))


class TrainState(eqx.Module):
    """Everything that training needs to continue: one pytree of arrays."""

    agent: AgentState
    replay: rb.Replay
    env: BatchState
    key: Key
    unrolls: Int[Array, ""]
    """Unrolls collected so far, those of the prefill included."""


def init(algorithm: Algorithm, *, key: Key) -> TrainState:
    """Fresh networks, an empty replay, every environment at a start."""
    agent_key, env_key, key = jax.random.split(key, 3)
    spec = spec_of(algorithm.env.env)
    return TrainState(
        algorithm.agent.init(spec, key=agent_key),
        rb.empty(spec, algorithm.capacity, algorithm.env.num_envs),
        algorithm.env.reset(env_key),
        key,
        jnp.zeros((), jnp.int32),
    )


def collect(algorithm: Algorithm, state: TrainState) -> TrainState:
    """One unroll into the replay, without learning."""
    key, rollout_key = jax.random.split(state.key)
    env, steps = rollout(
        algorithm.env, algorithm.agent, state.agent, state.env, algorithm.unroll_length, key=rollout_key
    )
    return TrainState(state.agent, rb.insert(state.replay, steps), env, key, state.unrolls + 1)


def epoch(algorithm: Algorithm, state: TrainState) -> tuple[TrainState, Metrics]:
    """One unroll, then `updates` gradient steps on fresh batches; metrics are means over those steps, and their health.

    With them `physics_resets`: how often, since the run began, an environment was reset because its physics diverged.
    """
    state = collect(algorithm, state)
    key, updates_key = jax.random.split(state.key)
    skip = algorithm.skip_bad_updates

    def update(agent: AgentState, key: Key) -> tuple[AgentState, Any]:
        sample_key, update_key = jax.random.split(key)
        batch = algorithm.sample(state.replay, key=sample_key)
        after, metrics = algorithm.agent.update(agent, batch, key=update_key)
        return judged(agent, after, metrics, skip=skip)

    agent, (metrics, good) = jax.lax.scan(update, state.agent, jax.random.split(updates_key, algorithm.updates))
    means = summary(metrics, good, agent, skip=skip) | {"physics_resets": state.env.broken.astype(float)}
    return TrainState(agent, state.replay, state.env, key, state.unrolls), means

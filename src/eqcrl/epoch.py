"""The paper's algorithm: collect, store, then learn from relabelled pairs. Pure; jitted by the trainer."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqcrl import replay as rb
from eqcrl import spread
from eqcrl.agents.base import AbstractAgent, AgentState, chunk_of
from eqcrl.envs.base import spec_of
from eqcrl.envs.wrap import BatchedEnv, BatchState
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
    """One unroll, then `updates` gradient steps on fresh batches; metrics are means over those steps.

    With them `physics_resets`: how often, since the run began, an environment was reset because its physics diverged;
    `skipped_updates` where such are left out; and what `health` says.
    """
    state = collect(algorithm, state)
    key, updates_key = jax.random.split(state.key)

    def update(agent: AgentState, key: Key) -> tuple[AgentState, tuple[Metrics, Bool[Array, ""]]]:
        sample_key, update_key = jax.random.split(key)
        batch = algorithm.sample(state.replay, key=sample_key)
        after, metrics = algorithm.agent.update(agent, batch, key=update_key)
        good = jnp.all(finite_leaves(metrics))
        if algorithm.skip_bad_updates:
            good &= jnp.all(finite_leaves(after))
            after = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, agent)
        return after, (metrics, good)

    agent, (metrics, good) = jax.lax.scan(update, state.agent, jax.random.split(updates_key, algorithm.updates))
    if algorithm.skip_bad_updates:
        # Not a number if none was good: then there is nothing to go on with.
        means: Any = jax.tree.map(lambda each: jnp.mean(each, where=good), metrics)
        means["skipped_updates"] = jnp.sum(~good).astype(float)
        good = jnp.full_like(good, jnp.any(good))
    else:
        means = jax.tree.map(jnp.mean, metrics)
    means["physics_resets"] = state.env.broken.astype(float)
    return TrainState(agent, state.replay, state.env, key, state.unrolls), means | health(good, agent)


HEALTH = ("first_bad_update", "first_bad_leaf")


def health(good: Bool[Array, "updates"], agent: AgentState) -> Metrics:
    """What to say of an epoch that went wrong, as numbers, so that nobody need wait for it while it goes right.

    first_bad_update: the first gradient step of the epoch, from 1 on, with a loss that is not finite. first_bad_leaf:
    the first of `leaf_names`, from 1 on, that is not finite after the epoch. Both are 0 if there is none.
    """

    def first(bad: Bool[Array, "places"]) -> Float[Array, ""]:
        return jnp.where(jnp.any(bad), jnp.argmax(bad) + 1, 0).astype(float)

    return {"first_bad_update": first(~good), "first_bad_leaf": first(~finite_leaves(agent))}


def finite_leaves(tree: Any) -> Bool[Array, "leaves"]:
    """Whether each leaf of floats is finite everywhere, in the order of the tree."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if _is_float(leaf)])


def leaf_names(tree: Any) -> list[str]:
    """What `finite_leaves` looks at, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path).lstrip(".") for path, leaf in leaves if _is_float(leaf)]


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)

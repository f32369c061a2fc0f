"""The replay: a ring over (time, environment) on the device, written in place, sampled without a search.

For each transition the ring keeps the number of its episode, and for each environment a table from episode
number to the time of its newest transition in the ring. The future at hand from time t is then a subtraction,
last[episode[t]] - t, with no scan over time, no matrix over (time, time), and nothing to mend when the ring wraps.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from eqcrl import spread
from eqcrl.relabel import AbstractRelabeller
from eqcrl.types import Batch, EnvSpec, Key, Outcome, Transition


class Replay(eqx.Module):
    """The last `capacity` transitions of each environment; `inserted` counts the steps ever written."""

    data: Transition
    """Leaves of shape (capacity, envs, ...); time t lives in row t mod capacity."""
    last: Int[Array, "capacity envs"]
    """Row `episode mod capacity`: time of the newest transition of that episode."""
    inserted: Int[Array, ""]

    def capacity(self) -> int:
        """Steps kept of each environment."""
        return self.last.shape[0]

    def num_envs(self) -> int:
        """Environments that are recorded."""
        return self.last.shape[1]

    def size(self) -> Int[Array, ""]:
        """Steps of each environment in the ring now."""
        return jnp.minimum(self.inserted, self.capacity())


def empty(spec: EnvSpec, capacity: int, num_envs: int) -> Replay:
    """A replay that holds nothing yet."""
    shape = (capacity, num_envs)
    data = Transition(
        jnp.zeros((*shape, spec.observation_size)),
        jnp.zeros((*shape, spec.action_size)),
        jnp.zeros((*shape, spec.goal_size)),
        jnp.zeros(shape, jnp.int32),
        jnp.zeros((*shape, spec.goal_size)),
        jnp.zeros(shape, bool),
    )
    return Replay(data, jnp.zeros(shape, jnp.int32), jnp.zeros((), jnp.int32))


def insert(replay: Replay, steps: Transition) -> Replay:
    """Write an unroll, leaves (time, envs, ...), over the oldest rows; in place where `replay` is donated.

    Raises: ValueError if the unroll is longer than the capacity.
    """
    length = steps.episode.shape[0]
    if length > replay.capacity():
        raise ValueError(f"an unroll of {length} steps does not fit into a replay of {replay.capacity()}")
    time = replay.inserted + jnp.arange(length, dtype=jnp.int32)
    rows = time % replay.capacity()
    data = jax.tree.map(lambda ring, new: ring.at[rows].set(new, unique_indices=True), replay.data, steps)

    # Episodes live in the ring at once have consecutive numbers, at most `capacity` of them, so each has a row of
    # its own in the table; a number that comes back later has later times, hence the maximum.
    def noted(last: Array, episode: Array) -> Array:
        table = (episode % replay.capacity(), jnp.arange(episode.shape[1])[None, :])
        return last.at[table].max(jnp.broadcast_to(time[:, None], episode.shape))

    last = spread.by_columns(noted, replay.last, steps.episode)
    return Replay(data, last, replay.inserted + length)


def rows(replay: Replay, start: Int[Array, ""], count: int) -> Transition:
    """A copy of `count` rows from the one of time `start` on, leaves (count, envs, ...)."""
    index = (start + jnp.arange(count, dtype=jnp.int32)) % replay.capacity()
    return jax.tree.map(lambda ring: ring[index], replay.data)


def horizon(replay: Replay, row: Int[Array, "batch"], env: Int[Array, "batch"]) -> Int[Array, "batch"]:
    """Future states at hand from the transitions in these rows: those of its episode that are in the ring, >= 1."""
    newest = replay.inserted - 1
    time = newest - (newest - row) % replay.capacity()
    episode = spread.at(replay.data.episode, row, env)
    return spread.at(replay.last, episode % replay.capacity(), env) - time + 1


def sample(replay: Replay, relabeller: AbstractRelabeller, batch_size: int, *, key: Key, chunk: int = 1) -> Batch:
    """Positive pairs: (s_t, a_t) uniform over the ring, and the goal achieved `offset` steps later.

    The offset never leaves the episode nor crosses the write position: offset d reads `next_achieved_goal` of
    time t + d - 1, and that transition is of the same episode and not older than t. With them comes the `Outcome` of
    the step; what of it an agent does not use costs nothing once compiled.

    With `chunk` > 1, `action` is a_t..a_{t + chunk - 1} and the offset counts from the end of the chunk, so that the
    goal lies at or behind it; what of a chunk lies beyond the episode at hand is zero.
    """
    time_key, env_key, offset_key = jax.random.split(key, 3)
    age = jax.random.randint(time_key, (batch_size,), 0, replay.size())
    row = (replay.inserted - 1 - age) % replay.capacity()
    env = jax.random.randint(env_key, (batch_size,), 0, replay.num_envs())
    left = horizon(replay, row, env)
    # Steps before the end of the chunk, as far as the episode goes.
    inside = jnp.minimum(chunk - 1, left - 1)
    offset = inside + relabeller.offsets(left - inside, key=offset_key)
    future = (row + offset - 1) % replay.capacity()
    after = (row + 1) % replay.capacity()
    terminated = spread.batch_at(replay.data.terminated, row, env)
    outcome = Outcome(
        next_observation=spread.batch_at(replay.data.observation, after, env),
        # After a termination nothing is looked up, so nothing is missing.
        known=(left > 1) | terminated,
        next_achieved_goal=spread.batch_at(replay.data.next_achieved_goal, row, env),
        terminated=terminated,
        desired_goal=spread.batch_at(replay.data.desired_goal, row, env),
    )
    return Batch(
        spread.batch_at(replay.data.observation, row, env),
        _actions(replay, row, env, left, chunk),
        spread.batch_at(replay.data.next_achieved_goal, future, env),
        outcome,
    )


def _actions(
    replay: Replay, row: Int[Array, "batch"], env: Int[Array, "batch"], left: Int[Array, "batch"], chunk: int
) -> Float[Array, "batch actions"]:
    """The action in the row and the `chunk - 1` after it, side by side."""
    if chunk == 1:
        return spread.batch_at(replay.data.action, row, env)
    steps = jnp.arange(chunk, dtype=jnp.int32)
    rows = (row[:, None] + steps) % replay.capacity()
    actions = spread.batch_at(replay.data.action, rows, env[:, None])
    inside = steps < left[:, None]
    return jnp.where(inside[:, :, None], actions, 0.0).reshape(row.shape[0], -1)

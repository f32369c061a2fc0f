"""Baseline for `eqcrl.relabel`: whole windows of time, and for each a matrix of probabilities over (time, time).

A window of T steps costs T^2 floats several times over (probabilities, logarithms, Gumbel noise).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from eqcrl.replay import Replay
from eqcrl.types import Batch, Key


def probabilities(episode: Int[Array, "*batch time"], gamma: float) -> Float[Array, "*batch time time"]:
    """P(j | i) = gamma^(j - i + 1) / normalizer for j >= i in the same episode and window, else 0."""
    time = jnp.arange(episode.shape[-1])
    offset = time[None, :] - time[:, None] + 1
    allowed = (offset >= 1) & (episode[..., :, None] == episode[..., None, :])
    weight = jnp.where(allowed, gamma ** offset.astype(jnp.float32), 0.0)
    return weight / jnp.sum(weight, axis=-1, keepdims=True)


def sample(replay: Replay, windows: int, length: int, gamma: float, *, key: Key) -> Batch:
    """windows * length positive pairs in random order: every step of each window with a future of that window.

    The windows start uniformly over what the replay holds, so steps near its two ends come up less often than
    others, and futures end with the window: a narrower law than `eqcrl.replay.sample` has.
    """
    env_key, start_key, goal_key, order_key = jax.random.split(key, 4)
    env = jax.random.randint(env_key, (windows, 1), 0, replay.num_envs())
    start = jax.random.randint(start_key, (windows, 1), 0, replay.size() - length + 1)
    oldest = replay.inserted - replay.size()
    row = (oldest + start + jnp.arange(length)) % replay.capacity()
    future = jax.random.categorical(goal_key, jnp.log(probabilities(replay.data.episode[row, env], gamma)), axis=-1)
    pairs = Batch(
        replay.data.observation[row, env],
        replay.data.action[row, env],
        replay.data.next_achieved_goal[jnp.take_along_axis(row, future, axis=1), env],
    )
    order = jax.random.permutation(order_key, windows * length)
    return jax.tree.map(lambda leaf: leaf.reshape(windows * length, -1)[order], pairs)

"""What the tests of several agents share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqcrl.envs.point import PointMaze
from eqcrl.types import Batch, EnvSpec, Outcome

SPEC = EnvSpec(4, 2, 2)
ENV = PointMaze("open")


def make_batch(rows: int, seed: int = 0, **exchanged: Any) -> Batch:
    """Transitions of a point maze's sizes; every other goal lies where the step led."""
    rng = np.random.default_rng(seed)

    def normal(size: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=(rows, size)), jnp.float32)

    achieved = 3.0 * normal(2)
    near = jnp.where(jnp.arange(rows)[:, None] % 2 == 0, achieved + 0.1, achieved + 4.0)
    outcome = {
        "next_observation": normal(4),
        "known": jnp.arange(rows) % 5 != 4,
        "next_achieved_goal": achieved,
        "terminated": jnp.arange(rows) % 7 == 6,
        "desired_goal": near[::-1],
    }
    return Batch(normal(4), jnp.tanh(normal(2)), near, Outcome(**(outcome | exchanged)))

"""A planar arm of two links, 0.1 m and 0.11 m, and where its tip is."""

from functools import lru_cache
from importlib import resources

import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.physics.model import Model

UPPER, LOWER = 0.1, 0.11  # m; the second up to the middle of the tip
HEIGHT = 0.01  # m, of the plane that the arm moves in
SUBSTEPS = 4  # of 0.01 s


@lru_cache(maxsize=1)
def reacher_model() -> Model:
    """Two motors of 25 N m on joints with armature 1 kg m^2 and damping 1 N m s; nothing touches anything."""
    text = resources.files("eqcrl.robots").joinpath("assets/reacher.xml").read_text(encoding="utf-8")
    return Model(text, SUBSTEPS)


def tip_position(qpos: Float[Array, "2"]) -> Float[Array, "3"]:
    """Where the tip is (m): upper (cos q1, sin q1) + lower (cos(q1 + q2), sin(q1 + q2))."""
    first, second = qpos[0], qpos[0] + qpos[1]
    x = UPPER * jnp.cos(first) + LOWER * jnp.cos(second)
    y = UPPER * jnp.sin(first) + LOWER * jnp.sin(second)
    return jnp.stack([x, y, jnp.full_like(x, HEIGHT)])


def tip_velocity(qpos: Float[Array, "2"], qvel: Float[Array, "2"]) -> Float[Array, "3"]:
    """How fast the tip moves (m/s): the time derivative of `tip_position`."""
    first, second = qpos[0], qpos[0] + qpos[1]
    turn, turn_both = qvel[0], qvel[0] + qvel[1]
    x = -UPPER * jnp.sin(first) * turn - LOWER * jnp.sin(second) * turn_both
    y = UPPER * jnp.cos(first) * turn + LOWER * jnp.cos(second) * turn_both
    return jnp.stack([x, y, jnp.zeros_like(x)])

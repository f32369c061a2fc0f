"""The ant: its model with or without a maze around it, how it starts, and what is read from its state.

Positions are x, y, z, quaternion w, x, y, z, then hip and ankle of legs 1 to 4 (15); velocities are linear (world),
angular (body), then the joints' rates (14). Motors are ordered legs 4, 1, 2, 3, hip before ankle.

Density 60 and gear 150: the paper's ant has unit mass and unit inertia in each of its nine links, whatever its
density, in a spring engine of its own. Under MuJoCo, with the density of 5 that its file states, random actions throw
it into the air: every episode ends within 300 steps, half of them within 26. At density 60 random actions end as many
episodes (16 %) as in the paper (14 %), under the paper's torques of 150 N m.
"""

from functools import lru_cache
from importlib import resources

import jax
import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Bool, Float

from eqcrl.envs.mazes import Maze
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.world import add_floor, add_maze
from eqcrl.types import Key

SUBSTEPS = 5
POSE = (0.0, 0.0, 0.55, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0)
POSITIONS, VELOCITIES, MOTORS = 15, 14, 8
NOISE = 0.1
LOW, HIGH = 0.2, 1.0  # m, of the torso's center

# The deepest 8 contacts and the 4 nearest pairs of each kind of shapes hold the ant off the walls under MJX,
# and cost the same in any maze.
MAX_CONTACT_POINTS, MAX_GEOM_PAIRS = 8, 4


def ant_spec() -> mujoco.MjSpec:
    """The body alone, to be edited."""
    return mujoco.MjSpec.from_string((resources.files("eqcrl.robots") / "assets" / "ant.xml").read_text("utf-8"))


@lru_cache(maxsize=64)
def ant_model(maze: Maze | None = None, cell_size: float = 4.0, *, merged: bool = False) -> Model:
    """The ant on an open floor, or between the walls of a maze."""
    spec = ant_spec()
    add_floor(spec)
    if maze is None:
        return Model(spec.to_xml(), SUBSTEPS)
    add_maze(spec, maze, cell_size, merged=merged)
    return Model(spec.to_xml(), SUBSTEPS, max_contact_points=MAX_CONTACT_POINTS, max_geom_pairs=MAX_GEOM_PAIRS)


def ant_start(
    xy: Float[Array, "2"], key: Key, height: float = POSE[2]
) -> tuple[Float[Array, "15"], Float[Array, "14"]]:
    """Standing at `xy`: positions + U(-0.1, 0.1), the quaternion then normalized, and velocities 0.1 N(0, 1).

    The paper leaves the quaternion as it is; both engines would normalize it at the first step.
    """
    q_key, v_key = jax.random.split(key)
    pose = jnp.array(POSE).at[:2].set(xy).at[2].set(height)
    qpos = pose + jax.random.uniform(q_key, (POSITIONS,), minval=-NOISE, maxval=NOISE)
    qpos = qpos.at[3:7].divide(jnp.linalg.norm(qpos[3:7]))
    return qpos, NOISE * jax.random.normal(v_key, (VELOCITIES,))


def ant_fell(state: PhysicsState) -> Bool[Array, ""]:
    """Whether the torso's center is below 0.2 m or above 1 m; also where the physics diverged (NaN)."""
    height = state.qpos[2]
    return ~((height >= LOW) & (height <= HIGH))


def ant_reading(state: PhysicsState) -> Float[Array, "29"]:
    """Positions and velocities of the ant, whatever else moves in the model after it."""
    return jnp.concatenate([state.qpos[:POSITIONS], state.qvel[:VELOCITIES]])

"""The humanoid: 11 links, 17 hinges, 42.1 kg, and what an observation tells of the motion of its links.

MuJoCo's rigid bodies fall faster than the paper's spring physics, whose links all had unit inertia and whose hinges
an angular damping of 30 N m s/rad. With the Gym values random actions last 0.3 s here and 1.2 s there. So `damped`
hinges keep that damping (10 in the arms) and the paper's gears, which makes it 1.0 s; masses and shape are Gym's.
"""

from functools import lru_cache
from importlib import resources
from typing import Literal

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from eqcrl.envs.mazes import Maze
from eqcrl.physics.base import Readouts
from eqcrl.physics.model import Model
from eqcrl.robots.world import add_floor, add_maze

Hinges = Literal["damped", "gym"]

LINKS = 11
HEIGHT = 1.4  # m, of the torso in the default pose
TORQUE = 0.4  # of the gear, at full action
TARGET_MASS, TARGET_INERTIA = 1.0, 0.1  # kg, kg m^2: a ball of radius 0.5 m
READOUTS = ("cinert", "cvel", "qfrc_actuator")
MAX_CONTACT_POINTS, MAX_GEOM_PAIRS = 16, 8
# With the 8 iterations of C MuJoCo a batch in MJX waits for its slowest robot: a third of the speed on a CPU. There
# jaxlib 0.10 has also been seen to stop for good in a long scan around several iterations.
MJX_SOLVER = (1, 4)

GYM_GEARS = {
    "abdomen": 100.0,
    "hip_x": 100.0,
    "hip_z": 100.0,
    "hip_y": 300.0,
    "knee": 200.0,
    "shoulder": 25.0,
    "elbow": 25.0,
}
GYM_DAMPING = {"abdomen": 5.0, "hip": 5.0, "knee": 1.0, "shoulder": 1.0, "elbow": 1.0}


@lru_cache(maxsize=32)
def humanoid_model(
    hinges: Hinges,
    substeps: int,
    maze: Maze | None = None,
    cell_size: float = 2.0,
    *,
    merged: bool = True,
    center: bool = False,
) -> Model:
    """The humanoid on the open floor, or in a maze whose walls stop all 17 of its geoms.

    `center`: a task reads where the center of mass is (`subtree_com`) beside the motion around it.
    """
    readouts = (*READOUTS, "subtree_com") if center else READOUTS
    text = resources.files("eqcrl.robots").joinpath("assets/humanoid.xml").read_text(encoding="utf-8")
    spec = mujoco.MjSpec.from_string(text)
    if hinges == "gym":
        _as_in_gym(spec)
    add_floor(spec)
    if maze is None:
        return Model(spec.to_xml(), substeps, readouts, MAX_CONTACT_POINTS, mjx_solver=MJX_SOLVER)
    add_maze(spec, maze, cell_size, merged=merged)
    return Model(spec.to_xml(), substeps, readouts, MAX_CONTACT_POINTS, MAX_GEOM_PAIRS, MJX_SOLVER)


def _as_in_gym(spec: mujoco.MjSpec) -> None:
    for actuator in spec.actuators:
        actuator.gear[0] = _of_joint(GYM_GEARS, actuator.name)
    for joint in spec.joints:
        if int(joint.type) == int(mujoco.mjtJoint.mjJNT_HINGE):
            joint.damping[0] = _of_joint(GYM_DAMPING, joint.name)


def _of_joint(table: dict[str, float], name: str) -> float:
    return next(value for part, value in table.items() if part in name)


@lru_cache(maxsize=32)
def default_pose(model: Model) -> tuple[np.ndarray, np.ndarray, Readouts]:
    """Positions, velocities and readouts of every start, at x = y = 0: upright, all hinges at 0, at rest."""
    compiled = model.compiled()
    pose, rest = np.array(compiled.qpos0, np.float32), np.zeros(compiled.nv, np.float32)
    return pose, rest, model.readouts_at(pose, rest)


def link_inertia(cinert: Float[Array, "bodies 10"]) -> Float[Array, "links 10"]:
    """For each link the full inertia in world axes about the center of mass of all links, row by row, and its mass.

    I_i = R_i J_i R_i^T + m_i (|d_i|^2 1 - d_i d_i^T), d_i = x_i - c (kg m^2; kg). MuJoCo keeps the same six numbers
    (xx, yy, zz, xy, xz, yz), then m_i d_i and m_i.
    """
    return jnp.stack([cinert[1:, k] for k in (0, 3, 4, 3, 1, 5, 4, 5, 2, 9)], axis=-1)


def link_velocity(cinert: Float[Array, "bodies 10"], cvel: Float[Array, "bodies 6"]) -> Float[Array, "links 6"]:
    """For each link the share m_i v_i / M of its center of mass in the velocity of the whole, and its angular velocity.

    v_i = v_c + w_i x d_i (m/s; rad/s in world axes): MuJoCo gives w_i, and the velocity v_c of the link's material
    at the center of mass of the whole.
    """
    mass = cinert[1:, 9:]
    angular, at_center = cvel[1:, :3], cvel[1:, 3:]
    velocity = at_center + jnp.cross(angular, cinert[1:, 6:9] / mass)
    return jnp.concatenate([mass * velocity / jnp.sum(mass), angular], axis=-1)


def with_target(
    cinert: Float[Array, "bodies 10"],
    cvel: Float[Array, "bodies 6"],
    center: Float[Array, "3"],
    target: Float[Array, "3"],
) -> tuple[Float[Array, "bodies+1 10"], Float[Array, "bodies+1 6"]]:
    """The same two fields with the paper's target as a 12th link: a resting sphere of 1 kg and 0.1 kg m^2.

    It moves the center of mass that everything refers to: c' = (M c + target) / (M + 1).
    """
    mass = cinert[:, 9:]
    total = jnp.sum(mass[1:])
    shift = (target - center) / (total + TARGET_MASS)  # c' - c
    offset = cinert[:, 6:9] / jnp.where(mass > 0, mass, 1.0)
    moved = cinert + _point_inertia(mass, offset - shift) - _point_inertia(mass, offset)
    # A row of the world, which has no mass, stays zero.
    own = jnp.array([TARGET_INERTIA, TARGET_INERTIA, TARGET_INERTIA, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, TARGET_MASS])
    apart = target - center - shift
    row = own + _point_inertia(jnp.full((1, 1), TARGET_MASS), apart[None])
    velocity = cvel[:, 3:] + jnp.cross(cvel[:, :3], shift)
    seen = jnp.concatenate([cvel[:, :3], velocity], axis=-1)
    return jnp.concatenate([moved, row]), jnp.concatenate([seen, jnp.zeros((1, 6))])


def _point_inertia(mass: Float[Array, "links 1"], offset: Float[Array, "links 3"]) -> Float[Array, "links 10"]:
    """Rows of `cinert` for point masses, without the mass itself."""
    x, y, z = offset[:, :1], offset[:, 1:2], offset[:, 2:]
    tensor = [y * y + z * z, x * x + z * z, x * x + y * y, -x * y, -x * z, -y * z, x, y, z, jnp.zeros_like(x)]
    return mass * jnp.concatenate(tensor, axis=-1)

"""The arm of seven joints and what stands around it: a gripper, a cube, bins on the table."""

from functools import lru_cache
from importlib import resources
from typing import Literal, get_args

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from eqcrl.errors import ConfigError, did_you_mean
from eqcrl.physics.base import Readouts
from eqcrl.physics.model import Model

Gains = Literal["matched", "paper"]
SUBSTEPS = 25  # of 0.002 s
JOINTS = 7
START = (1.571, 0.742, 0.0, -1.571, 0.0, 3.054, 1.449)  # rad
FINGERS_START = 0.04  # m
CUBE_HALF = 0.03  # m; also the height of its middle when it lies on the table
CUBE_MASS = 0.216  # kg
DROP_HEIGHT = 0.07  # m, where the middle of the cube starts
WALL_HALF_HEIGHT, WALL_HALF_WIDTH = 0.033, 0.005  # m, of the bins

# Which joints an action moves, and the angles (rad) that -1 and 1 stand for; the other joints are held.
DRIVEN = (0, 1, 3, 5)
LOWEST = (0.3491, 0.0, -3.0718, 2.3562)
HIGHEST = (2.7925, 1.48353, -0.0698, 3.7525)
HELD = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.4487)

# The paper's gains of joints 3 to 7 are smaller than their stiffness: they settle at this share of the command.
PAPER_GAINS = {"joint3": 2000.0, "joint4": 2000.0, "joint5": 1000.0, "joint6": 1000.0, "joint7": 1000.0}

Bin = tuple[float, float, float]
"""Middle (x, y) and half of the outer edge of a square bin, in m."""


def joint_targets(action: Float[Array, "4"]) -> Float[Array, "7"]:
    """Commanded angles (rad): joints 1, 2, 4, 6 from [-1, 1] over their ranges, joints 3 and 5 at 0, 7 at 1.4487."""
    low, high = jnp.asarray(LOWEST), jnp.asarray(HIGHEST)
    return jnp.asarray(HELD).at[jnp.asarray(DRIVEN)].set(low + (action + 1) / 2 * (high - low))


def finger_targets(action: Float[Array, ""]) -> Float[Array, "2"]:
    """Commands of both fingers: 0 (closed) above 0, else 255 (open, 0.08 m each)."""
    return jnp.full(2, jnp.where(action > 0, 0.0, 255.0))


def bin_walls(where: Bin) -> Float[np.ndarray, "4 4"]:
    """Center (x, y) and half edges (x, y) of the walls of a bin, 1 cm thick."""
    x, y, outer = where
    middle, long, short = outer - WALL_HALF_WIDTH, outer, outer - 2 * WALL_HALF_WIDTH
    return np.array(
        [
            [x, y - middle, long, WALL_HALF_WIDTH],
            [x, y + middle, long, WALL_HALF_WIDTH],
            [x - middle, y, WALL_HALF_WIDTH, short],
            [x + middle, y, WALL_HALF_WIDTH, short],
        ]
    )


def _spec(gains: Gains) -> mujoco.MjSpec:
    if gains not in get_args(Gains):
        raise ConfigError(f"gains = {gains!r} do not exist.", mend=did_you_mean(gains, get_args(Gains)))
    text = resources.files("eqcrl.robots").joinpath("assets/arm.xml").read_text(encoding="utf-8")
    spec = mujoco.MjSpec.from_string(text)
    if gains == "paper":
        for name, gain in PAPER_GAINS.items():
            spec.actuator(name).gainprm[0] = gain
    return spec


@lru_cache(maxsize=4)
def arm_model(gains: Gains) -> Model:
    """The arm without fingers: qpos is 7 angles; sensors: position and velocity of link 7's origin (3, 3)."""
    spec = _spec(gains)
    for name in ("left_finger", "right_finger"):
        spec.delete(spec.actuator(name))
        spec.delete(spec.sensor(name.replace("finger", "tip")))
    spec.delete(spec.equality("fingers"))
    for name in ("left_finger", "right_finger"):
        spec.delete(spec.body(name))
    spec.compile()
    return Model(spec.to_xml(), SUBSTEPS, ("sensordata",))


@lru_cache(maxsize=16)
def cube_model(gains: Gains, bins: tuple[Bin, ...] = ()) -> Model:
    """The arm with its gripper and a cube of 6 cm: qpos is 7 angles, 2 fingers, 7 of the cube.

    Sensors: position and velocity of link 7's origin (3, 3), left and right tip (3, 3).
    """
    spec = _spec(gains)
    cube = spec.worldbody.add_body(name="cube", pos=[0, 0.6, DROP_HEIGHT])
    cube.add_freejoint(name="cube")
    cube.add_geom(
        name="cube", type=mujoco.mjtGeom.mjGEOM_BOX, size=[CUBE_HALF] * 3, mass=CUBE_MASS, contype=2, conaffinity=1,
        rgba=[0.85, 0.3, 0.2, 1],
    )  # fmt: skip
    for number, where in enumerate(bins):
        color = [0.35, 0.5, 0.7, 1] if number == 0 else [0.4, 0.62, 0.4, 1]
        for row, (x, y, half_x, half_y) in enumerate(bin_walls(where)):
            spec.worldbody.add_geom(
                name=f"bin{number}_{row}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[x, y, WALL_HALF_HEIGHT],
                size=[half_x, half_y, WALL_HALF_HEIGHT], contype=1, conaffinity=0, rgba=color,
            )  # fmt: skip
    if bins:
        spec.option.impratio = 10.0
    spec.compile()
    # Among 40 pairs MJX holds 140 contacts; more than 18 at once were never seen. Pairs are not capped: their broad
    # phase ranks by bounding spheres, and those of the long walls would crowd out the cube between the fingers.
    return Model(spec.to_xml(), SUBSTEPS, ("sensordata",), max_contact_points=32 if bins else None)


@lru_cache(maxsize=16)
def start_readouts(model: Model) -> Readouts:
    """What the sensors read at every start: the arm starts in one pose, and they do not see the cube."""
    compiled = model.compiled()
    qpos = compiled.qpos0.copy()
    qpos[:JOINTS] = START
    if compiled.nu > JOINTS:
        qpos[JOINTS : JOINTS + 2] = FINGERS_START
    return model.readouts_at(qpos, np.zeros(compiled.nv))

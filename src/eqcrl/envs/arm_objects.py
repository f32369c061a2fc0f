"""The arm of seven joints brings a cube to a point on the table: by pushing, or over the walls of two bins."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.envs.base import TopView
from eqcrl.envs.mujoco import AbstractMujocoEnv, Camera, Marker, Physics, chosen_physics
from eqcrl.errors import ConfigError, did_you_mean
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.arm import (
    CUBE_HALF,
    DROP_HEIGHT,
    FINGERS_START,
    JOINTS,
    START,
    Bin,
    Gains,
    bin_walls,
    cube_model,
    finger_targets,
    joint_targets,
    start_readouts,
)
from eqcrl.settings import Meta
from eqcrl.types import Key

CUBE = slice(JOINTS + 2, JOINTS + 5)  # its position in qpos


@dataclass(frozen=True)
class Layout:
    """Squares on the table, in m: where cubes start and where goals lie, and the bins around them."""

    start: tuple[float, float]
    goal: tuple[float, float]
    half: float
    """Half of the edge of both squares."""
    bins: tuple[Bin, ...] = ()


LAYOUTS: dict[str, Layout] = {
    "push-easy": Layout((-0.1, 0.6), (0.1, 0.6), 0.1),
    "push-hard": Layout((-0.25, 0.65), (0.25, 0.65), 0.25),
    "binpick-easy": Layout((-0.15, 0.6), (0.17, 0.6), 0.09, ((-0.17, 0.6, 0.145), (0.17, 0.6, 0.145))),
    "binpick-hard": Layout((-0.3, 0.6), (0.3, 0.6), 0.15, ((-0.3, 0.6, 0.195), (0.3, 0.6, 0.195))),
}


class ArmCube(AbstractMujocoEnv):
    """An arm of seven joints with a gripper brings a cube of 6 cm to a point on the table.

    Actions: absolute angles of joints 1, 2, 4 and 6, held by servos; the fifth closes the gripper above 0, else opens
    it. Start: always one pose of the arm, at rest; the cube uniform in a square, dropped from 4 cm. Goal: position of
    the cube (m), uniform in a square of the table. Observation (17): cube, angles, position and velocity of link 7,
    distance of the fingers. Control step 0.05 s. Nothing terminates.

    Raises: ConfigError for a layout that does not exist.
    """

    layout: Annotated[
        Literal["push-easy", "push-hard", "binpick-easy", "binpick-hard"],
        Meta(description="push: from square to square of the table; binpick: from bin to bin"),
    ] = eqx.field(default="push-easy", static=True)
    episode_length: Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})] = eqx.field(
        default=1000, static=True
    )
    success_radius: Annotated[float, Meta(gt=0, description="distance that counts as reached", extra={"unit": "m"})] = (
        eqx.field(default=0.1, static=True)
    )
    gains: Annotated[
        Gains,
        Meta(
            description="matched: joints reach the angles commanded; paper: joints 3 and 4 settle at 0.57, "
            "5 to 7 at 0.5 of them"
        ),
    ] = eqx.field(default="matched", static=True)
    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    action_size: int = eqx.field(default=5, static=True, init=False)

    def __check_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(f"layout = {self.layout!r} does not exist.", mend=did_you_mean(self.layout, LAYOUTS))

    def model(self) -> Model:
        """Arm, cube and bins."""
        return cube_model(self.gains, LAYOUTS[self.layout].bins)

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "3"]]:
        """The start pose of the arm; cube and goal uniform in their squares, the cube 4 cm above the table."""
        cube_key, goal_key = jax.random.split(key)
        layout = LAYOUTS[self.layout]
        offset = jax.random.uniform(cube_key, (2,), minval=-layout.half, maxval=layout.half)
        cube = jnp.append(jnp.asarray(layout.start) + offset, DROP_HEIGHT)
        offset = jax.random.uniform(goal_key, (2,), minval=-layout.half, maxval=layout.half)
        goal = jnp.append(jnp.asarray(layout.goal) + offset, CUBE_HALF)
        arm = jnp.array([*START, FINGERS_START, FINGERS_START])
        qpos = jnp.concatenate([arm, cube, jnp.array([1.0, 0.0, 0.0, 0.0])])
        sensors = start_readouts(self.model())
        return self.engine().start(qpos, jnp.zeros(JOINTS + 2 + 6), sensors), goal

    def control(self, state: PhysicsState, action: Float[Array, "5"]) -> Float[Array, "9"]:
        """Commanded angles in rad, and the commands of the fingers (0 closed, 255 open)."""
        return jnp.concatenate([joint_targets(action[:4]), finger_targets(action[4])])

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """Never."""
        return jnp.array(False)

    def observation(self, state: PhysicsState) -> Float[Array, "17"]:
        """Cube (3, m), angles (7, rad), position (3, m) and velocity (3, m/s) of link 7, finger distance (m)."""
        fingers = state.qpos[JOINTS] + state.qpos[JOINTS + 1]
        return jnp.concatenate([state.qpos[CUBE], state.qpos[:JOINTS], state.readouts["sensordata"][:6], fingers[None]])

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "3"]:
        """Position of the cube."""
        return state.qpos[CUBE]

    def goal_distance(self, achieved_goal: Float[Array, "3"], desired_goal: Float[Array, "3"]) -> Float[Array, ""]:
        """Straight-line distance in m."""
        return jnp.linalg.norm(achieved_goal - desired_goal)

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "3"]) -> Bool[Array, ""]:
        """Whether the goal lies over the squares, or between them, and not higher than cubes start."""
        layout = LAYOUTS[self.layout]
        squares = jnp.asarray([layout.start, layout.goal])
        low = jnp.append(jnp.min(squares, axis=0) - layout.half, 0.0) - 1e-4
        high = jnp.append(jnp.max(squares, axis=0) + layout.half, DROP_HEIGHT) + 1e-4
        return jnp.all((low <= desired_goal) & (desired_goal <= high))

    def evaluation(self) -> "ArmCube":
        """The same task: starts and goals are drawn anew in every episode."""
        return self

    def top_view(self) -> TopView:
        """The table from above, with the walls of the bins."""
        layout = LAYOUTS[self.layout]
        boxes = np.concatenate([np.zeros((0, 4)), *(bin_walls(b) for b in layout.bins)])
        walls = np.concatenate([boxes[:, :2] - boxes[:, 2:], boxes[:, :2] + boxes[:, 2:]], axis=1)
        squares = np.array([layout.start, layout.goal])
        low, high = squares.min(axis=0) - layout.half - 0.1, squares.max(axis=0) + layout.half + 0.1
        return TopView(walls, (float(low[0]), float(low[1])), (float(high[0]), float(high[1])))

    def markers(self, desired_goal: Float[np.ndarray, "3"]) -> tuple[Marker, ...]:
        """A cube at the goal."""
        x, y, z = (float(v) for v in desired_goal)
        return (Marker((x, y, z), (CUBE_HALF, CUBE_HALF, CUBE_HALF), "box"),)

    def camera(self) -> Camera:
        """From the far side of the table, over the right shoulder of the arm."""
        return Camera(distance=1.9, elevation=-30.0, azimuth=225.0, lookat=(0.0, 0.45, 0.2))


push_easy = partial(ArmCube, layout="push-easy")
push_hard = partial(ArmCube, layout="push-hard")
binpick_easy = partial(ArmCube, layout="binpick-easy")
binpick_hard = partial(ArmCube, layout="binpick-hard")

"""The arm of seven joints takes a cube between its fingers."""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.envs.base import TopView
from eqcrl.envs.mujoco import AbstractMujocoEnv, Camera, Marker, Physics, chosen_physics
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.arm import (
    CUBE_HALF,
    DROP_HEIGHT,
    FINGERS_START,
    JOINTS,
    START,
    Gains,
    cube_model,
    finger_targets,
    joint_targets,
    start_readouts,
)
from eqcrl.settings import Meta
from eqcrl.types import Key

CUBE = slice(JOINTS + 2, JOINTS + 5)  # its position in qpos
CUBE_CENTER = (0.0, 0.6)  # m
TIP_DISTANCE = 0.075  # m, of fingers around the cube
# A grasp is where the middle of the tips is within 0.05 m of the cube and their distance within 0.02 m of 0.075 m.
# As one distance in m: the tips' error is stretched so that both limits fall on 0.05 m, and the greater counts.
STRETCH = 0.05 / 0.02


class ArmGrasp(AbstractMujocoEnv):
    """An arm of seven joints brings its fingers around a cube of 6 cm.

    Actions as in `ArmCube`. Start: always one pose of the arm, at rest; the cube at (0, 0.6) + U(-noise, noise)^2,
    dropped from 4 cm. Goal (7): left tip, right tip (m), their distance: 3.75 cm to both sides of where the cube comes
    to rest, and 0.075 m; it stays there if the cube is moved. Observation (23): cube, angles, position and velocity of
    link 7, left tip, right tip, their distance. Control step 0.05 s. Nothing terminates.
    """

    noise: Annotated[
        float, Meta(ge=0, le=0.3, description="half of the square that cubes start in", extra={"unit": "m"})
    ] = eqx.field(default=0.3, static=True)
    episode_length: Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})] = eqx.field(
        default=1000, static=True
    )
    success_radius: Annotated[
        float, Meta(gt=0, description="distance that counts as a grasp, see `goal_distance`", extra={"unit": "m"})
    ] = eqx.field(default=0.05, static=True)
    gains: Annotated[
        Gains,
        Meta(
            description="matched: joints reach the angles commanded; paper: joints 3 and 4 settle at 0.57, "
            "5 to 7 at 0.5 of them"
        ),
    ] = eqx.field(default="matched", static=True)
    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    action_size: int = eqx.field(default=5, static=True, init=False)

    def model(self) -> Model:
        """Arm and cube."""
        return cube_model(self.gains)

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "7"]]:
        """The start pose of the arm; the cube uniform in its square, the goal around its place on the table."""
        offset = jax.random.uniform(key, (2,), minval=-self.noise, maxval=self.noise)
        place = jnp.asarray(CUBE_CENTER) + offset
        arm = jnp.array([*START, FINGERS_START, FINGERS_START])
        qpos = jnp.concatenate([arm, place, jnp.array([DROP_HEIGHT, 1.0, 0.0, 0.0, 0.0])])
        rest = jnp.append(place, CUBE_HALF)
        aside = jnp.array([TIP_DISTANCE / 2, 0.0, 0.0])
        goal = jnp.concatenate([rest + aside, rest - aside, jnp.array([TIP_DISTANCE])])
        sensors = start_readouts(self.model())
        return self.engine().start(qpos, jnp.zeros(JOINTS + 2 + 6), sensors), goal

    def control(self, state: PhysicsState, action: Float[Array, "5"]) -> Float[Array, "9"]:
        """Commanded angles in rad, and the commands of the fingers (0 closed, 255 open)."""
        return jnp.concatenate([joint_targets(action[:4]), finger_targets(action[4])])

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """Never."""
        return jnp.array(False)

    def observation(self, state: PhysicsState) -> Float[Array, "23"]:
        """Cube (3), angles (7), position (3) and velocity (3) of link 7, then the achieved goal (7); m, rad, m/s."""
        return jnp.concatenate(
            [state.qpos[CUBE], state.qpos[:JOINTS], state.readouts["sensordata"][:6], self.achieved_goal(state)]
        )

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "7"]:
        """Left tip (3, m), right tip (3, m), their distance (m)."""
        tips = state.readouts["sensordata"][6:]
        return jnp.append(tips, jnp.linalg.norm(tips[:3] - tips[3:]))

    def goal_distance(self, achieved_goal: Float[Array, "7"], desired_goal: Float[Array, "7"]) -> Float[Array, ""]:
        """max(|m - m'|, 2.5 |d - d'|) in m, with the middle m of the tips and their distance d.

        Less than 0.05 exactly where |m - m'| < 0.05 and |d - d'| < 0.02.
        """
        middle = (achieved_goal[:3] + achieved_goal[3:6] - desired_goal[:3] - desired_goal[3:6]) / 2
        return jnp.maximum(jnp.linalg.norm(middle), STRETCH * jnp.abs(achieved_goal[6] - desired_goal[6]))

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "7"]) -> Bool[Array, ""]:
        """Whether the middle of the tips lies over the square of 0.6 m, up to 0.3 m, and the gripper opens so far."""
        middle = (desired_goal[:3] + desired_goal[3:6]) / 2
        low = jnp.array([-0.3, 0.3, 0.0]) - 1e-4
        high = jnp.array([0.3, 0.9, 0.3]) + 1e-4
        return jnp.all((low <= middle) & (middle <= high)) & (desired_goal[6] >= 0) & (desired_goal[6] <= 0.171)

    def evaluation(self) -> "ArmGrasp":
        """The same task: starts and goals are drawn anew in every episode."""
        return self

    def top_view(self) -> TopView:
        """The table from above; trajectories are those of the left tip."""
        return TopView(np.zeros((0, 4)), (-0.7, -0.1), (0.7, 1.1))

    def markers(self, desired_goal: Float[np.ndarray, "7"]) -> tuple[Marker, ...]:
        """A small ball where each tip is asked to."""
        goal = np.asarray(desired_goal, float)
        tips = ((float(g[0]), float(g[1]), float(g[2])) for g in (goal[:3], goal[3:6]))
        return tuple(Marker(tip, (0.012, 0.012, 0.012)) for tip in tips)

    def camera(self) -> Camera:
        """From the far side of the table, over the right shoulder of the arm."""
        return Camera(distance=1.9, elevation=-30.0, azimuth=225.0, lookat=(0.0, 0.45, 0.2))

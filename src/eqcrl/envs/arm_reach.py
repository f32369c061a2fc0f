"""The arm of seven joints: its wrist is asked to a point in space."""

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
from eqcrl.robots.arm import JOINTS, START, Gains, arm_model, joint_targets, start_readouts
from eqcrl.settings import Meta
from eqcrl.types import Key

GOAL_CENTER = (0.0, 0.5, 0.3)  # m
GOAL_HALF = 0.2  # m


class ArmReach(AbstractMujocoEnv):
    """An arm of seven joints brings the origin of its last link to a point.

    Actions are absolute angles of joints 1, 2, 4 and 6, held by servos. Start: always the same pose, at rest. Goal:
    (0, 0.5, 0.3) + U(-0.2, 0.2)^3 m. Observation (13): angles, position and velocity of link 7. Control step 0.05 s.
    Nothing terminates.
    """

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
    action_size: int = eqx.field(default=4, static=True, init=False)

    def model(self) -> Model:
        """The arm without fingers."""
        return arm_model(self.gains)

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "3"]]:
        """The start pose; the goal uniform in a cube of 0.4 m."""
        offset = jax.random.uniform(key, (3,), minval=-GOAL_HALF, maxval=GOAL_HALF)
        sensors = start_readouts(self.model())
        return self.engine().start(jnp.asarray(START), jnp.zeros(JOINTS), sensors), jnp.asarray(GOAL_CENTER) + offset

    def control(self, state: PhysicsState, action: Float[Array, "4"]) -> Float[Array, "7"]:
        """Commanded angles in rad."""
        return joint_targets(action)

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """Never."""
        return jnp.array(False)

    def observation(self, state: PhysicsState) -> Float[Array, "13"]:
        """Angles (7, rad), position (3, m) and velocity (3, m/s) of link 7."""
        return jnp.concatenate([state.qpos, state.readouts["sensordata"][:6]])

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "3"]:
        """Position of link 7."""
        return state.readouts["sensordata"][:3]

    def goal_distance(self, achieved_goal: Float[Array, "3"], desired_goal: Float[Array, "3"]) -> Float[Array, ""]:
        """Straight-line distance in m."""
        return jnp.linalg.norm(achieved_goal - desired_goal)

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "3"]) -> Bool[Array, ""]:
        """Whether the goal lies in the cube that goals are drawn from; the start does."""
        return jnp.all(jnp.abs(desired_goal - jnp.asarray(GOAL_CENTER)) <= GOAL_HALF + 1e-4)

    def evaluation(self) -> "ArmReach":
        """The same task: goals are drawn anew in every episode."""
        return self

    def top_view(self) -> TopView:
        """The table from above."""
        return TopView(np.zeros((0, 4)), (-0.7, -0.1), (0.7, 1.0))

    def markers(self, desired_goal: Float[np.ndarray, "3"]) -> tuple[Marker, ...]:
        """A ball at the goal."""
        x, y, z = (float(v) for v in desired_goal)
        return (Marker((x, y, z), (0.03, 0.03, 0.03)),)

    def camera(self) -> Camera:
        """From the far side of the table, over the right shoulder of the arm."""
        return Camera(distance=1.9, elevation=-25.0, azimuth=215.0, lookat=(0.0, 0.4, 0.3))

"""A planar arm of two links whose tip is asked to a point."""

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
from eqcrl.robots.reacher import HEIGHT, LOWER, UPPER, reacher_model, tip_position, tip_velocity
from eqcrl.settings import Meta
from eqcrl.types import Key

POSITION_NOISE = 0.1  # rad, uniform to both sides
VELOCITY_NOISE = 0.005  # rad/s, likewise
GOAL_RADIUS = 0.2  # m
VIEW = 0.27  # m, half of the picture


class Reacher(AbstractMujocoEnv):
    """A planar arm of two links, 0.1 m and 0.11 m, turned by motors of 25 N m (armature 1 kg m^2, damping 1 N m s).

    Start: angles U(-0.1, 0.1) rad, rates U(-0.005, 0.005) rad/s. Goal: position of the tip (m), radius U(0, 0.2)
    and angle uniform. Observation (10): cosines, sines, position and velocity of the tip. Control step 0.04 s.
    Nothing terminates.
    """

    episode_length: Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})] = eqx.field(
        default=1000, static=True
    )
    success_radius: Annotated[float, Meta(gt=0, description="distance that counts as reached", extra={"unit": "m"})] = (
        eqx.field(default=0.05, static=True)
    )
    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    action_size: int = eqx.field(default=2, static=True, init=False)

    def model(self) -> Model:
        """The arm; positions and velocities say everything about it."""
        return reacher_model()

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "3"]]:
        """The arm stretched along x, nearly; the goal in the disc of 0.2 m, denser in its middle."""
        position_key, velocity_key, radius_key, angle_key = jax.random.split(key, 4)
        qpos = jax.random.uniform(position_key, (2,), minval=-POSITION_NOISE, maxval=POSITION_NOISE)
        qvel = jax.random.uniform(velocity_key, (2,), minval=-VELOCITY_NOISE, maxval=VELOCITY_NOISE)
        radius = jax.random.uniform(radius_key, maxval=GOAL_RADIUS)
        angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
        goal = jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle), jnp.asarray(HEIGHT)])
        return self.engine().start(qpos, qvel, {}), goal

    def control(self, state: PhysicsState, action: Float[Array, "2"]) -> Float[Array, "2"]:
        """Torques as shares of 25 N m: shoulder, elbow."""
        return action

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """Never."""
        return jnp.array(False)

    def observation(self, state: PhysicsState) -> Float[Array, "10"]:
        """cos (2), sin (2), tip position (3, m), tip velocity (3, m/s)."""
        return jnp.concatenate(
            [jnp.cos(state.qpos), jnp.sin(state.qpos), tip_position(state.qpos), tip_velocity(state.qpos, state.qvel)]
        )

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "3"]:
        """Position of the tip."""
        return tip_position(state.qpos)

    def goal_distance(self, achieved_goal: Float[Array, "3"], desired_goal: Float[Array, "3"]) -> Float[Array, ""]:
        """Straight-line distance in m."""
        return jnp.linalg.norm(achieved_goal - desired_goal)

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "3"]) -> Bool[Array, ""]:
        """Whether the stretched arm is long enough; the elbow folds to 0.02 m of the shoulder."""
        return jnp.linalg.norm(desired_goal[:2]) <= UPPER + LOWER + 1e-4

    def evaluation(self) -> "Reacher":
        """The same task: starts and goals are drawn anew in every episode."""
        return self

    def top_view(self) -> TopView:
        """The plane of the arm, with its shoulder in the middle."""
        return TopView(np.zeros((0, 4)), (-VIEW, -VIEW), (VIEW, VIEW))

    def markers(self, desired_goal: Float[np.ndarray, "3"]) -> tuple[Marker, ...]:
        """A ball at the goal."""
        x, y, z = (float(v) for v in desired_goal)
        return (Marker((x, y, z), (0.012, 0.012, 0.012)),)

    def camera(self) -> Camera:
        """From above, slightly inclined."""
        return Camera(distance=0.8, elevation=-60.0, azimuth=90.0)

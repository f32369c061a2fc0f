"""The half-cheetah runs to a point ahead."""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.envs.mujoco import AbstractMujocoEnv, Camera, Marker, Physics, chosen_physics
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.cheetah import cheetah_model
from eqcrl.settings import Meta
from eqcrl.types import Key

POSITION_NOISE, VELOCITY_NOISE = 0.1, 0.1


class HalfCheetah(AbstractMujocoEnv):
    """A half-cheetah that is to bring its torso to x = 5 m. Nothing terminates.

    Observation: positions (9; x in m, height above the default pose, pitch, 6 hinges), velocities (9). Goal: x in m.
    Action: 6 torques.

    Raises: ConfigError for an empty range of goals.
    """

    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    goal_low: Annotated[float, Meta(ge=-50, le=50, description="smallest x of a goal", extra={"unit": "m"})] = (
        eqx.field(default=5.0, static=True)
    )
    goal_high: Annotated[float, Meta(ge=-50, le=50, description="largest x of a goal", extra={"unit": "m"})] = (
        eqx.field(default=5.0, static=True)
    )
    substeps: Annotated[int, Meta(ge=1, description="physics steps of 0.01 s in a control step")] = eqx.field(
        default=5, static=True
    )
    episode_length: Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})] = eqx.field(
        default=1000, static=True
    )
    success_radius: Annotated[float, Meta(gt=0, description="distance that counts as reached", extra={"unit": "m"})] = (
        eqx.field(default=0.5, static=True)
    )
    action_size: int = eqx.field(default=6, static=True, init=False)

    def __check_init__(self) -> None:
        if self.goal_low > self.goal_high:
            raise ConfigError(
                f"goal_low = {self.goal_low:g} is above goal_high = {self.goal_high:g}.",
                mend="Give the smaller one first, or the same twice for one fixed goal.",
            )

    def model(self) -> Model:
        """The robot and the floor."""
        return cheetah_model(self.substeps)

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "1"]]:
        """Positions U(-0.1, 0.1), velocities 0.1 N(0, 1), all of them; the goal uniform in its range."""
        position_key, velocity_key, goal_key = jax.random.split(key, 3)
        position = jax.random.uniform(position_key, (9,), minval=-POSITION_NOISE, maxval=POSITION_NOISE)
        velocity = VELOCITY_NOISE * jax.random.normal(velocity_key, (9,))
        goal = jax.random.uniform(goal_key, (1,), minval=self.goal_low, maxval=self.goal_high)
        return self.engine().start(position, velocity, {}), goal

    def control(self, state: PhysicsState, action: Float[Array, "6"]) -> Float[Array, "6"]:
        """The action; the torque is that times the gear."""
        del state
        return action

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """Never."""
        return jnp.array(False)

    def observation(self, state: PhysicsState) -> Float[Array, "18"]:
        """Positions and velocities."""
        return jnp.concatenate([state.qpos, state.qvel])

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "1"]:
        """The torso's x."""
        return state.qpos[:1]

    def goal_distance(self, achieved_goal: Float[Array, "1"], desired_goal: Float[Array, "1"]) -> Float[Array, ""]:
        """Along x, in m."""
        return jnp.abs(achieved_goal - desired_goal)[0]

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "1"]) -> Bool[Array, ""]:
        """Always: the floor has no end."""
        return jnp.array(True)

    def evaluation(self) -> "HalfCheetah":
        """The same task."""
        return self

    def top_view(self) -> None:
        """None: it moves in a vertical plane."""

    def markers(self, desired_goal: Float[np.ndarray, "1"]) -> tuple[Marker, ...]:
        """A post beside the track."""
        return (Marker((float(desired_goal[0]), 0.5, 0.5), (0.04, 0.04, 0.5), "box"),)

    def camera(self) -> Camera:
        """From the side."""
        return Camera(distance=4.5, elevation=-12.0, azimuth=90.0, body="torso")

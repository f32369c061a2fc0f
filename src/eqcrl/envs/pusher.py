"""A long arm of seven motors shoves a puck over a table."""

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
from eqcrl.robots.pusher import JOINTS, PUCK_HEIGHT, REACH, SHOULDER, TORQUE, pusher_model, start_readouts
from eqcrl.settings import Meta
from eqcrl.types import Key

Box = tuple[tuple[float, float], tuple[float, float]]
"""Lower and upper corner, in m."""

PUCK_BOX: Box = ((0.25, -0.35), (0.65, -0.05))
GOAL_BOXES: dict[str, Box] = {
    "easy": ((0.25, -0.6), (0.65, -0.3)),
    "hard": ((-0.1, -0.7), (0.9, 0.3)),
}
CLOSEST = 0.17  # m, between a puck that starts and its goal
VELOCITY_NOISE = 0.005  # rad/s, uniform to both sides


class Pusher(AbstractMujocoEnv):
    """An arm of seven motors (6 N m, no gravity) shoves a puck of 5 cm radius over a table to a point.

    Start: all angles 0, rates U(-0.005, 0.005) rad/s, puck uniform in a box, moved to 0.17 m from its goal where it
    is closer. Goal: position of the puck (m) in the box of `goals`. Observation (20): angles, wrist, puck, rates.
    Control step 0.05 s. Nothing terminates.

    Raises: ConfigError for a goal law that does not exist.
    """

    goals: Annotated[
        Literal["easy", "hard"],
        Meta(description="easy: goals between puck and arm; hard: anywhere on the table"),
    ] = eqx.field(default="easy", static=True)
    beyond_reach: Annotated[
        bool, Meta(description="paper's law of hard goals: also where the arm cannot bring the puck")
    ] = eqx.field(default=False, static=True)
    episode_length: Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})] = eqx.field(
        default=1000, static=True
    )
    success_radius: Annotated[float, Meta(gt=0, description="distance that counts as reached", extra={"unit": "m"})] = (
        eqx.field(default=0.1, static=True)
    )
    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    action_size: int = eqx.field(default=7, static=True, init=False)

    def __check_init__(self) -> None:
        if self.goals not in GOAL_BOXES:
            raise ConfigError(f"goals = {self.goals!r} is not a goal law.", mend=did_you_mean(self.goals, GOAL_BOXES))

    def model(self) -> Model:
        """Arm, table and puck."""
        return pusher_model()

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "3"]]:
        """The arm stretched out; puck and goal uniform in their boxes, at least 0.17 m apart.

        A goal out of reach is drawn back to the circle of reach (0.95 m around the shoulder), and a puck too close to
        its goal is moved from it toward the middle of its own box.
        """
        goal_key, puck_key, velocity_key = jax.random.split(key, 3)
        low, high = jnp.asarray(GOAL_BOXES[self.goals])
        goal = jax.random.uniform(goal_key, (2,), minval=low, maxval=high)
        if not self.beyond_reach:
            shoulder = jnp.asarray(SHOULDER)
            away = jnp.linalg.norm(goal - shoulder)
            goal = shoulder + (goal - shoulder) * jnp.minimum(1.0, REACH / jnp.maximum(away, REACH / 2))
        low, high = jnp.asarray(PUCK_BOX)
        puck = jax.random.uniform(puck_key, (2,), minval=low, maxval=high)
        inward = (low + high) / 2 - goal
        moved = goal + CLOSEST * inward / jnp.maximum(jnp.linalg.norm(inward), 1e-6)
        puck = jnp.where(jnp.linalg.norm(puck - goal) < CLOSEST, moved, puck)
        rates = jax.random.uniform(velocity_key, (JOINTS,), minval=-VELOCITY_NOISE, maxval=VELOCITY_NOISE)
        qpos = jnp.concatenate([jnp.zeros(JOINTS), puck])
        qvel = jnp.concatenate([rates, jnp.zeros(2)])
        state = self.engine().start(qpos, qvel, start_readouts())
        return state, jnp.append(goal, PUCK_HEIGHT)

    def control(self, state: PhysicsState, action: Float[Array, "7"]) -> Float[Array, "7"]:
        """Motor commands in [-2, 2]: pan, lift, upper arm roll, elbow, forearm roll, wrist, wrist roll."""
        return TORQUE * action

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """Never."""
        return jnp.array(False)

    def observation(self, state: PhysicsState) -> Float[Array, "20"]:
        """Angles (7, rad), wrist (3, m), puck (3, m), rates (7, rad/s)."""
        return jnp.concatenate(
            [state.qpos[:JOINTS], state.readouts["sensordata"], self.achieved_goal(state), state.qvel[:JOINTS]]
        )

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "3"]:
        """Position of the puck."""
        return jnp.append(state.qpos[JOINTS:], PUCK_HEIGHT)

    def goal_distance(self, achieved_goal: Float[Array, "3"], desired_goal: Float[Array, "3"]) -> Float[Array, ""]:
        """Straight-line distance in m."""
        return jnp.linalg.norm(achieved_goal - desired_goal)

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "3"]) -> Bool[Array, ""]:
        """Whether the goal is within the arm's reach."""
        return jnp.linalg.norm(desired_goal[:2] - jnp.asarray(SHOULDER)) <= REACH + 1e-4

    def evaluation(self) -> "Pusher":
        """The same task: starts and goals are drawn anew in every episode."""
        return self

    def top_view(self) -> TopView:
        """The table from above."""
        return TopView(np.zeros((0, 4)), (-0.5, -0.95), (1.2, 0.55))

    def markers(self, desired_goal: Float[np.ndarray, "3"]) -> tuple[Marker, ...]:
        """A flat disc on the table."""
        x, y, z = (float(v) for v in desired_goal)
        return (Marker((x, y, z - 0.045), (0.08, 0.08, 0.005)),)

    def camera(self) -> Camera:
        """From the far side of the table."""
        return Camera(distance=2.3, elevation=-40.0, azimuth=150.0, lookat=(0.4, -0.25, -0.25))


hard = partial(Pusher, goals="hard")

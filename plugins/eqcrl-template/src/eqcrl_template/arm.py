"""A two-link planar arm whose tip shall reach a point: an environment in pure JAX, to copy and change."""

from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.envs.base import AbstractEnv, TopView
from eqcrl.errors import ConfigError
from eqcrl.settings import Meta
from eqcrl.types import Key

CONTROL_STEP = 0.1  # s
SUBSTEPS = 4
LINKS = (0.6, 0.4)  # m, the inner one first; the tip reaches a ring from 0.2 m to 1.0 m around the shoulder
ACCELERATION = 20.0  # rad/s^2 at full action
DAMPING = 10.0  # 1/s; together a top speed of 2 rad/s, reached with a time constant of 0.1 s


class ArmState(eqx.Module):
    """Angle of each joint (rad, not wrapped; the elbow's is relative to the upper arm) and its speed (rad/s)."""

    angle: Float[Array, "*batch 2"]
    speed: Float[Array, "*batch 2"]


def tip_of(angle: Float[Array, "2"]) -> Float[Array, "2"]:
    """Where the tip is for these joint angles, in m from the shoulder."""
    upper, lower = angle[0], angle[0] + angle[1]
    return jnp.array(
        [
            LINKS[0] * jnp.cos(upper) + LINKS[1] * jnp.cos(lower),
            LINKS[0] * jnp.sin(upper) + LINKS[1] * jnp.sin(lower),
        ]
    )


class Arm(AbstractEnv):
    """Two motors turn shoulder and elbow; the goal is a position of the tip.

    d(speed)/dt = 20 a - 10 speed for each joint, a in [-1, 1]^2, four semi-implicit Euler substeps of 0.025 s. The
    links are light against the gears: they do not pull at each other. Observation: cosine and sine of both
    angles, both speeds (rad/s), tip (m). Goal: tip (m). Nothing terminates.
    """

    # The fields are the settings: `--env.start rest` is checked against this annotation before anything runs.
    start: Annotated[
        Literal["anywhere", "rest"],
        Meta(
            description="anywhere: any pose, goal anywhere in reach; rest: stretched along the first axis, goal on "
            "the far side"
        ),
    ] = eqx.field(default="anywhere", static=True)
    episode_length: Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})] = eqx.field(
        default=50, static=True
    )
    success_radius: Annotated[float, Meta(gt=0, description="distance that counts as reached", extra={"unit": "m"})] = (
        eqx.field(default=0.1, static=True)
    )
    action_size: int = eqx.field(default=2, static=True, init=False)

    def __check_init__(self) -> None:
        if self.start not in ("anywhere", "rest"):
            raise ConfigError(f"start = {self.start!r} is not a start law.", mend="anywhere or rest.")

    def reset(self, key: Key) -> tuple[ArmState, Float[Array, "2"]]:
        """A pose at rest, and the tip of another pose: so every goal can be reached."""
        pose_key, goal_key = jax.random.split(key)
        if self.start == "anywhere":
            angle = jax.random.uniform(pose_key, (2,), minval=-jnp.pi, maxval=jnp.pi)
            goal = tip_of(jax.random.uniform(goal_key, (2,), minval=-jnp.pi, maxval=jnp.pi))
        else:
            angle = jax.random.uniform(pose_key, (2,), minval=-0.1, maxval=0.1)
            goal = self._far_arc(goal_key)
        return ArmState(angle, jnp.zeros(2)), goal

    def _far_arc(self, key: Key) -> Float[Array, "2"]:
        """A point 0.4 m to 0.9 m from the shoulder, at most 60 degrees off the side opposite to the start."""
        radius_key, turn_key = jax.random.split(key)
        radius = jax.random.uniform(radius_key, minval=0.4, maxval=0.9)
        turn = jnp.pi + jax.random.uniform(turn_key, minval=-jnp.pi / 3, maxval=jnp.pi / 3)
        return radius * jnp.array([jnp.cos(turn), jnp.sin(turn)])

    def step(self, state: ArmState, action: Float[Array, "2"], key: Key) -> ArmState:
        """One control step."""
        del key  # the arm is deterministic
        dt = CONTROL_STEP / SUBSTEPS
        push = ACCELERATION * jnp.clip(action, -1.0, 1.0)
        angle, speed = state.angle, state.speed
        for _ in range(SUBSTEPS):
            speed = speed + dt * (push - DAMPING * speed)
            angle = angle + dt * speed
        return ArmState(angle, speed)

    def terminated(self, state: ArmState) -> Bool[Array, ""]:
        """Never; eqcrl ends the episode when its time is up."""
        return jnp.array(False)

    def observation(self, state: ArmState) -> Float[Array, "8"]:
        """Angles as cosine and sine, so that a full turn looks like none."""
        return jnp.concatenate([jnp.cos(state.angle), jnp.sin(state.angle), state.speed, tip_of(state.angle)])

    def achieved_goal(self, state: ArmState) -> Float[Array, "2"]:
        """The tip."""
        return tip_of(state.angle)

    def goal_distance(self, achieved_goal: Float[Array, "2"], desired_goal: Float[Array, "2"]) -> Float[Array, ""]:
        """Straight-line distance in m."""
        return jnp.linalg.norm(achieved_goal - desired_goal)

    def goal_reachable(self, state: ArmState, desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Whether the goal lies in the ring that the tip reaches, from wherever the arm is now."""
        radius, slack = jnp.linalg.norm(desired_goal), 1e-4
        return (radius >= LINKS[0] - LINKS[1] - slack) & (radius <= LINKS[0] + LINKS[1] + slack)

    def evaluation(self) -> "Arm":
        """From rest to the far side."""
        return Arm(start="rest", episode_length=self.episode_length, success_radius=self.success_radius)

    def top_view(self) -> TopView:
        """The disk in reach; there are no walls."""
        edge = sum(LINKS) + 0.1
        return TopView(np.zeros((0, 4)), (-edge, -edge), (edge, edge))

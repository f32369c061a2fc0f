"""A MuJoCo task as MJX simulates it when nothing bounds the contact work: every wall against every part, every step."""

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.envs.base import TopView
from eqcrl.envs.mujoco import AbstractMujocoEnv, Camera, Marker
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.types import Key


class Unbounded(AbstractMujocoEnv):
    """The same task, with its model's caps taken off."""

    env: AbstractMujocoEnv
    physics: str = eqx.field(static=True)
    action_size: int = eqx.field(static=True)
    episode_length: int = eqx.field(static=True)
    success_radius: float = eqx.field(static=True)

    def __init__(self, env: AbstractMujocoEnv):
        self.env, self.physics = env, env.physics
        self.action_size, self.episode_length = env.action_size, env.episode_length
        self.success_radius = env.success_radius

    def model(self) -> Model:
        """All contacts, all pairs."""
        return dataclasses.replace(self.env.model(), max_contact_points=None, max_geom_pairs=None)

    def control(self, state: PhysicsState, action: Float[Array, "action"]) -> Float[Array, "nu"]:
        """The task's."""
        return self.env.control(state, action)

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "goal"]]:
        """The task's; a start holds nothing that depends on the caps."""
        return self.env.reset(key)

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """The task's."""
        return self.env.terminated(state)

    def observation(self, state: PhysicsState) -> Float[Array, "observation"]:
        """The task's."""
        return self.env.observation(state)

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "goal"]:
        """The task's."""
        return self.env.achieved_goal(state)

    def goal_distance(
        self, achieved_goal: Float[Array, "goal"], desired_goal: Float[Array, "goal"]
    ) -> Float[Array, ""]:
        """The task's."""
        return self.env.goal_distance(achieved_goal, desired_goal)

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "goal"]) -> Bool[Array, ""]:
        """The task's."""
        return self.env.goal_reachable(state, desired_goal)

    def evaluation(self) -> Any:
        """The task's."""
        return Unbounded(self.env.evaluation())  # type: ignore[arg-type]

    def top_view(self) -> TopView | None:
        """The task's."""
        return self.env.top_view()

    def markers(self, desired_goal: Float[np.ndarray, "goal"]) -> tuple[Marker, ...]:
        """The task's."""
        return self.env.markers(desired_goal)

    def camera(self) -> Camera:
        """The task's."""
        return self.env.camera()

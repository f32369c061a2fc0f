"""A task on a tiny model of our own: a ball that rolls past a wall, and an arm with one geom of each shape."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from eqcrl.envs.base import TopView
from eqcrl.envs.mujoco import AbstractMujocoEnv, Camera, Marker
from eqcrl.evaluate import Episodes
from eqcrl.physics.model import Model
from eqcrl.scene.world import Take, take_of

XML = """
<mujoco model="ball">
  <option timestep="0.01"/>
  <worldbody>
    <light directional="true" dir="0.2 0.3 -1" diffuse="0.6 0.6 0.6" ambient="0.3 0.3 0.3"/>
    <geom name="floor" type="plane" size="50 50 1" rgba="0.9 0.9 0.9 1"/>
    <geom name="wall" type="box" pos="0 -2 0.5" size="1 0.2 0.5" rgba="0.3 0.3 0.35 1"/>
    <body name="ball" pos="0 0 0.5">
      <joint type="slide" axis="1 0 0"/>
      <joint type="slide" axis="0 1 0"/>
      <joint type="slide" axis="0 0 1"/>
      <geom name="ball" type="sphere" size="0.5" rgba="0.9 0.1 0.1 1"/>
    </body>
    <body name="arm" pos="3 3 1">
      <joint type="hinge" axis="0 0 1"/>
      <geom name="capsule" type="capsule" size="0.1 0.3"/>
      <geom name="cylinder" type="cylinder" pos="0.5 0 0" size="0.1 0.2"/>
      <geom name="ellipsoid" type="ellipsoid" pos="1 0 0" size="0.1 0.2 0.3"/>
      <geom name="box" type="box" pos="1.5 0 0" size="0.1 0.2 0.3"/>
      <geom name="unseen" type="sphere" pos="2 0 0" size="0.1" group="3"/>
    </body>
  </worldbody>
</mujoco>
"""

STEPS = 20
"""Physics steps of 0.01 s in a control step: 5 of those pass in a second."""


class Ball(AbstractMujocoEnv):
    """A ball; nothing pushes it, the tests say where it is."""

    follow: bool = eqx.field(default=True, static=True)
    physics: str = eqx.field(default="mujoco", static=True)
    action_size: int = eqx.field(default=1, static=True, init=False)
    episode_length: int = eqx.field(default=10, static=True)
    success_radius: float = eqx.field(default=0.5, static=True)

    def model(self):
        return Model(XML, substeps=STEPS)

    def reset(self, key):
        return self.engine().start(jnp.zeros(4), jnp.zeros(4), {}), jnp.array([2.0, 0.0])

    def control(self, state, action):
        return jnp.zeros(0)

    def terminated(self, state):
        return jnp.array(False)

    def observation(self, state):
        return state.qpos

    def achieved_goal(self, state):
        return state.qpos[:2]

    def goal_distance(self, achieved_goal, desired_goal):
        return jnp.linalg.norm(achieved_goal - desired_goal)

    def goal_reachable(self, state, desired_goal):
        return jnp.array(True)

    def evaluation(self):
        return self

    def top_view(self):
        return TopView(np.array([[-1.0, -2.2, 1.0, -1.8]]), (-3.0, -3.0), (3.0, 3.0))

    def markers(self, desired_goal):
        x, y = (float(v) for v in desired_goal)
        return (Marker((x, y, 0.3), (0.3, 0.3, 0.3)),)

    def camera(self):
        return Camera(distance=8.0, elevation=-45.0, azimuth=90.0, body="ball" if self.follow else None)


def episodes(way: Callable[[np.ndarray], np.ndarray], *, moments: int = 11, goals: np.ndarray, over: int = 10**9):
    """Episodes in which the ball is at `way(t)` (t, 2) after t steps, with a goal each, and over after `over` steps."""
    path = np.asarray(way(np.arange(moments, dtype=float)))
    qpos = np.zeros((moments, len(goals), 4))
    qpos[:, :, :2] = path[:, None, :]
    at = qpos[:, :, :2]
    distance = np.linalg.norm(at[1:] - goals, axis=-1)
    alive = np.broadcast_to((np.arange(moments - 1) < over)[:, None], distance.shape)
    return Episodes(
        *(jnp.asarray(x) for x in (at, goals, (distance < 0.5) & alive, alive, distance)), record=jnp.asarray(qpos)
    )


def take(way=lambda t: np.stack([0.1 * t, 0 * t], -1), *, follow: bool = True, goals=((9.0, 9.0),), **more) -> Take:
    """Those episodes, ready to be drawn; by default the ball rolls along x and never arrives."""
    return take_of(Ball(follow=follow), episodes(way, goals=np.asarray(goals, float), **more))


def is_red(picture: np.ndarray) -> np.ndarray:
    """Pixels of the ball."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (red > 90) & (red > 2 * green) & (red > 2 * blue)


def is_green(picture: np.ndarray) -> np.ndarray:
    """Pixels of the goal."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (green > red + 25) & (green > blue + 5)

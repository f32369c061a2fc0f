"""What is drawn of a MuJoCo task: its model under a bright sky, poses, goals, and where to look from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.ndimage import gaussian_filter1d

from eqcrl.envs.mujoco import AbstractMujocoEnv, Camera, Marker
from eqcrl.errors import UsageError
from eqcrl.evaluate import Episodes
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model

SKY = (0.97, 0.98, 1.0), (0.80, 0.86, 0.93)
GOAL_COLOR = (0.0, 0.62, 0.45, 0.35)
"""Green of the house style, and how much of what is behind it the goal covers."""
CALM = 0.4
"""Seconds over which the camera's way, and the fading of walls, is smoothed."""
BERTH = 0.1
"""A wall fades if it comes so near to the line of sight, as a share of the camera's distance."""


@dataclass(frozen=True)
class Take:
    """Recorded episodes of a MuJoCo task, ready to be drawn."""

    model: Model
    camera: Camera
    poses: Float[np.ndarray, "moments episodes nq"]
    markers: tuple[tuple[Marker, ...], ...]
    """How the goal of each episode is drawn."""
    at_goal: Bool[np.ndarray, "moments episodes"]
    """Whether the goal is held after t steps; False in row 0."""
    ended: Bool[np.ndarray, "moments episodes"]
    """Whether the episode was over before step t, so that the pose is that of an earlier moment."""

    def settled(self) -> Bool[np.ndarray, "moments episodes"]:
        """Whether there is nothing more to wait for: at the goal, or over."""
        return self.at_goal | self.ended

    def seconds(self, moment: int) -> float:
        """Time since the start."""
        return moment * self.model.control_step()

    def choose(self, shown: Sequence[int]) -> "Take":
        """Some of the episodes. Raises: UsageError for an index that there is not, or none."""
        total = self.poses.shape[1]
        chosen = [int(i) for i in shown]
        if not chosen or any(not 0 <= i < total for i in chosen):
            raise UsageError(
                f"Episodes {list(shown)} cannot be shown: {total} were evaluated.",
                mend=f"Choose from 0 to {total - 1}, at least one.",
            )
        markers = tuple(self.markers[i] for i in chosen)
        at_goal, ended = self.at_goal[:, chosen], self.ended[:, chosen]
        return Take(self.model, self.camera, self.poses[:, chosen], markers, at_goal, ended)


def pose(state: PhysicsState) -> Float[Array, "*batch nq"]:
    """What an evaluation has to record of each moment so that it can be drawn: `Run.evaluate(record=pose)`."""
    return state.qpos


def take_of(env: AbstractMujocoEnv, episodes: Episodes) -> Take:
    """Evaluated episodes that recorded `pose`, with the goals of the task.

    A pose that is not finite (a simulation that diverged) is drawn as the last one that was.
    Raises: UsageError for episodes without poses of this model.
    """
    model = env.model()
    nq = int(model.compiled().nq)
    if episodes.record is None or episodes.record.shape[-1] != nq:
        raise UsageError(
            f"These episodes hold no poses of the model, which has {nq} positions.",
            mend="Evaluate with record=eqcrl.scene.world.pose.",
        )
    held, over = np.asarray(episodes.at_goal, bool), ~np.asarray(episodes.alive, bool)
    before = np.zeros((1, held.shape[1]), bool)
    goals = np.asarray(episodes.desired_goal)
    return Take(
        model,
        env.camera(),
        last_finite(np.asarray(episodes.record, float)),
        tuple(env.markers(goal) for goal in goals),
        np.concatenate([before, held]),
        np.concatenate([before, over]),
    )


def last_finite(poses: Float[np.ndarray, "moments episodes nq"]) -> Float[np.ndarray, "moments episodes nq"]:
    """The same with every pose that is not finite replaced by the last before it that was."""
    finite: np.ndarray = np.all(np.isfinite(poses), axis=2)
    if not np.all(finite[0]):
        raise UsageError("An episode starts in a pose that is not finite.", mend="Check the task with `eqcrl check`.")
    latest = np.maximum.accumulate(np.where(finite, np.arange(len(poses))[:, None], 0), axis=0)
    return np.take_along_axis(poses, latest[:, :, None], axis=0)


@lru_cache(maxsize=8)
def drawable(model: Model) -> mujoco.MjModel:
    """The model as it is drawn: the same bodies, and a sky and more light where it has none. Not to be written to."""
    spec = mujoco.MjSpec.from_string(model.xml)
    if not any(int(t.type) == int(mujoco.mjtTexture.mjTEXTURE_SKYBOX) for t in spec.textures):
        spec.add_texture(
            name="eqcrl_sky",
            type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
            width=64,
            height=384,
            rgb1=SKY[0],
            rgb2=SKY[1],
        )
    if not spec.lights:  # the headlight alone leaves much in the dark
        spec.visual.headlight.ambient = (0.35, 0.35, 0.35)
        spec.visual.headlight.diffuse = (0.6, 0.6, 0.6)
    compiled = spec.compile()
    assert (compiled.nq, compiled.nbody, compiled.ngeom) == (
        model.compiled().nq,
        model.compiled().nbody,
        model.compiled().ngeom,
    )
    return compiled


def place(model: mujoco.MjModel, data: mujoco.MjData, qpos: Float[np.ndarray, "nq"]) -> None:
    """Bodies, geoms and lights where these positions put them; no physics."""
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)


def followed(take: Take) -> Float[np.ndarray, "moments episodes 3"]:
    """The point that the camera looks at: smoothly along the way of the followed body, or the fixed one.

    Raises: UsageError if the camera follows a body that the model does not have.
    """
    moments, episodes, _ = take.poses.shape
    camera = take.camera
    if camera.body is None:
        return np.broadcast_to(np.asarray(camera.lookat, float), (moments, episodes, 3))
    model = take.model.compiled()
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, camera.body)
    if body < 0:
        raise UsageError(
            f"The camera follows the body {camera.body!r}, which the model does not have.",
            mend="Name a body of the model in the task's `camera()`.",
        )
    data = mujoco.MjData(model)
    way = np.empty((moments, episodes, 3))
    for t, k in np.ndindex(moments, episodes):
        data.qpos[:] = take.poses[t, k]
        mujoco.mj_kinematics(model, data)
        way[t, k] = data.xpos[body]
    return gaussian_filter1d(way, CALM / take.model.control_step(), axis=0, mode="nearest")


@dataclass(frozen=True)
class Veils:
    """Walls that stand between the camera and the body that it follows."""

    geoms: Int[np.ndarray, "walls"]
    """Their indexes in the model: its static boxes."""
    hiding: Float[np.ndarray, "moments episodes walls"]
    """From 0, out of the way, to 1, in the way; smooth in time, so that nothing flickers."""


def eye(camera: Camera, lookat: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
    """Where the camera stands that looks at a point."""
    azimuth, elevation = np.radians(camera.azimuth), np.radians(camera.elevation)
    ahead = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    return lookat - camera.distance * ahead


def veils(take: Take, looked_at: Float[np.ndarray, "moments episodes 3"]) -> Veils:
    """Which walls hide the followed body; none if the camera looks at a fixed point.

    The line of sight meets an upright box, widened by `BERTH`, where the ranges of its three coordinates overlap.
    """
    model = take.model.compiled()
    static = model.body_weldid[model.geom_bodyid] == 0
    walls = np.flatnonzero(static & (model.geom_type == int(mujoco.mjtGeom.mjGEOM_BOX)))
    if take.camera.body is None:
        walls = walls[:0]
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    rotations = data.geom_xmat[walls].reshape(-1, 3, 3)
    half = (np.abs(rotations) @ model.geom_size[walls][:, :, None])[:, :, 0]
    wide = half + np.array([BERTH, BERTH, 0.0]) * take.camera.distance
    center, start = data.geom_xpos[walls], looked_at[:, :, None, :]
    way = eye(take.camera, start) - start
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = ((center + sign * wide - start) / way for sign in (-1.0, 1.0))
    enter, leave = np.fmin(one, other).max(axis=-1), np.fmax(one, other).min(axis=-1)
    # A wall behind the body comes near the line of sight too, but hides nothing.
    toward = np.clip(start, center - half, center + half) - start
    before = np.sum((toward * way)[..., :2], axis=-1) > 0.0
    hiding = (before & (np.maximum(enter, 0.0) <= np.minimum(leave, 1.0))).astype(float)
    return Veils(walls, gaussian_filter1d(hiding, CALM / take.model.control_step(), axis=0, mode="nearest"))

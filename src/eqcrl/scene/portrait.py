"""A picture of a task as it begins: the robot from near, and the way to its goal, or the whole maze, from above."""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image

from eqcrl.envs.mujoco import AbstractMujocoEnv, Camera
from eqcrl.files import atomic
from eqcrl.plots.output import check_suffix
from eqcrl.scene.film import Photographer
from eqcrl.scene.world import Take, followed

SIZE = (800, 600)


def portrait(env: AbstractMujocoEnv, path: str | Path, *, seed: int = 0) -> Path:
    """A PNG of a start; where the robot walks, a second picture beside it shows the maze, or the way to the goal.

    Raises: UsageError for another suffix; RunError if nothing can be drawn or the disk refuses.
    """
    path = Path(path)
    check_suffix(path, (".png",), "picture")
    state, goal = jax.jit(env.reset)(jax.random.key(seed))
    qpos = np.asarray(state.qpos, float)
    markers, camera, view = env.markers(np.asarray(goal)), env.camera(), env.top_view()
    nothing = np.zeros((1, 1), bool)
    take = Take(env.model(), camera, qpos[None, None], (markers,), nothing, nothing)
    lookat = followed(take)[0, 0]
    shots = [(camera, lookat)]
    if camera.body is not None:  # a fixed camera has the whole task in sight
        if view is not None and len(view.walls):
            shots.append(overview(np.asarray(view.low, float), np.asarray(view.high, float), camera.azimuth))
        elif markers:
            points = np.stack([lookat[:2], *(m.position[:2] for m in markers)])
            shots.append(overview(points.min(axis=0) - 2.0, points.max(axis=0) + 2.0, camera.azimuth))
    with Photographer(env.model(), *SIZE) as photographer:
        pictures = [photographer.picture(qpos, markers, *shot) for shot in shots]
    with atomic(path) as temporary:
        Image.fromarray(np.concatenate(pictures, axis=1)).save(temporary, format="PNG", optimize=True)
    return path


def overview(
    low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"], azimuth: float
) -> tuple[Camera, Float[np.ndarray, "3"]]:
    """A camera that has a rectangle of the floor in sight, and the point it looks at."""
    distance = 1.25 * float(np.linalg.norm(high - low))
    return Camera(distance=distance, elevation=-65.0, azimuth=azimuth), np.append((low + high) / 2, 0.0)

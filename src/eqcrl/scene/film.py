"""Films and stills of MuJoCo tasks: one panel an episode, the camera on the robot, the goal in translucent green."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import mujoco
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from eqcrl.envs.mujoco import Camera, Marker
from eqcrl.errors import UsageError
from eqcrl.files import atomic
from eqcrl.physics.model import Model
from eqcrl.plots.output import check_suffix
from eqcrl.plots.style import GREEN, INK, VERMILLION, rgb
from eqcrl.scene.gl import Renderer
from eqcrl.scene.world import GOAL_COLOR, Take, drawable, followed, place, veils
from eqcrl.video import FILM_SUFFIXES, shown_moments, write_film

PANEL = (320, 240)
"""Width and height of a panel in pixels."""
MAX_FPS = 30.0
"""Films show at most so many frames a second; a task that is controlled faster loses every other one."""
CAPTION = 20
MARGIN = 0.05
"""Part of half the picture at its edge in which a goal does not count as seen."""
FADING = 0.8
"""How much of its opacity a wall loses that hides the robot."""
_SHAPES = {"ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID, "box": mujoco.mjtGeom.mjGEOM_BOX}


class Photographer:
    """Pictures of one model, at poses and from where one likes. Close it, or use it in a `with`.

    Raises: RunError where nothing can be drawn.
    """

    def __init__(self, model: Model, width: int, height: int) -> None:
        self._model = drawable(model)
        self._data = mujoco.MjData(self._model)
        self._options = mujoco.MjvOption()
        self._renderer, self._shape = Renderer(self._model, width, height), height / width

    def picture(
        self,
        qpos: Float[np.ndarray, "nq"],
        markers: tuple[Marker, ...],
        camera: Camera,
        lookat: Float[np.ndarray, "3"],
        faded: Mapping[int, float] = MappingProxyType({}),
        *,
        compass: bool = False,
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The model in this pose and the markers, seen from the camera's angle and distance to `lookat`.

        `faded` has the opacity of geoms that are to be seen through, by their index. With `compass`, an arrow
        above `lookat` points to a first marker that is not in the picture.
        """
        place(self._model, self._data, qpos)
        view = mujoco.MjvCamera()
        view.lookat, view.distance = lookat, camera.distance
        view.azimuth, view.elevation = camera.azimuth, camera.elevation
        scene, everything = self._renderer.scene, int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(self._model, self._data, self._options, None, view, everything, scene)
        for drawn in scene.geoms[: scene.ngeom] if faded else ():
            if drawn.objtype == int(mujoco.mjtObj.mjOBJ_GEOM) and drawn.objid in faded:
                drawn.rgba[3] *= faded[drawn.objid]
        for marker in markers:
            _add_marker(scene, marker)
        if compass and markers and not self._sees(markers[0].position):
            _add_compass(scene, markers[0], camera.distance, lookat)
        return self._renderer.draw()

    def _sees(self, point: tuple[float, float, float]) -> bool:
        """Whether a point is within the picture of the scene as it was last set up; a wall may hide it."""
        left, right = self._renderer.scene.camera
        away = np.asarray(point) - (left.pos + right.pos) / 2
        depth = float(away @ left.forward)
        # How far from the middle of the picture it is, in halves of its height and of its width.
        half = depth * (left.frustum_top - left.frustum_bottom) / 2 / left.frustum_near
        up = float(away @ left.up) / half
        across = float(away @ np.cross(left.forward, left.up)) / half * self._shape
        return depth > 0 and max(abs(up), abs(across)) < 1.0 - MARGIN

    def close(self) -> None:
        """Free the graphics library."""
        self._renderer.close()

    def __enter__(self) -> "Photographer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def film(take: Take, path: str | Path, *, max_seconds: float = 20.0) -> Path:
    """A film of the episodes side by side in real time; the suffix of `path`, .mp4 or .gif, is the format.

    It ends a second after each episode has reached its goal or is over. Where that takes more than
    `max_seconds`, frames are left out evenly: it then runs faster than life, and its captions say by how much.

    Raises: UsageError for an unknown suffix or a camera on a body that is not there; RunError if nothing can be
    drawn, the disk refuses or there is no encoder.
    """
    path = Path(path)
    check_suffix(path, FILM_SUFFIXES, "film")
    rate = 1.0 / take.model.control_step()
    every = int(np.ceil(rate / MAX_FPS - 1e-9))
    moments = shown_moments(take.settled(), rate=rate, max_seconds=max_seconds, every=every)
    speed = (moments[1] - moments[0]) / every if len(moments) > 2 else 1.0
    with _Set(take, speed=speed) as scene:
        write_film(path, scene.frame, moments, fps=rate / every)
    return path


def strip(take: Take, path: str | Path, *, stills: int = 5) -> Path:
    """A PNG of `stills` moments from the start to the end of the film, left to right, one row an episode.

    Raises: UsageError for another suffix or less than two stills; RunError as `film` does.
    """
    path = Path(path)
    check_suffix(path, (".png",), "strip of stills")
    if stills < 2:
        raise UsageError(f"A strip of {stills} stills shows no motion.", mend="Ask for two or more.")
    rate, rows = 1.0 / take.model.control_step(), []
    with _Set(take, speed=1.0) as scene:
        for k in range(take.poses.shape[1]):
            last = shown_moments(take.settled()[:, [k]], rate=rate, max_seconds=np.inf)[-1]
            rows.append(np.concatenate([scene.panel(round(t), k) for t in np.linspace(0, last, stills)], axis=1))
    with atomic(path) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, format="PNG", optimize=True)
    return path


class _Set:
    """The panels of a take and what is written above them."""

    def __init__(self, take: Take, *, speed: float) -> None:
        self.take = take
        self.speed = speed
        self.looked_at = followed(take)
        self.veils = veils(take, self.looked_at)
        self.photographer = Photographer(take.model, *PANEL)

    def panel(self, t: int, k: int) -> UInt8[np.ndarray, "height width 3"]:
        """Episode k after t steps under its caption."""
        take = self.take
        hiding = self.veils.hiding[t, k]
        faded = {int(g): 1.0 - FADING * h for g, h in zip(self.veils.geoms, hiding, strict=True) if h > 0.01}
        follows = take.camera.body is not None
        picture = self.photographer.picture(
            take.poses[t, k], take.markers[k], take.camera, self.looked_at[t, k], faded, compass=follows
        )
        pace = f" ({self.speed:.3g}x)" if self.speed > 1 else ""
        caption = _caption(f"episode {k}, {take.seconds(t):.1f} s{pace}", *_state(take, t, k))
        return np.concatenate([caption, picture])

    def frame(self, t: int) -> UInt8[np.ndarray, "height width 3"]:
        """All panels after t steps, in two columns if there are more than two, white where one is missing."""
        panels = [self.panel(t, k) for k in range(self.take.poses.shape[1])]
        columns = int(np.ceil(np.sqrt(len(panels))))
        panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
        rows = [np.concatenate(panels[i : i + columns], axis=1) for i in range(0, len(panels), columns)]
        return np.concatenate(rows)

    def __enter__(self) -> "_Set":
        return self

    def __exit__(self, *_: object) -> None:
        self.photographer.close()


def _state(take: Take, t: int, k: int) -> tuple[str, str]:
    """How episode k stands after t steps, and the color to say it in."""
    held, ended = take.at_goal[: t + 1, k], take.ended[: t + 1, k]
    if held[t]:
        return "at the goal", GREEN
    if held.any():
        return f"was there at {take.seconds(int(held.argmax())):.1f} s", GREEN
    if ended[t]:
        return f"ended at {take.seconds(int(ended.argmax()) - 1):.1f} s", VERMILLION
    return "", INK


@lru_cache(maxsize=64)
def _caption(left: str, right: str, color: str) -> UInt8[np.ndarray, "height width 3"]:
    strip_ = Image.new("RGB", (PANEL[0], CAPTION), "white")
    draw, font = ImageDraw.Draw(strip_), _font()
    draw.text((5, CAPTION / 2), left, fill=rgb(INK), font=font, anchor="lm")
    draw.text((PANEL[0] - 5, CAPTION / 2), right, fill=rgb(color), font=font, anchor="rm")
    return np.asarray(strip_)


@lru_cache(maxsize=1)
def _font() -> Any:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 12)


def _add_marker(scene: mujoco.MjvScene, marker: Marker) -> None:
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom],
        int(_SHAPES[marker.shape]),
        np.asarray(marker.size, float),
        np.asarray(marker.position, float),
        np.eye(3).ravel(),
        np.asarray(GOAL_COLOR, np.float32),
    )
    scene.ngeom += 1


def _add_compass(scene: mujoco.MjvScene, goal: Marker, distance: float, lookat: Float[np.ndarray, "3"]) -> None:
    """An arrow over the robot, towards the goal."""
    way = np.append(np.asarray(goal.position[:2]) - lookat[:2], 0.0)
    away = max(float(np.linalg.norm(way)), 1e-9)
    start = lookat + np.array([0.0, 0.0, 0.14 * distance])
    arrow, kind = scene.geoms[scene.ngeom], int(mujoco.mjtGeom.mjGEOM_ARROW)
    color = np.asarray((*GOAL_COLOR[:3], 1.0), np.float32)
    mujoco.mjv_initGeom(arrow, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), color)
    mujoco.mjv_connector(arrow, kind, 0.007 * distance, start, start + 0.24 * distance * way / away)
    scene.ngeom += 1

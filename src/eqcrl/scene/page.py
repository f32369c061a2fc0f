"""A page that plays episodes in a browser, with orbit control and nothing to fetch: viser's static export."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, Int

from eqcrl.envs.mujoco import Marker
from eqcrl.errors import UsageError
from eqcrl.files import write_atomically
from eqcrl.plots.output import check_suffix
from eqcrl.scene.gl import SHOWN_GROUPS
from eqcrl.scene.world import GOAL_COLOR, Take, drawable, eye, followed
from eqcrl.video import HOLD, shown_moments

MAX_RATE = 25.0
"""At most so many poses a second; the browser does not blend between them."""
AMBIENT = 1.2
"""Brightness of the light from everywhere; viser's own lamps leave the sides of walls black."""
FLOOR_MARGIN = 4.0
"""Meters of floor shown beyond what stands or moves on it."""


def require_viser() -> Any:
    """The package viser. Raises: UsageError saying how to install it."""
    try:
        import viser
    except ImportError as error:
        raise UsageError(
            "A page needs the package viser, which is not installed.", mend="Install it: pip install 'eqcrl[html]'"
        ) from error
    return viser


def page(take: Take, path: str | Path, *, title: str, max_seconds: float = 20.0) -> Path:
    """A self-contained HTML file that plays the episodes one after another, in real time and over again.

    Each ends as in a film: a second after it reached its goal, within `max_seconds`.
    Raises: UsageError without viser, for another suffix or a shape of MuJoCo that a page cannot show; RunError if
    the disk refuses.
    """
    path = Path(path)
    check_suffix(path, (".html",), "page")
    viser = require_viser()
    # A server is what viser makes scenes with. Nobody connects to it: it listens to this machine alone, for a moment.
    # What it says of itself on the console has no place among the paths that a command prints.
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
        try:
            stage = _Stage(server, take)
            recording = server.get_scene_serializer()
            for k in range(take.poses.shape[1]):
                stage.play(recording, k, max_seconds)
            html = recording.as_html()
        finally:
            server.stop()
    write_atomically(path, html.replace("<title>Viser</title>", f"<title>{_escaped(title)}</title>", 1))
    return path


class _Stage:
    """The model as a viser scene: one frame a moving body, with its geoms in it."""

    def __init__(self, server: Any, take: Take) -> None:
        self.take = take
        self.scene = server.scene
        self.model = drawable(take.model)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_kinematics(self.model, self.data)
        self.scene.set_up_direction("+z")
        # The default one would be fetched from the network.
        self.scene.configure_environment_map(None)
        self.scene.add_light_ambient("/light", intensity=AMBIENT)
        looked_at = followed(take)
        low, high = looked_at.min(axis=(0, 1)), looked_at.max(axis=(0, 1))
        for markers in take.markers:
            for marker in markers:
                low, high = np.minimum(low, marker.position), np.maximum(high, marker.position)
        for geom in _shown(self.model):
            body = int(self.model.geom_bodyid[geom])
            if self.model.body_weldid[body] == 0:
                position = self.data.geom_xpos[geom]
                if self.model.geom_type[geom] != int(mujoco.mjtGeom.mjGEOM_PLANE):
                    reach = float(self.model.geom_rbound[geom])
                    low, high = np.minimum(low, position - reach), np.maximum(high, position + reach)
        for geom in _shown(self.model):
            self._add_geom(geom, low, high)
        self.bodies = {
            int(b): self.scene.add_frame(_name(int(b)), show_axes=False)
            for b in np.unique(self.model.geom_bodyid[_shown(self.model)])
            if self.model.body_weldid[b] != 0
        }
        self.goals = [
            [_add_marker(self.scene, f"/goal{k}_{i}", marker) for i, marker in enumerate(markers)]
            for k, markers in enumerate(take.markers)
        ]
        lookat, distance = looked_at[0, 0], take.camera.distance
        if take.camera.body is not None:  # the page's camera stays: all of the maze, or of the way, in sight
            lookat, distance = (low + high) / 2, max(distance, 1.1 * float(np.linalg.norm(high - low)))
        server.initial_camera.position = eye(replace(take.camera, distance=distance), lookat)
        server.initial_camera.look_at = lookat
        server.initial_camera.fov = float(np.radians(self.model.vis.global_.fovy))
        self._pose(0, 0)
        self._show_goal(0)

    def play(self, recording: Any, k: int, max_seconds: float) -> None:
        """Record episode k: its goal, its poses in their time, and a pause."""
        take = self.take
        rate = 1.0 / take.model.control_step()
        every = int(np.ceil(rate / MAX_RATE - 1e-9))
        self._show_goal(k)
        moments = shown_moments(take.settled()[:, [k]], rate=rate, max_seconds=max_seconds, every=every)
        for t in moments:
            self._pose(t, k)
            recording.insert_sleep(every / rate)
        recording.insert_sleep(HOLD)

    def _show_goal(self, k: int) -> None:
        for other, handles in enumerate(self.goals):
            for handle in handles:
                handle.visible = other == k

    def _pose(self, t: int, k: int) -> None:
        self.data.qpos[:] = self.take.poses[t, k]
        mujoco.mj_kinematics(self.model, self.data)
        for body, handle in self.bodies.items():
            handle.position = np.round(self.data.xpos[body], 4)
            handle.wxyz = np.round(self.data.xquat[body], 4)

    def _add_geom(self, geom: int, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> None:
        model = self.model
        body = int(model.geom_bodyid[geom])
        static = model.body_weldid[body] == 0
        quaternion = np.empty(4)
        if static:
            mujoco.mju_mat2Quat(quaternion, self.data.geom_xmat[geom])
            position, parent = self.data.geom_xpos[geom], ""
        else:
            quaternion[:] = model.geom_quat[geom]
            position, parent = model.geom_pos[geom], _name(body)
        where = {"name": f"{parent}/geom{geom}", "position": np.array(position), "wxyz": quaternion}
        color, opacity = _color(model, geom)
        if model.geom_type[geom] == int(mujoco.mjtGeom.mjGEOM_PLANE):
            self._add_floor(geom, where, low, high)
            return
        vertices, faces = surface(model, geom)
        sharp = int(model.geom_type[geom]) == int(mujoco.mjtGeom.mjGEOM_BOX)
        self.scene.add_mesh_simple(
            **where, vertices=vertices, faces=faces, color=color, opacity=opacity, flat_shading=sharp
        )

    def _add_floor(self, geom: int, where: Any, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> None:
        """A grid of meters where something stands or moves; MuJoCo's planes go on to the horizon."""
        center, half = where["position"], self.model.geom_size[geom][:2]
        limits = np.where(half > 0, half, np.inf)
        first = np.maximum(low[:2] - FLOOR_MARGIN, center[:2] - limits)
        last = np.minimum(high[:2] + FLOOR_MARGIN, center[:2] + limits)
        middle = np.append((first + last) / 2, center[2])
        width, height = (last - first).tolist()
        color, _ = _color(self.model, geom)
        self.scene.add_grid(
            where["name"],
            position=middle,
            width=width,
            height=height,
            plane="xy",
            cell_size=1.0,
            section_size=0.0,
            cell_color=(205, 209, 215),
            plane_color=color,
            plane_opacity=1.0,
            fade_strength=0.0,
        )


def surface(model: mujoco.MjModel, geom: int) -> tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "faces 3"]]:
    """The surface of a geom in its own frame, in meters, faces turned outwards.

    Raises: UsageError for height fields and signed distance functions.
    """
    kind, size = mujoco.mjtGeom(int(model.geom_type[geom])), np.asarray(model.geom_size[geom], float)
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return _round(np.full(3, size[0]), 0.0)
    if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        return _round(size, 0.0)
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return _round(np.full(3, size[0]), size[1])
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return _revolved(np.array([0.0, size[0], size[0], 0.0]), np.array([-1.0, -1.0, 1.0, 1.0]) * size[1])
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return _box(size)
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        v, f = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
        vertices = model.mesh_vert[v : v + int(model.mesh_vertnum[mesh])]
        return np.array(vertices, float), np.array(model.mesh_face[f : f + int(model.mesh_facenum[mesh])], int)
    raise UsageError(f"A page cannot show the shape {kind.name}.", mend="Make a film instead.")


def _round(radii: Float[np.ndarray, "3"], half_length: float) -> Any:
    """An ellipsoid, its halves moved apart along z by `half_length` each: a capsule."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 14)  # an even number: the equator is no ring of its own
    vertices, faces = _revolved(np.cos(angles), np.sin(angles))
    return vertices * radii + np.sign(vertices[:, [2]]) * np.array([0.0, 0.0, half_length]), faces


def _revolved(radii: Float[np.ndarray, "rings"], heights: Float[np.ndarray, "rings"], around: int = 24) -> Any:
    """The surface that a curve from the south to the north pole makes around the z axis."""
    turn = 2 * np.pi * np.arange(around) / around
    rings = np.stack([np.outer(radii, np.cos(turn)), np.outer(radii, np.sin(turn))], axis=-1)
    vertices = np.concatenate([rings, np.broadcast_to(heights[:, None, None], (len(radii), around, 1))], axis=-1)
    a = np.arange(len(radii) - 1)[:, None] * around + np.arange(around)
    b = np.arange(len(radii) - 1)[:, None] * around + (np.arange(around) + 1) % around
    faces = np.concatenate([np.stack([a, b, b + around], -1), np.stack([a, b + around, a + around], -1)])
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)


def _box(half: Float[np.ndarray, "3"]) -> Any:
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def _shown(model: mujoco.MjModel) -> list[int]:
    """Geoms that MuJoCo's viewer shows by default."""
    return [g for g in range(model.ngeom) if model.geom_group[g] in SHOWN_GROUPS and _color(model, g)[1] != 0.0]


def _color(model: mujoco.MjModel, geom: int) -> tuple[tuple[int, int, int], float | None]:
    """Color of 0 to 255, and opacity; None is opaque. A material's color counts unless the geom has its own."""
    rgba = np.array(model.geom_rgba[geom], float)
    material = int(model.geom_matid[geom])
    if material >= 0 and np.allclose(rgba, (0.5, 0.5, 0.5, 1.0)):
        rgba = np.array(model.mat_rgba[material], float)
    texture = int(model.mat_texid[material, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]) if material >= 0 else -1
    if texture >= 0:  # its mean stands for a pattern
        begin, channels = int(model.tex_adr[texture]), int(model.tex_nchannel[texture])
        end = begin + int(model.tex_width[texture]) * int(model.tex_height[texture]) * channels
        rgba[:3] *= model.tex_data[begin:end].reshape(-1, channels)[:, :3].mean(axis=0) / 255
    red, green, blue = (np.clip(rgba[:3], 0, 1) * 255).round().astype(int).tolist()
    return (red, green, blue), None if rgba[3] >= 1.0 else float(rgba[3])


def _add_marker(scene: Any, name: str, marker: Marker) -> Any:
    size = np.asarray(marker.size, float)
    vertices, faces = _round(size, 0.0) if marker.shape == "ellipsoid" else _box(size)
    color = tuple(round(255 * c) for c in GOAL_COLOR[:3])
    return scene.add_mesh_simple(
        name,
        vertices=vertices,
        faces=faces,
        color=color,
        opacity=GOAL_COLOR[3],
        flat_shading=marker.shape == "box",
        position=marker.position,
        cast_shadow=False,
    )


def _name(body: int) -> str:
    return f"/body{body}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")

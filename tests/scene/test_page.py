"""Pages: shapes, what is recorded, nothing to fetch, and what a browser shows."""

import base64
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import mujoco
import numpy as np
import pytest
import zstandard

from eqcrl.errors import UsageError
from eqcrl.scene import page
from eqcrl.scene.world import drawable
from scene.ball import Ball, is_green, is_red, take
from scene.browser import chromium, visit


def recorded(html: str) -> dict[str, Any]:
    """The recording that a page holds."""
    (data,) = re.findall(r'__VISER_EMBED_DATA__="([A-Za-z0-9+/=]+)"', html)
    inner = zstandard.ZstdDecompressor().decompressobj().decompress(base64.b64decode(data)[8:])
    length = int.from_bytes(inner[:8], "little")
    return msgspec.msgpack.decode(inner[8 : 8 + length], strict=False)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Of what a closed surface encloses; negative if its faces are turned inwards."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.sum(a * np.cross(b, c)) / 6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ball", 4 / 3 * np.pi * 0.5**3),
        ("capsule", 4 / 3 * np.pi * 0.1**3 + np.pi * 0.1**2 * 0.6),
        ("cylinder", np.pi * 0.1**2 * 0.4),
        ("ellipsoid", 4 / 3 * np.pi * 0.1 * 0.2 * 0.3),
        ("box", 8 * 0.1 * 0.2 * 0.3),
    ],
)
def test_surfaces_enclose_what_the_geom_does(name: str, expected: float) -> None:
    model = drawable(Ball().model())
    geom = model.geom(name)
    vertices, faces = page.surface(model, geom.id)
    assert volume(vertices, faces) == pytest.approx(expected, rel=0.04)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1).max(), geom.rbound[0], rtol=0.02)


def test_a_mesh_is_shown_as_it_is() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><mesh name="m" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/></asset>'
        '<worldbody><geom type="mesh" mesh="m"/></worldbody></mujoco>'
    )
    vertices, faces = page.surface(model, 0)
    assert volume(vertices, faces) == pytest.approx(1 / 6, rel=1e-3)


def test_a_shape_without_a_surface_is_refused() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><hfield name="h" nrow="2" ncol="2" size="1 1 1 1"/></asset>'
        '<worldbody><geom type="hfield" hfield="h"/></worldbody></mujoco>'
    )
    with pytest.raises(UsageError, match="cannot show the shape mjGEOM_HFIELD"):
        page.surface(model, 0)


def test_colors_of_geoms_materials_and_textures() -> None:
    model = mujoco.MjModel.from_xml_string("""<mujoco><asset>
        <texture name="t" type="2d" builtin="checker" rgb1="0 0 0" rgb2="1 1 1" width="64" height="64"/>
        <material name="plain" rgba="0 1 0 1"/><material name="checker" texture="t"/>
        </asset><worldbody><geom size="1"/><geom size="1" rgba="1 0 0 0.5"/><geom size="1" material="plain"/>
        <geom size="1" material="checker"/></worldbody></mujoco>""")
    found = [page._color(model, g) for g in range(4)]
    assert found[:3] == [((128, 128, 128), None), ((255, 0, 0), 0.5), ((0, 255, 0), None)]
    assert all(120 <= c <= 135 for c in found[3][0])


def test_the_page_holds_every_pose_in_its_time_and_fetches_nothing(tmp_path: Path) -> None:
    it = take(lambda t: np.stack([0.3 * t, 0 * t], -1), goals=[(9.0, 9.0), (0.9, 0.0)])
    path = page.page(it, tmp_path / "new" / "page.html", title="ball & <goal>")
    html = path.read_text(encoding="utf-8")
    assert "<title>ball &amp; &lt;goal></title>" in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", html)
    assert not re.findall(r"""(?:import|fetch)\s*\(\s*["'](?:https?:)?//""", html)
    assert path.stat().st_size < 2_000_000
    found = recorded(html)
    # Two episodes: 11 poses, and 8 until a second after the goal; 0.2 s each and a pause of a second.
    assert found["durationSeconds"] == pytest.approx(11 * 0.2 + 1 + 8 * 0.2 + 1)
    messages = found["messages"]
    (ball,) = {m["name"] for _, m in messages if m["type"] == "FrameMessage" and m["name"].startswith("/body1")}
    moved = [(t, m["position"]) for t, m in messages if m["type"] == "SetPositionMessage" and m["name"] == ball]
    at = {round(t, 3): position for t, position in moved}
    for k, t in ((0, 3), (0, 10), (1, 2), (1, 7)):
        x = at[round(t * 0.2 + (0.0 if k == 0 else 11 * 0.2 + 1), 3)][0]
        assert x == pytest.approx(0.3 * t, abs=1e-3)
    names = {m["name"] for _, m in messages if m["type"] == "MeshMessage"}
    assert len([n for n in names if "geom" in n]) == 6  # the wall, the ball and four of the arm's; not the hidden one
    assert {"/goal0_0", "/goal1_0"} <= names


def test_what_cannot_be_shown_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"\.htm is no format.*\n.*\.html"):
        page.page(take(), tmp_path / "page.htm", title="")
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UsageError, match=r"viser, which is not installed\.\n  Install it: pip install 'eqcrl\[html\]'"):
        page.page(take(), tmp_path / "page.html", title="")
    assert list(tmp_path.iterdir()) == []


def test_a_browser_plays_it(tmp_path: Path) -> None:
    """In headless Chromium without any network; where there is none, what the page holds is all that can be tested."""
    it = take(lambda t: np.stack([0.3 * t - 1.5, 0 * t], -1), goals=[(1.5, 1.5)], follow=False)
    path = page.page(it, tmp_path / "page.html", title="the ball")
    assert len(recorded(path.read_text(encoding="utf-8"))["messages"]) > 11
    program = chromium()
    if program is None:
        return

    def where(picture: np.ndarray) -> float:
        return float(np.argwhere(is_red(picture[:400]))[:, 1].mean()) if is_red(picture[:400]).sum() > 50 else np.nan

    def moved(pictures: list[np.ndarray]) -> bool:
        places = np.array([where(p) for p in pictures])
        return bool(np.isfinite(places).any() and np.nanmax(places) - np.nanmin(places) > 60)

    seen = visit(program, path, tmp_path / "profile", moved)
    assert seen.title == "the ball"
    assert is_green(seen.pictures[-1]).sum() > 50
    assert seen.errors == []
    assert {url.partition(":")[0] for url in seen.requests} <= {"file", "data", "blob"}

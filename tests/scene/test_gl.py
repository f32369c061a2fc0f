"""Drawing without a screen, and what is said where that cannot be done."""

import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from eqcrl.errors import RunError
from eqcrl.scene import gl
from eqcrl.scene.world import drawable
from scene.ball import Ball, is_red

DRAW = """
import sys
from eqcrl.errors import RunError
from eqcrl.scene.gl import Renderer, require_drawing
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
try:
    require_drawing()
    with Renderer(model, 64, 48) as renderer:
        print(renderer.draw().shape)
except RunError as error:
    print(error)
    sys.exit(7)
"""


def draw_in_a_process(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-c", DRAW], env=kept | environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_a_picture_has_its_size_and_the_body_in_its_middle() -> None:
    model = drawable(Ball().model())
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    view = mujoco.MjvCamera()
    view.lookat, view.distance, view.azimuth, view.elevation = (0, 0, 0.5), 5.0, 90.0, -45.0
    with gl.Renderer(model, 200, 120) as renderer:
        mujoco.mjv_updateScene(
            model, data, mujoco.MjvOption(), None, view, int(mujoco.mjtCatBit.mjCAT_ALL), renderer.scene
        )
        picture = renderer.draw()
        assert picture.shape == (120, 200, 3)
        rows, columns = np.nonzero(is_red(picture))
        assert abs(rows.mean() - 60) < 4
        assert abs(columns.mean() - 100) < 4
        np.testing.assert_array_equal(renderer.draw(), picture)
    renderer.close()  # once more does no harm


def test_a_process_that_drew_ends_in_silence() -> None:
    done = draw_in_a_process()
    assert (done.returncode, done.stdout, done.stderr) == (0, "(48, 64, 3)\n", "")


def test_without_a_driver_the_way_out_is_named() -> None:
    """EGL is there, and finds no driver in a folder that does not exist."""
    done = draw_in_a_process(MUJOCO_GL="egl", __EGL_VENDOR_LIBRARY_DIRS="/nowhere")
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("MuJoCo cannot draw with EGL: ")
    assert "apt-get install libegl1" in done.stdout
    assert "libosmesa6" in done.stdout


def test_with_neither_library_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl, "_egl_works", lambda: False)
    monkeypatch.setattr(gl.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(RunError, match=r"neither EGL with a driver nor OSMesa\.\n.*libegl1.*libosmesa6"):
        gl.require_drawing()


def test_a_wish_for_no_drawing_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with pytest.raises(RunError, match="MUJOCO_GL=disable forbids"):
        gl.require_drawing()

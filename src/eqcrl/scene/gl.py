"""Pictures of a MuJoCo model without a screen: EGL, or OSMesa where that does not work.

Not `mujoco.Renderer`: which library that one draws with is decided when `mujoco` is imported, long before anybody
knows that there is something to draw, and a wrong choice makes that import fail.
"""

import ctypes
import ctypes.util
import os
import sys
from typing import Any

import mujoco
import numpy as np
from jaxtyping import UInt8

from eqcrl.errors import RunError

MAX_GEOMS = 20_000
SHOWN_GROUPS = (0, 1, 2)
"""Groups of geoms that are drawn, as MuJoCo's own viewer has it by default."""
_MEND = "On Debian or Ubuntu `apt-get install libegl1` or `apt-get install libosmesa6` gives MuJoCo a way to draw."


class Renderer:
    """Draws scenes of one model into arrays of `width` by `height` pixels; close it, or use it in a `with`.

    Shadows and reflections are off: in software they cost six times the rest of the picture.
    Raises: RunError where no OpenGL context can be made.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self.scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = 0
        self.scene.flags[int(mujoco.mjtRndFlag.mjRND_REFLECTION)] = 0
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._gl: Any = _open_context(width, height)
        try:
            self._gl.make_current()
            self._drawer = mujoco.MjrContext(model, int(mujoco.mjtFontScale.mjFONTSCALE_100))
        except (mujoco.FatalError, RuntimeError) as error:
            self._gl.free()
            raise RunError(f"MuJoCo cannot draw here: {error}", mend=_MEND) from error
        mujoco.mjr_resizeOffscreen(width, height, self._drawer)
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._drawer)

    def draw(self) -> UInt8[np.ndarray, "height width 3"]:
        """The scene as it stands."""
        self._gl.make_current()
        mujoco.mjr_render(self._rectangle, self.scene, self._drawer)
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rectangle, self._drawer)
        return pixels[::-1]

    def close(self) -> None:
        """Free what the graphics library holds; without it OSMesa complains at the end of the program."""
        if self._gl is not None:
            self._drawer.free()
            self._gl.free()
            self._gl = None

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_context(width: int, height: int) -> Any:
    """An OpenGL context. `MUJOCO_GL` decides with which library if it is set, as everywhere with MuJoCo."""
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked in ("disable", "disabled", "off", "false", "0"):
        raise RunError(f"MUJOCO_GL={asked} forbids to draw.", mend="Unset MUJOCO_GL.")
    if sys.platform != "linux" or asked not in ("", "egl", "osmesa"):
        return _made("the library that MuJoCo uses by itself", lambda: mujoco.GLContext(width, height))
    if asked == "egl" or (asked == "" and _egl_works()):
        return _made("EGL", lambda: _egl()(width, height))
    if asked == "osmesa" or ctypes.util.find_library("OSMesa") is not None:
        return _made("OSMesa", lambda: _osmesa()(width, height))
    raise RunError("Nothing can be drawn here: there is neither EGL with a driver nor OSMesa.", mend=_MEND)


def _made(library: str, make: Any) -> Any:
    try:
        return make()
    # PyOpenGL answers a missing library with an AttributeError of None, MuJoCo a missing driver with an ImportError.
    except Exception as error:
        raise RunError(f"MuJoCo cannot draw with {library}: {error}", mend=_MEND) from error


def _egl() -> Any:
    from mujoco import egl

    return egl.GLContext


def _osmesa() -> Any:
    from mujoco import osmesa

    return osmesa.GLContext


def _egl_works() -> bool:
    """Whether EGL has a device that starts, asked without PyOpenGL, which binds the process to its first library."""
    try:
        egl = ctypes.CDLL(ctypes.util.find_library("EGL") or "libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    addresses = [egl.eglGetProcAddress(f) for f in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")]
    if not all(addresses):
        return False
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, integer, pointer, pointer)(addresses[0])
    platform_display = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(addresses[1])
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int(0)
    if not query_devices(16, devices, ctypes.byref(count)):
        return False
    platform_device = 0x313F  # EGL_PLATFORM_DEVICE_EXT
    egl.eglInitialize.argtypes, egl.eglInitialize.restype = (pointer, pointer, pointer), ctypes.c_uint
    displays = (platform_display(platform_device, devices[i], None) for i in range(count.value))
    # Not terminated again: a display is one per device and process, and MuJoCo is about to use the same.
    return any(display and egl.eglInitialize(display, None, None) for display in displays)


def require_drawing() -> None:
    """Raises: RunError where no picture can be drawn; asked before work of minutes that would end in one."""
    _open_context(64, 64).free()

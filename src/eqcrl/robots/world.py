"""What stands around a robot: floor, light and the walls of a maze, added to a model before it is compiled.

Contacts go by two bits. Bit 1 is the floor: a geom that stands on it has contype 1. Bit 2 is the walls, which have
contype 2: a geom that they stop has conaffinity 2. Floor and walls never meet, and neither do the parts of a robot.
"""

import mujoco
import numpy as np
from jaxtyping import Bool, Int

from eqcrl.envs.mazes import Maze
from eqcrl.errors import ConfigError

FLOOR_BIT, WALL_BIT = 1, 2
WALL_HEIGHT = 0.5  # of the edge of a cell

# Merged or not. Every simulation holds a pose of about 100 bytes for each box: 0.4 MB at 4000. Where boxes are not
# merged the engine also measures all pairs of a box and a part of the robot in each step.
MOST_BOXES = {True: 4000, False: 1000}

WALL_COLOR = (0.55, 0.60, 0.66, 1.0)
FLOOR_COLORS = (0.80, 0.81, 0.82), (0.70, 0.72, 0.74)


def add_floor(spec: mujoco.MjSpec) -> None:
    """The plane z = 0 with a checker of 2 m tiles, and one light from above that follows nothing."""
    texture = spec.add_texture(
        name="checker",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        width=256,
        height=256,
        rgb1=FLOOR_COLORS[0],
        rgb2=FLOOR_COLORS[1],
    )
    material = spec.add_material(name="floor", texrepeat=(0.5, 0.5), texuniform=True, reflectance=0.0, specular=0.1)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture.name
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(100.0, 100.0, 1.0),
        material=material.name,
        rgba=(1.0, 1.0, 1.0, 1.0),  # else the robot's default color would tint it
        contype=0,
        conaffinity=FLOOR_BIT,
    )
    spec.worldbody.add_light(
        name="sun",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=(0.0, 0.0, 30.0),
        dir=(0.25, 0.35, -1.0),
        diffuse=(0.40, 0.40, 0.40),
        ambient=(0.15, 0.15, 0.15),
        specular=(0.1, 0.1, 0.1),
    )


def add_maze(
    spec: mujoco.MjSpec, maze: Maze, cell_size: float, *, merged: bool, origin: tuple[float, float] = (0.0, 0.0)
) -> None:
    """The walls of a maze as static boxes, half as high as a cell is wide.

    Cell (i, j) is centered on `origin` + `cell_size` * (i, j). One box for each cell, or, if `merged`, for each
    rectangle of cells. Unit boxes suit an engine that finds the nearest pairs by bounding spheres, to which a long
    box is always near.
    """
    half_height = WALL_HEIGHT * cell_size / 2
    for top, left, bottom, right in wall_rectangles(maze.walls(), merged=merged):
        x = origin[0] + (top + bottom - 1) * cell_size / 2
        y = origin[1] + (left + right - 1) * cell_size / 2
        spec.worldbody.add_geom(
            name=f"wall_{top}_{left}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=((bottom - top) * cell_size / 2, (right - left) * cell_size / 2, half_height),
            pos=(x, y, half_height),
            rgba=WALL_COLOR,
            contype=WALL_BIT,
            conaffinity=0,
        )


def check_walls(maze: Maze, *, merged: bool) -> None:
    """Refuse a layout with more wall boxes than a model should have, before one is built.

    Raises: ConfigError.
    """
    boxes, most = len(wall_rectangles(maze.walls(), merged=merged)), MOST_BOXES[merged]
    if boxes > most:
        raise ConfigError(
            f"The layout {maze.name} has {boxes} wall boxes; this physics engine takes at most {most}.",
            mend="Use a smaller layout.",
        )


def wall_rectangles(walls: Bool[np.ndarray, "rows columns"], *, merged: bool) -> Int[np.ndarray, "boxes 4"]:
    """Disjoint rectangles that cover exactly the wall cells: first row and column, and the ones after the last.

    Merged greedily in reading order, each as wide as it can be and then as tall; else every cell is its own.
    """
    left_over = walls.copy()
    found = []
    for top, left in np.argwhere(walls):
        if not left_over[top, left]:
            continue
        bottom, right = top + 1, left + 1
        if merged:
            while right < walls.shape[1] and left_over[top, right]:
                right += 1
            while bottom < walls.shape[0] and left_over[bottom, left:right].all():
                bottom += 1
        left_over[top:bottom, left:right] = False
        found.append((top, left, bottom, right))
    return np.array(found, dtype=np.int32).reshape(-1, 4)

"""Floor and walls: boxes exactly where the layout says, contacts only where they are wanted."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eqcrl.envs.mazes import LAYOUTS, find_maze, parse_maze
from eqcrl.errors import ConfigError
from eqcrl.robots.world import MOST_BOXES, add_floor, add_maze, check_walls, wall_rectangles


def world(layout: str, cell_size: float, *, merged: bool, origin: tuple[float, float] = (0.0, 0.0)) -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    add_floor(spec)
    add_maze(spec, find_maze(layout), cell_size, merged=merged, origin=origin)
    return mujoco.MjModel.from_xml_string(spec.to_xml())


@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.booleans())
def test_rectangles_cover_every_wall_cell_once_and_nothing_else(walls: np.ndarray, merged: bool) -> None:
    covered = np.zeros(walls.shape, int)
    for top, left, bottom, right in wall_rectangles(walls, merged=merged):
        covered[top:bottom, left:right] += 1
    np.testing.assert_array_equal(covered, walls)


@pytest.mark.parametrize(
    ("layout", "boxes", "merged"), [("u", 18, 5), ("u4", 24, 6), ("u5", 39, 6), ("big", 38, 13), ("hardest", 62, 17)]
)
def test_merging_leaves_few_boxes(layout: str, boxes: int, merged: int) -> None:
    walls = find_maze(layout).walls()
    assert len(wall_rectangles(walls, merged=False)) == boxes
    assert len(wall_rectangles(walls, merged=True)) == merged


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_walls_stand_where_the_layout_says(layout: str, merged: bool) -> None:
    """Rays from above meet the top of a wall, or the floor, at nine places of every cell."""
    cell_size, origin = 2.0, (-3.0, 5.0)
    model = world(layout, cell_size, merged=merged, origin=origin)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    hit = np.zeros(1, np.int32)
    for (i, j), wall in np.ndenumerate(find_maze(layout).walls()):
        for di in (-0.49, 0.0, 0.49):
            for dj in (-0.49, 0.0, 0.49):
                above = np.array([origin[0] + (i + di) * cell_size, origin[1] + (j + dj) * cell_size, 10.0])
                depth = mujoco.mj_ray(model, data, above, np.array([0.0, 0.0, -1.0]), None, True, -1, hit)
                assert depth == pytest.approx(9.0 if wall else 10.0)
                assert model.geom(int(hit[0])).name.startswith("wall" if wall else "floor")


def test_walls_rest_on_the_floor_and_never_meet_it() -> None:
    model = world("big", 4.0, merged=False)
    walls = [i for i in range(model.ngeom) if model.geom(i).name.startswith("wall")]
    np.testing.assert_allclose(model.geom_size[walls], np.tile([2.0, 2.0, 1.0], (len(walls), 1)))
    np.testing.assert_allclose(model.geom_pos[walls, 2], 1.0)
    floor = model.geom("floor").id
    for one in walls:
        for other in (*walls, floor):
            assert not model.geom_contype[one] & model.geom_conaffinity[other]
            assert not model.geom_contype[other] & model.geom_conaffinity[one]


def test_the_floor_keeps_its_color_and_has_light() -> None:
    spec = mujoco.MjSpec.from_string('<mujoco><default><geom rgba="1 0 0 1" contype="1"/></default></mujoco>')
    add_floor(spec)
    model = mujoco.MjModel.from_xml_string(spec.to_xml())
    floor = model.geom("floor")
    np.testing.assert_array_equal(floor.rgba, 1.0)
    assert (floor.contype[0], floor.conaffinity[0], model.nlight, model.ntex) == (0, 1, 1, 1)


def room(side: int) -> str:
    """A room with pillars that cannot be merged."""
    walls = np.zeros((side, side), bool)
    walls[[0, -1]] = walls[:, [0, -1]] = walls[2:-2:2, 2:-2:2] = True
    symbols = np.where(walls, "#", ".")
    symbols[1, 1], symbols[-2, -2] = "R", "G"
    return "/".join("".join(row) for row in symbols)


@pytest.mark.parametrize("merged", [True, False])
def test_a_layout_with_too_many_boxes_is_refused_before_it_is_built(merged: bool) -> None:
    side = 2 * round(MOST_BOXES[merged] ** 0.5) + 7
    with pytest.raises(ConfigError, match=rf"layout mine has \d+ wall boxes.*at most {MOST_BOXES[merged]}"):
        check_walls(parse_maze(room(side), "mine"), merged=merged)
    check_walls(parse_maze(room(41), "mine"), merged=merged)
    for name in LAYOUTS:
        check_walls(find_maze(name), merged=merged)

"""Pictures of what networks hold: drawn where the findings say, whole, and with the walls where the layout has them."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from eqcrl.analysis import BlockUpdates, Embeddings, ValueMap
from eqcrl.envs.base import TopView
from eqcrl.envs.mazes import parse_maze
from eqcrl.errors import UsageError
from eqcrl.plots import embeddings, q_map, residual_norms
from eqcrl.plots.style import LINE_COLORS, WALL, rgb
from pictures import assert_whole

CELL = 2.0
# No symmetry: mirrored, turned or transposed it is another maze.
LOPSIDED = "#######/#R...##/#.##..#/#.###G#/#######"


def lopsided(scale: float = 1.0) -> ValueMap:
    """The value grows to the right and a little downwards, four positions a cell side."""
    maze = parse_maze(LOPSIDED, "test")
    rows, columns = maze.shape()
    first, second = (-CELL / 2 + (np.arange(4 * n) + 0.5) * CELL / 4 for n in (rows, columns))
    values = scale * (second[None, :] + 0.1 * first[:, None])
    values[np.repeat(np.repeat(maze.walls(), 4, axis=0), 4, axis=1)] = np.nan
    return ValueMap(values, first, second, np.array([6.0, 10.0]), np.array([2.0, 2.0]), 0.5, maze.top_view(CELL))


def color_at(figure: Figure, image: np.ndarray, point: tuple[float, float]) -> np.ndarray:
    """The color of the picture at a point of the plane, (down, right), reckoned from the corner of the axes."""
    axes = figure.axes[0]
    box = axes.get_window_extent()
    (left, right), (top, bottom) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    row = image.shape[0] - box.y1 + (point[0] - top) / (bottom - top) * box.height
    column = box.x0 + (point[1] - left) / (right - left) * box.width
    return image[round(row), round(column)]


# --- the critic over the maze


def test_walls_and_values_lie_where_the_layout_says(tmp_path: Path) -> None:
    path = tmp_path / "q.png"
    figure = q_map({"arch.depth=8": lopsided()}, path)
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    for (i, j), wall in np.ndenumerate(parse_maze(LOPSIDED, "test").walls()):
        color = color_at(figure, image, (i * CELL + 0.6, j * CELL + 0.55))
        assert (np.abs(color - rgb(WALL)).max() < 12) == wall, (i, j, color)
    # Lighter to the right, as the values are.
    left, right = color_at(figure, image, (2.6, 2.55)), color_at(figure, image, (2.6, 8.55))
    assert right.sum() > left.sum() + 100
    axes = figure.axes[0]
    assert axes.get_title() == "arch.depth=8"
    (circle,) = [patch for patch in axes.patches if isinstance(patch, Circle)]
    assert circle.center == (10.0, 6.0)
    assert circle.radius == 0.5
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[2.0, 2.0]], [[10.0, 6.0]]]
    (bar,) = axes.child_axes
    assert bar.get_ylabel() == "critic f(φ(s, π(s, g)), ψ(g))"
    assert_whole(figure, path)


def test_every_map_has_colors_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "q.png"
    maps = {"arch.depth=8": lopsided(), "arch.depth=64": lopsided(scale=100.0), "flat": lopsided(scale=0.0)}
    figure = q_map(maps, path, title="point-maze")
    limits = [axes.images[0].get_clim() for axes in figure.axes if axes.images and axes.get_title()]
    assert len(limits) == 3
    assert limits[1][1] == pytest.approx(100 * limits[0][1])
    assert_whole(figure, path)


def test_an_open_plane_has_no_walls(tmp_path: Path) -> None:
    view = TopView(np.zeros((0, 4)), (-1.0, -1.0), (1.0, 1.0))
    at = np.array([-0.5, 0.5])
    found = ValueMap(np.array([[0.0, 1.0], [2.0, 3.0]]), at, at, np.zeros(2), at, 0.1, view)
    figure = q_map({"crl": found}, tmp_path / "q.pdf")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["start", "goal and its success radius"]
    nothing = ValueMap(np.full((2, 2), np.nan), at, at, np.zeros(2), at, 0.1, view)
    for maps in ({}, {"crl": nothing}):
        with pytest.raises(UsageError, match="no map of the critic"):
            q_map(maps, tmp_path / "none.png")


# --- phi along trajectories


def two_episodes() -> Embeddings:
    """The first reaches its goal; the second ends early, and does not."""
    points = np.full((5, 2, 2), np.nan)
    points[:, 0] = [[0, 0], [1, 0], [2, 1], [3, 1], [4, 2]]
    points[:4, 1] = [[0, 3], [0, 4], [0, 5], [0, 6]]
    return Embeddings(points, np.array([[4.0, 2.5], [5.0, 6.0]]), np.array([True, False]), np.array([0.625, 0.25]))


def test_paths_of_phi_end_where_episodes_do(tmp_path: Path) -> None:
    path = tmp_path / "phi.png"
    figure = embeddings({"arch.depth=8": two_episodes()}, path)
    axes = figure.axes[0]
    whole, dashed = (c for c in axes.collections if isinstance(c, LineCollection))
    np.testing.assert_array_equal([s[0] for s in whole.get_segments()], two_episodes().points[:4, 0])
    # Of the failure every other step is drawn, and none after its end.
    np.testing.assert_array_equal([s[0] for s in dashed.get_segments()], two_episodes().points[[0, 2], 1])
    np.testing.assert_array_equal(whole.get_array(), [0, 1, 2, 3])
    ends = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines}
    assert ends["o"] == [[4, 2]]
    assert ends["X"] == [[0, 6]]
    assert ends["+"] == [[4, 2.5], [5, 6]]
    assert axes.get_xlabel() == "first principal component (62%)"
    assert axes.get_ylabel() == "second principal component (25%)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "φ at the start", "φ along an episode that reached the goal (1)", "φ along an episode that did not (1)",
        "ψ of its goal",
    ]  # fmt: skip
    low, high = axes.get_ylim()
    assert low < 0 < 6 < high
    assert_whole(figure, path)


def test_runs_side_by_side_share_the_colors_of_time(tmp_path: Path) -> None:
    path = tmp_path / "phi.png"
    one = two_episodes()
    short = Embeddings(one.points[:3, :1], one.goals[:1], one.success[:1], one.explained)
    figure = embeddings({"a": one, "b": short, "c": short, "d": short}, path, title="two runs")
    drawn = [axes.collections for axes in figure.axes if axes.get_title()]
    assert len(drawn) == 4
    assert {c.norm.vmax for collections in drawn for c in collections} == {4.0}
    assert_whole(figure, path)
    with pytest.raises(UsageError, match="no embeddings"):
        embeddings({}, path)


# --- what blocks add


def test_every_block_of_every_run_is_there(tmp_path: Path) -> None:
    path = tmp_path / "norms.png"
    found = {
        "arch.depth=32": BlockUpdates(64, {n: np.geomspace(4, 1, 8) for n in ("actor", "phi", "psi")}),
        "arch.depth=256": BlockUpdates(64, {n: np.geomspace(9, 1, 64) for n in ("actor", "phi", "psi")}),
        "actor_arch=mlp": BlockUpdates(64, {n: np.ones(2) for n in ("phi", "psi")}),
    }
    figure = residual_norms(found, path)
    assert [axes.get_title() for axes in figure.axes] == ["actor", "phi", "psi"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 3, 3]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), np.arange(1, 9))
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), np.geomspace(9, 1, 64))
    assert {axes.get_yscale() for axes in figure.axes} == {"linear"}
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert [line.get_color() for line in figure.axes[1].lines] == list(LINE_COLORS[:3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(found)
    assert_whole(figure, path)
    far = {"deep": BlockUpdates(64, {"phi": np.geomspace(500, 1, 64)})}
    assert residual_norms(far, path).axes[0].get_yscale() == "log"
    with pytest.raises(UsageError, match="no blocks to draw along"):
        residual_norms({"mlp": BlockUpdates(4, {})}, path)

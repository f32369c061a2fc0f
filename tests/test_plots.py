"""Learning curves, comparisons over seeds, and trajectories over the maze: what is in the pictures."""

import subprocess
import sys
import threading
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.figure import Figure
from PIL import Image

from eqcrl.envs.base import TopView
from eqcrl.envs.mazes import find_maze, parse_maze
from eqcrl.errors import RunError, UsageError
from eqcrl.evaluate import Episodes
from eqcrl.plots import compare, compare_panels, learning_curve, trajectories
from eqcrl.plots.groups import align
from eqcrl.plots.style import LINE_COLORS, LINE_DASHES, house_style, line_style

CELL = 2.0
# No symmetry: mirrored, turned or transposed it is another maze.
LOPSIDED = "#######/#R...##/#.##..#/#.###G#/#######"


def view_of(layout: str) -> TopView:
    maze = parse_maze(layout, "test") if "/" in layout else find_maze(layout)
    rows, columns = maze.shape()
    return TopView(maze.wall_boxes(CELL), (-CELL / 2, -CELL / 2), ((rows - 0.5) * CELL, (columns - 0.5) * CELL))


def episodes_of(*paths: list[tuple[float, float]], goal: tuple[float, float], radius: float = 0.5) -> Episodes:
    """Episodes along these paths of equal length to one goal."""
    achieved = np.stack([np.array(path, float) for path in paths], axis=1)
    distance = np.linalg.norm(achieved[1:] - np.array(goal), axis=-1)
    return Episodes(
        jnp.asarray(achieved), jnp.tile(jnp.asarray(goal, float), (len(paths), 1)), jnp.asarray(distance < radius),
        jnp.ones(distance.shape, bool), jnp.asarray(distance),
    )  # fmt: skip


def records_of(values: list[float]) -> list[dict[str, float]]:
    return [
        {"env_steps": i * 1000, "grad_steps": 10 * i, "wall_seconds": 2.0 * i, "eval/success_any": value}
        for i, value in enumerate(values)
    ]


def full_record(step: int) -> dict[str, float]:
    return {
        "env_steps": step, "grad_steps": step, "wall_seconds": float(step), "eval/success_any": 0.5,
        "eval/success_end": 0.4, "eval/time_at_goal": 7.0, "eval/distance_end": 2.0, "train/critic_loss": 3.0,
        "train/actor_loss": 1.0, "train/categorical_accuracy": 0.2,
    }  # fmt: skip


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def color_at(figure: Figure, image: np.ndarray, point: tuple[float, float]) -> np.ndarray:
    """The color that the picture has at a point of the plane, (down, right).

    Reckoned from the upper left corner of the axes, not with their own transform: that would turn with them.
    """
    axes = figure.axes[0]
    box = axes.get_window_extent()
    (left, right), (top, bottom) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    row = image.shape[0] - box.y1 + (point[0] - top) / (bottom - top) * box.height
    column = box.x0 + (point[1] - left) / (right - left) * box.width
    return image[round(row), round(column)]


# --- one run


def test_learning_curve_has_a_panel_for_each_measure(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "curve.png"
    figure = learning_curve([full_record(s) for s in (0, 1000, 2000)], path, title="point-u-maze, seed 0")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "success (share)", "time at goal (steps per episode)", "distance to goal at the end", "critic loss",
        "actor loss", "categorical accuracy (share)",
    ]  # fmt: skip
    assert [line.get_label() for line in figure.axes[0].lines] == ["at any step", "at the last step"]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [7, 7, 7])
    image = Image.open(path)
    assert image.format == "PNG"
    assert image.size == tuple(round(150 * side) for side in figure.get_size_inches())
    assert len(np.unique(pixels(path).reshape(-1, 3), axis=0)) > 20


def test_learning_curve_leaves_out_what_was_not_recorded(tmp_path: Path) -> None:
    records = [{"env_steps": 10, "eval/success_any": 0.1, "train/critic_loss": float("nan")}]
    figure = learning_curve(records, tmp_path / "curve.svg")
    assert [axes.get_title() for axes in figure.axes] == ["success (share)"]
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_losses_and_evaluations_share_the_horizontal_range(tmp_path: Path) -> None:
    untrained = {k: v for k, v in full_record(0).items() if not k.startswith("train/")}
    figure = learning_curve([untrained, full_record(1000), full_record(2000)], tmp_path / "curve.png")
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


@pytest.mark.parametrize("records", [[], [{"env_steps": 3}], [{"eval/success_any": 0.5}]])
def test_learning_curve_without_data_is_an_error(records: list[dict[str, float]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"no learning curve to draw: {len(records)} records.*eval/success_any"):
        learning_curve(records, tmp_path / "curve.png")
    assert list(tmp_path.iterdir()) == []


# --- comparison


def test_curves_meet_on_one_grid_without_extrapolation() -> None:
    grid, values = align([
        (np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 2.0])),
        (np.array([5.0, 15.0]), np.array([5.0, 15.0])),
    ])  # fmt: skip
    np.testing.assert_array_equal(grid, [5, 10, 15])
    np.testing.assert_allclose(values, [[0.5, 1.0, 1.5], [5, 10, 15]])
    with pytest.raises(UsageError, match="do not overlap: one starts at 30"):
        align([(np.array([0.0, 10.0]), np.zeros(2)), (np.array([30.0, 40.0]), np.zeros(2))])


def bands(figure: Figure) -> list[FillBetweenPolyCollection]:
    return [c for c in figure.axes[0].collections if isinstance(c, FillBetweenPolyCollection)]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_compare_draws_mean_and_band_of_several_seeds_and_no_band_of_one(tmp_path: Path) -> None:
    groups = {"deep": [records_of([0.0, 0.4]), records_of([0.2, 1.0])], "shallow": [records_of([0.1, 0.1])]}
    figure = compare(groups, "eval/success_any", tmp_path / "compare.png")
    assert legend_of(figure) == ["deep (2 seeds)", "shallow (1 seed, no interval)"]
    deep, shallow = figure.axes[0].lines
    np.testing.assert_allclose(deep.get_xydata(), [[0, 0.1], [1000, 0.7]])
    np.testing.assert_allclose(shallow.get_xydata(), [[0, 0.1], [1000, 0.1]])
    [band] = bands(figure)
    corners = band.get_paths()[0].vertices
    # Two seeds: the resampled means are the two values and their mean, so the interval is their range.
    assert np.asarray(corners)[:, 1].min() == pytest.approx(0.0)
    assert np.asarray(corners)[:, 1].max() == pytest.approx(1.0)
    assert Image.open(tmp_path / "compare.png").size == tuple(round(150 * side) for side in figure.get_size_inches())


def test_the_curve_is_the_interquartile_mean(tmp_path: Path) -> None:
    """One seed of five that learns nothing, and one that is far ahead, do not move it."""
    runs = [records_of([0.0, value]) for value in (0.0, 0.5, 0.55, 0.6, 1.0)]
    figure = compare({"a": runs}, "eval/success_any", tmp_path / "a.png")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0.0, 0.55])
    assert figure.axes[0].get_title() == "interquartile mean over seeds with its 95% bootstrap interval"


def test_every_environment_has_a_panel_and_a_label_one_look(tmp_path: Path) -> None:
    def seeds(count: int) -> list[list[dict[str, float]]]:
        return [records_of([0.1 * i, 0.2]) for i in range(count)]

    panels = {"maze": {"a": seeds(3), "b": seeds(3)}, "arm": {"b": seeds(3)}, "ant": {"b": seeds(1), "a": seeds(3)}}
    figure = compare_panels(panels, "eval/success_any", tmp_path / "panels.png")
    assert [axes.get_title() for axes in figure.axes] == ["maze", "arm", "ant"]
    # Colors follow the label, not its place in the panel.
    first, second = LINE_COLORS[:2]
    assert [[line.get_color() for line in axes.lines] for axes in figure.axes] == [
        [first, second], [second], [second, first],
    ]  # fmt: skip
    assert legend_of(figure) == ["a (3 seeds)", "b (ant: 1 seed, no interval; others: 3 seeds)"]
    shown = [text.get_window_extent() for text in figure.legends[0].get_texts()]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in shown)
    with pytest.raises(UsageError, match="no runs to compare"):
        compare_panels({"maze": panels["maze"], "arm": {}}, "eval/success_any", tmp_path / "none.png")


def test_compare_wraps_names_that_are_wider_than_the_figure(tmp_path: Path) -> None:
    """Every line of the legend ends inside of the picture, and no word is lost."""
    name = ", ".join(f"train.some_setting_{i}={i * 10_000}" for i in range(9))
    figure = compare(
        {name: [records_of([0.0, 0.4])], "short": [records_of([0.1])]}, "eval/success_any", tmp_path / "a.png"
    )
    shown = legend_of(figure)
    assert " ".join(shown[0].split()) == f"{name} (1 seed, no interval)"
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.get_size_inches()[0] * figure.dpi


def test_compare_says_where_a_short_run_cuts_its_group(tmp_path: Path) -> None:
    groups = {"a": [records_of([0.0, 0.1, 0.2, 0.3]), records_of([0.0, 0.1])]}
    figure = compare(groups, "eval/success_any", tmp_path / "compare.pdf")
    assert legend_of(figure) == ["a (2 seeds, cut where the shortest ends)"]
    assert figure.axes[0].lines[0].get_xdata()[-1] == 1000
    assert (tmp_path / "compare.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("x", "label", "last"),
    [("env_steps", "environment steps", 2e6), ("grad_steps", "gradient steps", 20_000),
     ("wall_seconds", "wall time (h)", 4000 / 3600)],
)  # fmt: skip
def test_compare_over_each_axis(x: str, label: str, last: float, tmp_path: Path) -> None:
    records = [
        {"env_steps": i * 1000, "grad_steps": i * 10, "wall_seconds": i * 2.0, "m": 1.0} for i in (0, 1000, 2000)
    ]
    longer = [*records, {"wall_seconds": 11_000.0, "m": 1.0}]
    figure = compare({"a": [records], "b": [longer]}, "m", tmp_path / "compare.png", x=x)
    assert figure.axes[0].get_xlabel() == label
    assert figure.axes[0].lines[0].get_xdata()[-1] == pytest.approx(last)


def test_compare_refuses_what_it_cannot_draw(tmp_path: Path) -> None:
    runs = {"a": [records_of([0.0, 1.0])]}
    path = tmp_path / "compare.png"
    with pytest.raises(UsageError, match=r"'eval/sucess_any'.\n  Did you mean 'eval/success_any'"):
        compare(runs, "eval/sucess_any", path)
    with pytest.raises(UsageError, match=r"'env_step' is no horizontal axis.\n  Did you mean 'env_steps'"):
        compare(runs, "eval/success_any", path, x="env_step")
    with pytest.raises(UsageError, match="no runs to compare"):
        compare({}, "eval/success_any", path)
    with pytest.raises(UsageError, match="no runs to compare"):
        compare({"a": []}, "eval/success_any", path)
    with pytest.raises(UsageError, match="no metrics yet"):
        compare({"a": [[]]}, "eval/success_any", path)
    with pytest.raises(UsageError, match="1 of the 2 runs of 'a' lack"):
        compare({"a": [*runs["a"], []]}, "eval/success_any", path)
    with pytest.raises(UsageError, match=r"\.bmp is no format.*\n.*\.png or \.pdf or \.svg"):
        compare(runs, "eval/success_any", tmp_path / "compare.bmp")
    assert list(tmp_path.iterdir()) == []


# --- trajectories


@pytest.mark.parametrize("layout", ["u", "big", "hardest", LOPSIDED])
def test_walls_stand_where_the_layout_says(layout: str, tmp_path: Path) -> None:
    maze = parse_maze(layout, "test") if "/" in layout else find_maze(layout)
    corner = (-0.9, -0.9)  # in the wall, so that nothing is drawn over a cell's center
    figure = trajectories(
        episodes_of([corner, corner], goal=corner, radius=0.05), view_of(layout), tmp_path / "t.png",
        success_radius=0.05,
    )  # fmt: skip
    image = pixels(tmp_path / "t.png")
    for (i, j), wall in np.ndenumerate(maze.walls()):
        color = color_at(figure, image, (i * CELL, j * CELL))
        assert (color.max() < 120) if wall else (color.min() == 255), (i, j, color)


def test_a_path_is_drawn_down_and_right_as_the_grid_is_read(tmp_path: Path) -> None:
    right_and_down = [(2.0, 2.0), (2.0, 8.0), (4.0, 10.0), (6.0, 10.0)]
    figure = trajectories(
        episodes_of(right_and_down, goal=(6.0, 10.0)),
        view_of(LOPSIDED),
        tmp_path / "t.png",
        success_radius=0.5,
    )
    image = pixels(tmp_path / "t.png")
    # On the first leg, rightwards: blue. At the mirrored point, on the way down, nothing.
    red, _, blue = color_at(figure, image, (2.0, 5.0))
    assert blue - red > 80
    assert color_at(figure, image, (5.0, 2.0)).min() == 255
    axes = figure.axes[0]
    assert axes.transData.transform((2, 2))[1] > axes.transData.transform((2, 6))[1]
    assert axes.transData.transform((2, 2))[0] < axes.transData.transform((6, 2))[0]


def test_success_and_failure_differ_in_color_dash_and_marker(tmp_path: Path) -> None:
    reached, short = [(2.0, 2.0), (2.0, 6.0), (2.0, 8.0)], [(2.0, 2.0), (4.0, 2.0), (6.0, 2.0)]
    figure = trajectories(
        episodes_of(reached, short, short, goal=(2.0, 8.0)), view_of(LOPSIDED), tmp_path / "t.png",
        success_radius=0.5, title="lopsided",
    )  # fmt: skip
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "lopsided\nsuccess in 1 of 3 episodes (33%)"
    failed, succeeded = (c for c in axes.collections if isinstance(c, LineCollection))
    assert len(failed.get_segments()) == 2
    assert len(succeeded.get_segments()) == 1
    np.testing.assert_allclose(succeeded.get_segments()[0], np.array(reached)[:, ::-1])
    assert failed.get_linestyle()[0][1] is not None  # dashes
    assert succeeded.get_linestyle()[0][1] is None
    assert not np.array_equal(failed.get_color(), succeeded.get_color())
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "reached the goal (1)", "did not reach it (2)", "start", "goal", "success radius 0.5", "wall",
    ]  # fmt: skip
    # Outside of the maze, inside of the picture.
    box = legend.get_window_extent()
    assert box.x0 >= axes.get_window_extent().x1
    assert box.x1 <= figure.bbox.x1


def test_of_many_episodes_the_first_are_drawn_and_all_are_counted(tmp_path: Path) -> None:
    path = [(2.0, 2.0), (2.0, 4.0)]
    figure = trajectories(
        episodes_of(*[path] * 9, goal=(2.0, 4.0)), view_of(LOPSIDED), tmp_path / "t.png", success_radius=0.5,
        num_drawn=4,
    )  # fmt: skip
    assert figure.axes[0].get_title(loc="left") == "success in 9 of 9 episodes (100%), the first 4 drawn"


def test_the_picture_grows_to_hold_paths_beyond_the_bounds(tmp_path: Path) -> None:
    open_plane = TopView(np.zeros((0, 4)), (-1.0, -1.0), (1.0, 1.0))
    figure = trajectories(
        episodes_of([(0.0, 0.0), (-5.0, 30.0), (float("nan"), 0.0)], goal=(0.0, 1.0)), open_plane,
        tmp_path / "t.png", success_radius=0.5,
    )  # fmt: skip
    assert figure.axes[0].get_xlim() == (-1.0, 30.0)
    assert figure.axes[0].get_ylim() == (1.0, -5.0)


def test_trajectories_refuse_what_has_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "t.png"
    good, view = episodes_of([(2.0, 2.0), (2.0, 4.0)], goal=(2.0, 4.0)), view_of("u")
    with pytest.raises(UsageError, match="no top view"):
        trajectories(good, None, path, success_radius=0.5)
    none = eqx.tree_at(
        lambda e: (e.achieved_goal, e.desired_goal, e.at_goal), good,
        (jnp.zeros((2, 0, 2)), jnp.zeros((0, 2)), jnp.zeros((1, 0), bool)),
    )  # fmt: skip
    with pytest.raises(UsageError, match="no episodes"):
        trajectories(none, view, path, success_radius=0.5)
    with pytest.raises(UsageError, match="not episodes"):
        trajectories(eqx.tree_at(lambda e: e.at_goal, good, jnp.zeros((7, 1), bool)), view, path, success_radius=0.5)
    line = eqx.tree_at(
        lambda e: (e.achieved_goal, e.desired_goal),
        good,
        (good.achieved_goal[..., :1], good.desired_goal[:, :1]),
    )
    with pytest.raises(UsageError, match="one coordinate"):
        trajectories(line, view, path, success_radius=0.5)
    with pytest.raises(UsageError, match="0 episodes cannot be drawn"):
        trajectories(good, view, path, success_radius=0.5, num_drawn=0)
    assert list(tmp_path.iterdir()) == []


# --- files and style


def test_what_the_disk_refuses_is_said_with_path_and_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"Cannot write .*file: (Not a directory|File exists)"):
        learning_curve([full_record(0)], tmp_path / "file" / "curve.png")
    (tmp_path / "curve.png").mkdir()
    with pytest.raises(RunError, match=r"Cannot write .*: Is a directory"):
        learning_curve([full_record(0)], tmp_path / "curve.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.png", "file"]  # no temporary files


def test_a_failed_picture_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    learning_curve([full_record(0)], path)
    before = path.read_bytes()
    with pytest.raises(UsageError):
        learning_curve([], path)
    assert path.read_bytes() == before


def test_the_style_leaves_the_users_settings_as_they_were(tmp_path: Path) -> None:
    with mpl.rc_context({"font.size": 31.0, "axes.grid": False}):
        before = dict(mpl.rcParams)
        figure = learning_curve([full_record(0), full_record(1)], tmp_path / "curve.png")
        assert dict(mpl.rcParams) == before
        assert figure.axes[0].title.get_fontsize() == 11  # and the picture does not follow them


def test_threads_do_not_leave_the_style_behind() -> None:
    before = dict(mpl.rcParams)
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with house_style():
            entered.set()
            leave.wait(10)

    def second() -> None:
        entered.wait(10)
        with house_style():
            pass

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    entered.wait(10)
    threads[1].join(0.2)
    assert threads[1].is_alive()  # waits for the first
    leave.set()
    for thread in threads:
        thread.join(10)
    assert dict(mpl.rcParams) == before


def test_28_lines_all_differ() -> None:
    assert len({tuple(line_style(i).values()) for i in range(28)}) == 28 == len(LINE_COLORS) * len(LINE_DASHES)


def test_drawing_needs_no_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys; from eqcrl import plots, render\n"
        f"plots.learning_curve([{{'env_steps': 1, 'eval/success_any': 0.5}}], {str(tmp_path / 'c.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert (tmp_path / "c.png").stat().st_size > 1000

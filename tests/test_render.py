"""Films and strips: formats, frames, sizes, and what is where in a frame."""

import time
from pathlib import Path

import imageio_ffmpeg
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from eqcrl.envs.base import TopView
from eqcrl.envs.mazes import find_maze, parse_maze
from eqcrl.errors import RunError, UsageError
from eqcrl.evaluate import Episodes
from eqcrl.plots.plane import plane_of
from eqcrl.plots.stage import Stage
from eqcrl.plots.style import BLUE, GREEN, WALL, rgb
from eqcrl.render import animate, film_steps, strip

CELL, RADIUS = 2.0, 0.5
# No symmetry: mirrored, turned or transposed it is another maze.
LOPSIDED = "#######/#R...##/#.##..#/#.###G#/#######"
GOAL = (6.0, 10.0)


def view_of(layout: str) -> TopView:
    maze = parse_maze(layout, "test") if "/" in layout else find_maze(layout)
    rows, columns = maze.shape()
    return TopView(maze.wall_boxes(CELL), (-CELL / 2, -CELL / 2), ((rows - 0.5) * CELL, (columns - 0.5) * CELL))


def walk(num_episodes: int, steps: int, arrivals: dict[int, int]) -> Episodes:
    """Episodes in the lopsided maze: k arrives at its goal after `arrivals[k]` steps and stays, others stop halfway."""
    corners = np.array([(2.0, 2.0), (2.0, 8.0), (4.0, 9.6), GOAL])
    achieved = np.empty((steps + 1, num_episodes, 2))
    for k in range(num_episodes):
        end, last = (1.0, arrivals[k]) if k in arrivals else (0.5, steps)
        share = end * np.minimum(np.arange(steps + 1) / last, 1.0) * (len(corners) - 1)
        for axis in (0, 1):
            achieved[:, k, axis] = np.interp(share, np.arange(len(corners)), corners[:, axis])
    distance = np.linalg.norm(achieved[1:] - np.array(GOAL), axis=-1)
    return Episodes(
        jnp.asarray(achieved), jnp.tile(jnp.asarray(GOAL), (num_episodes, 1)), jnp.asarray(distance < 1e-3),
        jnp.ones(distance.shape, bool), jnp.asarray(distance),
    )  # fmt: skip


def near(color: np.ndarray, expected: str, tolerance: int = 30) -> bool:
    return bool(np.abs(color.astype(int) - np.array(rgb(expected))).max() <= tolerance)


def at(stage: Stage, frame: np.ndarray, panel: int, point: tuple[float, float]) -> np.ndarray:
    row, column = np.floor(stage.pixel(panel, np.array(point))).astype(int)
    return frame[row, column]


# --- frames


@pytest.mark.parametrize("layout", ["u", "big", "hardest", LOPSIDED])
def test_walls_stand_where_the_layout_says_in_every_panel(layout: str) -> None:
    maze = parse_maze(layout, "test") if "/" in layout else find_maze(layout)
    plane = plane_of(walk(3, 4, {}), view_of(layout), RADIUS)
    stage = Stage(plane, [0, 1, 2], columns=2, width=640)
    frame = stage.frame(0)
    assert frame.shape == (*stage.size, 3)
    for panel in range(3):
        for (i, j), wall in np.ndenumerate(maze.walls()):
            point = (i * CELL - 0.6, j * CELL - 0.6)  # beside start and goal, which stand in the centers
            if np.hypot(*(np.array(point) - GOAL)) > 0.7:
                assert near(at(stage, frame, panel, point), WALL if wall else "#FFFFFF", 0), (panel, i, j)


def test_the_dot_moves_right_then_down_and_leaves_a_trail() -> None:
    plane = plane_of(walk(1, 30, {0: 30}), view_of(LOPSIDED), RADIUS)
    stage = Stage(plane, [0], columns=1, width=640)
    early, middle, late = (stage.frame(t) for t in (0, 10, 30))
    assert near(at(stage, early, 0, (2.0, 2.0)), BLUE)
    assert near(at(stage, early, 0, (2.0, 8.0)), "#FFFFFF", 0)
    assert near(at(stage, middle, 0, (2.0, 8.0)), BLUE)
    trail = at(stage, middle, 0, (2.0, 5.0)).astype(int)
    assert trail[2] - trail[0] > 30  # bluish
    faded = at(stage, late, 0, (2.0, 5.0)).astype(int)
    assert trail[0] < faded[0] < 255  # paler, and still there
    assert near(at(stage, middle, 0, (5.0, 2.0)), "#FFFFFF", 0)  # the mirrored point


def test_at_the_goal_the_dot_becomes_a_ring() -> None:
    plane = plane_of(walk(1, 10, {0: 10}), view_of(LOPSIDED), RADIUS)
    stage = Stage(plane, [0], columns=1, width=640)
    before, after = stage.frame(9), stage.frame(10)
    row, column = np.floor(stage.pixel(0, plane.paths[9, 0])).astype(int)
    assert near(before[row, column], BLUE)
    row, column = np.floor(stage.pixel(0, np.array(GOAL))).astype(int)
    assert near(after[row, column], "#FFFFFF")  # white core
    ring = after[row, column : column + 16]
    assert any(near(color, GREEN, 10) for color in ring)
    caption = after[: stage.caption, stage.size[1] // 2 :]
    assert any(near(color, GREEN, 10) for color in caption.reshape(-1, 3))  # "at the goal"
    assert not any(near(color, GREEN, 10) for color in before[: stage.caption].reshape(-1, 3))


def test_the_goal_is_drawn_with_its_radius() -> None:
    plane = plane_of(walk(1, 10, {}), view_of(LOPSIDED), RADIUS)
    stage = Stage(plane, [0], columns=1, width=640)
    frame = stage.frame(0)
    inside = at(stage, frame, 0, (GOAL[0] + 0.2, GOAL[1] + 0.2)).astype(int)
    assert inside[1] > inside[0] + 20  # greenish
    assert near(at(stage, frame, 0, (GOAL[0] - 0.2, GOAL[1] - 0.7)), "#FFFFFF", 0)


def test_frames_do_not_depend_on_the_order_they_are_asked_for() -> None:
    plane = plane_of(walk(2, 12, {0: 6}), view_of(LOPSIDED), RADIUS)
    stage, fresh = (Stage(plane, [0, 1], columns=2, width=400) for _ in range(2))
    stage.frame(12)
    np.testing.assert_array_equal(stage.frame(3), fresh.frame(3))


def test_sixteen_small_panels_keep_their_captions_apart() -> None:
    plane = plane_of(walk(16, 100, dict.fromkeys(range(16), 90)), view_of("u"), RADIUS)
    stage = Stage(plane, list(range(16)), columns=4, width=640)
    frame = stage.frame(100)
    row, column = stage.pixel(5, plane.low).astype(int)
    caption = frame[row - stage.caption : row, column : column + stage.panel[1]]
    inked = np.flatnonzero((caption.min(axis=2) < 128).any(axis=0))
    green = np.flatnonzero([any(near(c, GREEN, 40) for c in caption[:, i]) for i in range(caption.shape[1])])
    black = np.flatnonzero((caption.max(axis=2) < 100).any(axis=0))
    assert black.max() + 4 < green.min()
    assert inked.max() < caption.shape[1]


# --- which steps


def test_a_film_ends_a_second_after_the_last_success() -> None:
    plane = plane_of(walk(3, 200, {0: 20, 1: 50}), view_of(LOPSIDED), RADIUS)
    assert film_steps(plane, [0, 1], fps=20, max_seconds=60.0) == list(range(71))
    assert film_steps(plane, [0, 2], fps=20, max_seconds=60.0) == list(range(201))  # episode 2 fails
    assert film_steps(plane, [1], fps=50, max_seconds=60.0)[-1] == 100


def test_a_long_film_leaves_out_frames_evenly() -> None:
    plane = plane_of(walk(1, 1000, {}), view_of(LOPSIDED), RADIUS)
    steps = film_steps(plane, [0], fps=20, max_seconds=10.0)
    assert len(steps) <= 202
    assert steps[0] == 0
    assert steps[-1] == 1000
    assert set(np.diff(steps[:-1]).tolist()) == {6}


# --- files


def test_gif_has_a_frame_per_step_and_is_small_and_fast(tmp_path: Path) -> None:
    episodes = walk(6, 120, {0: 60, 1: 80})
    path = tmp_path / "new" / "folder" / "film.gif"
    started = time.process_time()
    assert animate(episodes, view_of(LOPSIDED), path, success_radius=RADIUS) == path
    assert time.process_time() - started < 10
    assert path.stat().st_size < 2_000_000
    film = Image.open(path)
    assert (film.format, film.n_frames, film.info["loop"]) == ("GIF", 121, 0)
    assert film.size[0] == 640
    durations = []
    for k in range(film.n_frames):
        film.seek(k)
        durations.append(film.info["duration"])
    assert durations == [50] * 120 + [1000]
    last = np.asarray(film.convert("RGB"))
    stage = Stage(plane_of(episodes, view_of(LOPSIDED), RADIUS), [0, 1, 2, 3], columns=2, width=640)
    # The palette costs little: the last frame is what was drawn.
    assert np.abs(last.astype(int) - stage.frame(120)).mean() < 3
    assert [p.name for p in path.parent.iterdir()] == ["film.gif"]


@pytest.mark.filterwarnings("ignore:os.fork")  # the reader of imageio-ffmpeg, not the film's writer
def test_mp4_has_a_frame_per_step_and_one_second_more(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    animate(walk(2, 40, {}), view_of(LOPSIDED), path, success_radius=RADIUS, shown=[1], fps=10, width=321)
    assert imageio_ffmpeg.count_frames_and_secs(str(path)) == (51, pytest.approx(5.1))
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    stage = Stage(plane_of(walk(2, 40, {}), view_of(LOPSIDED), RADIUS), [1], columns=1, width=321)
    assert (height, width) == tuple(stage.size)
    assert height % 2 == width % 2 == 0
    first = np.frombuffer(next(reader), np.uint8).reshape(height, width, 3)
    reader.close()
    assert np.abs(first.astype(int) - stage.frame(0)).mean() < 4
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_strip_has_a_row_per_episode_and_a_column_per_still(tmp_path: Path) -> None:
    episodes, view = walk(3, 40, {2: 10}), view_of(LOPSIDED)
    path = strip(episodes, view, tmp_path / "strip.png", success_radius=RADIUS, shown=[0, 2], stills=4, width=800)
    picture = np.asarray(Image.open(path))
    plane = plane_of(episodes, view, RADIUS)
    stage = Stage(plane, [2], columns=1, width=200)
    height, width = stage.size
    assert picture.shape == (2 * height, 4 * width, 3)
    np.testing.assert_array_equal(picture[height:, :width], stage.frame(0))
    np.testing.assert_array_equal(picture[height:, -width:], stage.frame(30))  # a second after its success
    np.testing.assert_array_equal(picture[:height, -width:], Stage(plane, [0], columns=1, width=200).frame(40))


def test_an_open_plane_without_walls_is_drawn(tmp_path: Path) -> None:
    view = TopView(np.zeros((0, 4)), (0.0, 0.0), (1.0, 1.0))
    path = animate(walk(1, 5, {}), view, tmp_path / "film.gif", success_radius=RADIUS)
    assert Image.open(path).n_frames == 6


# --- errors


def test_what_cannot_be_filmed_is_refused(tmp_path: Path) -> None:
    episodes, view = walk(2, 5, {}), view_of(LOPSIDED)
    gif = tmp_path / "film.gif"
    with pytest.raises(UsageError, match=r"\.avi is no format.*\n.*\.gif or \.mp4"):
        animate(episodes, view, tmp_path / "film.avi", success_radius=RADIUS)
    with pytest.raises(UsageError, match=r"no suffix is no format"):
        animate(episodes, view, tmp_path / "film", success_radius=RADIUS)
    with pytest.raises(UsageError, match=r"\.gif is no format.*\n.*\.png"):
        strip(episodes, view, gif, success_radius=RADIUS)
    with pytest.raises(UsageError, match="no top view"):
        animate(episodes, None, gif, success_radius=RADIUS)
    with pytest.raises(UsageError, match="no top view"):
        strip(episodes, None, tmp_path / "strip.png", success_radius=RADIUS)
    for fps in (0, 51):
        with pytest.raises(UsageError, match=f"fps = {fps} .*\n.*1 to 50"):
            animate(episodes, view, gif, success_radius=RADIUS, fps=fps)
    for shown in (0, [], [2], [-1]):
        with pytest.raises(UsageError, match=r"2 were evaluated\.\n  Choose from 0 to 1"):
            animate(episodes, view, gif, success_radius=RADIUS, shown=shown)
    with pytest.raises(UsageError, match="1 stills shows no motion"):
        strip(episodes, view, tmp_path / "strip.png", success_radius=RADIUS, stills=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_what_the_disk_refuses_is_said_with_path_and_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"Cannot write .*file: (Not a directory|File exists)"):
        animate(walk(1, 3, {}), view_of("u"), tmp_path / "file" / name, success_radius=RADIUS)
    (tmp_path / name).mkdir()
    with pytest.raises(RunError, match=r"Cannot write .*: Is a directory"):
        animate(walk(1, 3, {}), view_of("u"), tmp_path / name, success_radius=RADIUS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", name]  # no temporary files


def test_without_an_encoder_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-ffmpeg"))
    with pytest.raises(RunError, match=r"film\.mp4 cannot be written, ffmpeg does not start: .*\n  A \.gif needs"):
        animate(walk(1, 3, {}), view_of("u"), tmp_path / "film.mp4", success_radius=RADIUS)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_encoder_leaves_the_earlier_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"earlier")
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no space >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(RunError, match=r"film\.mp4 cannot be written, ffmpeg ended with 1: no space"):
        animate(walk(1, 60, {}), view_of("u"), path, success_radius=RADIUS)
    assert path.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ffmpeg", "film.mp4"]

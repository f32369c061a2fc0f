"""Films and stills in space: frames, sizes, what is where in them."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from eqcrl.envs.mujoco import Camera, Marker
from eqcrl.errors import UsageError
from eqcrl.scene import film
from eqcrl.scene.film import CAPTION, PANEL, Photographer
from scene.ball import Ball, is_green, is_red, take

WIDTH, HEIGHT = PANEL


def frames_of(path: Path) -> list[np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


def center(mask: np.ndarray) -> np.ndarray:
    assert mask.sum() > 20
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_film_shows_the_ball_roll_past_the_wall(tmp_path: Path) -> None:
    it = take(lambda t: np.stack([0.2 * t - 1, 0 * t], -1), follow=False, goals=[(1.5, 0.0), (9.0, 9.0), (-1.0, 0.0)])
    assert film.film(it, tmp_path / "new" / "film.mp4") == tmp_path / "new" / "film.mp4"
    frames = frames_of(tmp_path / "new" / "film.mp4")
    assert len(frames) == 11 + 5  # the last one stays for a second, and 5 control steps make a second
    assert frames[0].shape == (2 * (HEIGHT + CAPTION), 2 * WIDTH, 3)
    first, last = (frame[CAPTION : CAPTION + HEIGHT, :WIDTH] for frame in (frames[0], frames[10]))
    before, after = center(is_red(first)), center(is_red(last))
    assert after[1] - before[1] > 40  # x is to the right
    assert abs(after[0] - before[0]) < 3
    goal = center(is_green(first))
    assert goal[1] > before[1] + 40  # at x = 1.5
    dark = np.argwhere(first.astype(int).max(axis=-1) < 110)
    assert dark[:, 0].mean() > before[0] + 20  # the wall stands nearer to the camera
    assert (frames[0][HEIGHT + 2 * CAPTION :, WIDTH:] > 250).all()  # no fourth panel
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["film.mp4"]


def test_the_followed_ball_stays_in_the_middle_and_an_arrow_points_to_the_goal() -> None:
    it = take(lambda t: np.stack([0.5 * t, 0 * t], -1), goals=[(40.0, 0.0)])
    with film._Set(it, speed=1.0) as scene:
        for t in (2, 5, 8):
            picture = scene.panel(t, 0)[CAPTION:]
            assert np.abs(center(is_red(picture)) - np.array([HEIGHT, WIDTH]) / 2).max() < 12
            arrow = np.argwhere(is_green(picture))
            assert arrow[:, 1].max() - WIDTH / 2 > 25
            assert arrow[:, 1].min() > WIDTH / 2 - 6


@pytest.mark.parametrize(("far", "arrow"), [(0.5, False), (0.85, False), (1.2, True), (-0.85, False), (-1.2, True)])
@pytest.mark.parametrize("along", ["width", "height"])
def test_the_arrow_is_there_when_the_goal_is_not_in_the_picture(far: float, arrow: bool, along: str) -> None:
    """A goal so far from the middle, in halves of the picture that looks straight down from 8 m."""
    it = take(lambda t: np.stack([0 * t, 0 * t], -1))
    down = Camera(distance=8.0, elevation=-90.0, azimuth=90.0, body="ball")
    half = 8.0 * np.tan(np.radians(45.0 / 2)) * (WIDTH / HEIGHT if along == "width" else 1.0)
    place = (far * half, 0.0, 0.0) if along == "width" else (0.0, far * half, 0.0)
    with Photographer(it.model, *PANEL) as photographer:
        goal = (Marker(place, (0.2, 0.2, 0.2)),)
        bare, pointed = (
            photographer.picture(it.poses[0, 0], goal, down, np.zeros(3), compass=compass).astype(int)
            for compass in (False, True)
        )
    assert is_green(bare).any() == (not arrow)
    assert (np.abs(bare - pointed).max() > 60) == arrow


def test_a_hidden_ball_is_seen_through_the_wall() -> None:
    it = take(lambda t: np.stack([0 * t, 0 * t - 1.5], -1))
    with film._Set(it, speed=1.0) as scene, Photographer(it.model, *PANEL) as photographer:
        through = scene.panel(5, 0)[CAPTION:].astype(int)
        opaque = photographer.picture(it.poses[5, 0], (), it.camera, scene.looked_at[5, 0]).astype(int)

    def reddish(picture: np.ndarray) -> int:
        return int(((picture[..., 0] - picture[..., 1]) > 30).sum())

    assert reddish(through) > 1.3 * reddish(opaque)


def test_captions_say_how_it_stands() -> None:
    it = take(lambda t: np.stack([0.3 * t, 0 * t], -1), goals=[(0.6, 0.0), (9.0, 9.0)], over=7)
    said = [[film._state(it, t, k)[0] for t in (0, 2, 6, 9)] for k in (0, 1)]
    assert said == [["", "at the goal", "was there at 0.2 s", "was there at 0.2 s"], ["", "", "", "ended at 1.4 s"]]


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_film_ends_a_second_after_all_is_settled_and_long_ones_are_thinned(tmp_path: Path) -> None:
    arrives = take(lambda t: np.stack([0.3 * t, 0 * t], -1), goals=[(0.9, 0.0)], moments=41)
    film.film(arrives, tmp_path / "short.mp4")
    assert len(frames_of(tmp_path / "short.mp4")) == 2 + 5 + 1 + 5  # there after 2 steps
    falls = take(moments=41, over=10)
    film.film(falls, tmp_path / "fall.mp4")
    assert len(frames_of(tmp_path / "fall.mp4")) == 11 + 5 + 1 + 5
    film.film(take(moments=41), tmp_path / "thin.gif", max_seconds=3.0)
    with Image.open(tmp_path / "thin.gif") as thin:
        assert thin.n_frames == 15  # every third of 41, and the last
        assert thin.info["duration"] == 200


def test_a_strip_has_a_row_per_episode_and_a_column_per_still(tmp_path: Path) -> None:
    it = take(lambda t: np.stack([0.3 * t, 0 * t], -1), goals=[(9.0, 9.0), (0.9, 0.0)], follow=False)
    picture = np.asarray(Image.open(film.strip(it, tmp_path / "strip.png", stills=3)))
    assert picture.shape == (2 * (HEIGHT + CAPTION), 3 * WIDTH, 3)
    with film._Set(it, speed=1.0) as scene:
        np.testing.assert_array_equal(picture[: HEIGHT + CAPTION, -WIDTH:], scene.panel(10, 0))
        np.testing.assert_array_equal(picture[HEIGHT + CAPTION :, -WIDTH:], scene.panel(7, 1))


def test_what_cannot_be_filmed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.avi is no format.*\n.*\.gif or \.mp4"):
        film.film(take(), tmp_path / "film.avi")
    with pytest.raises(UsageError, match=r"\.gif is no format.*\n.*\.png"):
        film.strip(take(), tmp_path / "strip.gif")
    with pytest.raises(UsageError, match="1 stills shows no motion"):
        film.strip(take(), tmp_path / "strip.png", stills=1)
    assert list(tmp_path.iterdir()) == []


def test_a_box_marks_a_goal_too() -> None:
    env = Ball(follow=False)
    from eqcrl.envs.mujoco import Marker

    with Photographer(env.model(), 160, 120) as photographer:
        qpos = np.array([0.0, 50.0, 0.0, 0.0])
        plain = photographer.picture(qpos, (), env.camera(), np.zeros(3))
        box = photographer.picture(qpos, (Marker((0.0, 0.0, 0.2), (0.5, 0.5, 0.2), "box"),), env.camera(), np.zeros(3))
    assert is_green(plain).sum() == 0
    assert np.abs(center(is_green(box)) - [58, 80]).max() < 8

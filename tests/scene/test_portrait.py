"""Pictures of tasks as they begin."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eqcrl.errors import UsageError
from eqcrl.scene.portrait import SIZE, overview, portrait
from scene.ball import Ball, is_green, is_red


def test_the_robot_from_near_and_all_of_the_maze_beside_it(tmp_path: Path) -> None:
    picture = np.asarray(Image.open(portrait(Ball(), tmp_path / "new" / "ball.png")))
    assert picture.shape == (SIZE[1], 2 * SIZE[0], 3)
    near, far = picture[:, : SIZE[0]], picture[:, SIZE[0] :]
    assert is_red(near).sum() > is_red(far).sum() > 50
    assert is_green(far).sum() > 50
    assert np.argwhere(is_green(far))[:, 1].mean() > np.argwhere(is_red(far))[:, 1].mean() + 50  # at x = 2


def test_a_fixed_camera_sees_it_all_in_one_picture(tmp_path: Path) -> None:
    with Image.open(portrait(Ball(follow=False), tmp_path / "ball.png")) as picture:
        assert picture.size == SIZE


def test_an_overview_stands_back_by_the_size_of_the_plane() -> None:
    camera, lookat = overview(np.array([-1.0, -2.0]), np.array([5.0, 6.0]), 90.0)
    assert camera.distance == pytest.approx(12.5)
    np.testing.assert_array_equal(lookat, [2.0, 2.0, 0.0])


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.jpg is no format"):
        portrait(Ball(), tmp_path / "ball.jpg")

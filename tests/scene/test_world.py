"""What is drawn, from where, and through which walls."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqcrl.envs.mujoco import Camera
from eqcrl.errors import UsageError
from eqcrl.scene import world
from scene.ball import XML, Ball, episodes, take


def roll(t: np.ndarray) -> np.ndarray:
    return np.stack([0.3 * t, 0 * t], -1)


def test_a_take_has_poses_goals_and_what_became_of_them() -> None:
    it = take(roll, goals=[(0.6, 0.0), (9.0, 9.0)], over=7)
    assert it.poses.shape == (11, 2, 4)
    assert [m[0].position for m in it.markers] == [(pytest.approx(0.6), 0.0, 0.3), (9.0, 9.0, 0.3)]
    assert not it.at_goal[0].any()
    assert it.at_goal[:, 0].nonzero()[0].tolist() == [1, 2, 3]
    assert it.ended[:, 1].nonzero()[0].tolist() == [8, 9, 10]
    assert it.settled().any(axis=0).all()
    assert it.seconds(5) == pytest.approx(1.0)
    one = it.choose([1])
    assert one.markers == it.markers[1:]
    np.testing.assert_array_equal(one.ended, it.ended[:, [1]])


def test_episodes_without_poses_are_refused() -> None:
    ran = episodes(roll, goals=np.zeros((1, 2)))
    for record in (None, ran.record[:, :, :2]):
        with pytest.raises(UsageError, match=r"no poses of the model, which has 4 positions\.\n.*scene\.world\.pose"):
            world.take_of(Ball(), type(ran)(**{**vars(ran), "record": record}))
    for shown in ([], [1], [-1]):
        with pytest.raises(UsageError, match=r"1 were evaluated\.\n  Choose from 0 to 0"):
            take().choose(shown)


@given(st.lists(st.booleans(), min_size=0, max_size=12))
def test_a_diverged_pose_is_drawn_as_the_last_finite_one(broken: list[bool]) -> None:
    poses = np.arange(len(broken) + 1, dtype=float)[:, None, None] * np.ones((1, 2, 3))
    poses[1:, 1, 2] = np.where(broken, np.nan, poses[1:, 1, 2])
    found = world.last_finite(poses)
    expected = 0
    for t in range(len(poses)):
        expected = t if t == 0 or not broken[t - 1] else expected
        np.testing.assert_array_equal(found[t], [[t] * 3, [expected] * 3])


def test_a_start_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UsageError, match="starts in a pose that is not finite"):
        world.last_finite(np.full((2, 1, 3), np.nan))


def test_what_is_drawn_is_the_model_under_a_sky() -> None:
    model, drawn = Ball().model(), world.drawable(Ball().model())
    for name in ("geom_size", "geom_pos", "geom_rgba", "body_mass", "geom_type"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(model.compiled(), name))
    assert int(mujoco.mjtTexture.mjTEXTURE_SKYBOX) in drawn.tex_type
    assert int(mujoco.mjtTexture.mjTEXTURE_SKYBOX) not in model.compiled().tex_type


@given(st.floats(1.0, 20.0), st.floats(-89.0, 89.0), st.floats(-360.0, 360.0), st.tuples(*[st.floats(-9.0, 9.0)] * 3))
def test_the_eye_is_where_mujoco_puts_it(distance: float, elevation: float, azimuth: float, lookat: tuple) -> None:
    model = world.drawable(Ball().model())
    scene, view = mujoco.MjvScene(model, maxgeom=100), mujoco.MjvCamera()
    view.lookat, view.distance, view.azimuth, view.elevation = lookat, distance, azimuth, elevation
    data, everything = mujoco.MjData(model), int(mujoco.mjtCatBit.mjCAT_ALL)
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, view, everything, scene)
    theirs = (np.array(scene.camera[0].pos) + np.array(scene.camera[1].pos)) / 2  # between a pair of eyes
    np.testing.assert_allclose(world.eye(Camera(distance, elevation, azimuth), np.array(lookat)), theirs, atol=1e-3)


def test_the_camera_follows_smoothly() -> None:
    jump = take(lambda t: np.stack([np.where(t < 20, 0.0, 3.0), 0 * t], -1), moments=41)
    way = world.followed(jump)[:, 0]
    np.testing.assert_allclose(way[[0, 40], 0], [0.0, 3.0], atol=1e-6)
    assert (np.diff(way[:, 0]) >= 0).all()
    assert np.diff(way[:, 0]).max() < 1.0  # the ball jumped by 3
    np.testing.assert_allclose(way[:, 2], 0.5, atol=1e-6)


def test_a_fixed_camera_stays() -> None:
    np.testing.assert_array_equal(world.followed(take(roll, follow=False)), np.zeros((11, 1, 3)))


def test_a_camera_on_nothing_is_refused() -> None:
    it = take()
    lost = world.Take(it.model, Camera(1.0, 0.0, 0.0, body="bal"), it.poses, it.markers, it.at_goal, it.ended)
    with pytest.raises(UsageError, match="follows the body 'bal', which the model does not have"):
        world.followed(lost)


def test_a_wall_fades_while_it_hides_the_robot() -> None:
    """The camera looks north (+y) from the south; the wall spans y from -2.2 to -1.8, |x| < 1."""

    def at(x: float, y: float) -> float:
        it = take(lambda t: np.stack([0 * t + x, 0 * t + y], -1), moments=3)
        found = world.veils(it, world.followed(it))
        assert [mujoco.MjModel.from_xml_string(XML).geom(int(g)).name for g in found.geoms] == ["wall"]
        return float(found.hiding[1, 0, 0])

    assert at(0.0, -1.2) == pytest.approx(1.0)  # just behind it
    assert at(0.0, 1.5) == 0.0  # so far behind that the camera looks over it
    assert at(0.0, -2.9) == 0.0  # between the camera and it
    assert at(4.0, -1.2) == 0.0  # beside it
    passing = take(lambda t: np.stack([t / 4 - 8, 0 * t - 1.2], -1), moments=65)
    hiding = world.veils(passing, world.followed(passing)).hiding[:, 0, 0]
    assert hiding.max() > 0.9
    assert hiding[[0, 64]].max() < 1e-6
    assert np.abs(np.diff(hiding)).max() < 0.5  # no flicker


def test_no_wall_fades_before_a_fixed_camera() -> None:
    it = take(lambda t: np.stack([0 * t, 0 * t - 1.2], -1), follow=False)
    assert world.veils(it, world.followed(it)).geoms.size == 0

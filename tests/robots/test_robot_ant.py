"""The ant's body, by the numbers of the paper's, and how it stands up."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.stats import kstest

from eqcrl.envs.mazes import find_maze
from eqcrl.physics.base import PhysicsState
from eqcrl.robots.ant import POSE, ant_fell, ant_model, ant_reading, ant_start

JOINTS = ["hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3", "hip_4", "ankle_4"]
MOTOR_ORDER = ["hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3"]
LEGS = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1)}


@pytest.fixture(scope="module")
def body() -> mujoco.MjModel:
    return ant_model().compiled()


def posed(model: mujoco.MjModel, qpos: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    return data


def test_sizes_and_solver(body: mujoco.MjModel) -> None:
    assert (body.nq, body.nv, body.nu) == (15, 14, 8)
    assert body.opt.timestep == 0.01
    assert ant_model().control_step() == pytest.approx(0.05)
    assert (body.opt.iterations, body.opt.ls_iterations) == (1, 4)
    assert body.opt.solver == int(mujoco.mjtSolver.mjSOL_NEWTON)
    assert body.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_EULERDAMP)


def test_joints_and_motors(body: mujoco.MjModel) -> None:
    assert [body.joint(i).name for i in range(1, body.njnt)] == JOINTS
    for name in JOINTS:
        leg, joint = int(name[-1]), body.joint(name)
        knee = (30, 70) if leg in (1, 4) else (-70, -30)
        np.testing.assert_allclose(np.rad2deg(joint.range), (-30, 30) if name.startswith("hip") else knee, atol=1e-3)
        assert joint.armature[0] == 1.0
        assert joint.damping[0] == 1.0
    assert [body.joint(int(body.actuator(i).trnid[0])).name for i in range(body.nu)] == MOTOR_ORDER
    np.testing.assert_allclose(body.actuator_gear[:, 0], 150.0)
    np.testing.assert_allclose(body.actuator_ctrlrange, np.tile([-1.0, 1.0], (8, 1)))
    assert body.jnt_type[0] == int(mujoco.mjtJoint.mjJNT_FREE)
    np.testing.assert_array_equal(body.dof_armature[:6], 0.0)


def test_mass_is_that_of_density_60_and_feet_have_none(body: mujoco.MjModel) -> None:
    """A torso of 0.25 m, four legs of three capsules of 0.08 m with the lengths of the paper's ant."""
    ball, tube = 4 / 3 * np.pi, np.pi * 0.08**2
    lengths = np.hypot(0.2, 0.2) * 2 + np.hypot(0.4, 0.4)
    volume = ball * 0.25**3 + 4 * (3 * ball * 0.08**3 + tube * lengths)
    assert body.body_mass.sum() == pytest.approx(60 * volume, rel=1e-6) == pytest.approx(10.93, abs=0.01)
    assert body.body("torso").mass[0] == pytest.approx(
        60 * (ball * 0.25**3 + 4 * (ball * 0.08**3 + tube * np.hypot(0.2, 0.2)))
    )


@pytest.mark.parametrize("leg", LEGS)
def test_legs_point_outwards_and_end_in_feet(body: mujoco.MjModel, leg: int) -> None:
    data = posed(body, np.array([0, 0, 0.55, 1, 0, 0, 0] + [0] * 8, float))
    np.testing.assert_allclose(data.geom(f"foot_{leg}").xpos, [*(0.8 * np.array(LEGS[leg])), 0.55], atol=1e-6)
    standing = posed(body, np.array(POSE))
    foot = standing.geom(f"foot_{leg}").xpos
    assert np.all(np.sign(foot[:2]) == LEGS[leg])
    assert abs(foot[2] - 0.08) < 0.01, "the foot touches the floor"


def test_only_feet_meet_the_floor_and_upper_and_lower_legs_pass_walls() -> None:
    model = ant_model(find_maze("u"), merged=True).compiled()
    floor, wall = model.geom("floor").id, model.geom("wall_0_0").id

    def meets(one: int, other: int) -> bool:
        kinds, wants = model.geom_contype, model.geom_conaffinity
        return bool(kinds[one] & wants[other] or kinds[other] & wants[one])

    robot = [i for i in range(model.ngeom) if model.geom_bodyid[i] != 0]
    names = {i: model.geom(i).name for i in robot}
    assert {names[i] for i in robot if meets(i, floor)} == {f"foot_{k}" for k in LEGS}
    stopped = {f"{part}_{k}" for part in ("aux", "foot") for k in LEGS} | {"torso"}
    assert {names[i] for i in robot if meets(i, wall)} == stopped
    assert not any(meets(i, j) for i in robot for j in robot)


def test_contacts_are_bounded_only_where_there_are_walls() -> None:
    flat, maze = ant_model(), ant_model(find_maze("big"))
    assert (flat.max_contact_points, flat.max_geom_pairs) == (None, None)
    assert (maze.max_contact_points, maze.max_geom_pairs) == (8, 4)
    assert maze.compiled().ngeom == flat.compiled().ngeom + 38


@pytest.mark.parametrize("motor", range(8))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_motor_turns_its_joint_in_the_direction_of_its_sign(body: mujoco.MjModel, motor: int, sign: float) -> None:
    data = mujoco.MjData(body)
    data.qpos[:] = POSE
    data.qpos[2] = 2.0  # in the air
    rest = mujoco.MjData(body)
    rest.qpos[:] = data.qpos
    data.ctrl[motor] = sign
    for moment in (data, rest):
        mujoco.mj_step(body, moment)
    change = (data.qvel - rest.qvel)[6:]
    joint = JOINTS.index(MOTOR_ORDER[motor])
    assert np.sign(change[joint]) == sign
    assert np.argmax(np.abs(change)) == joint
    # 150 N m on an armature of 1 kg m^2 and a light leg, for 0.01 s.
    assert 1.0 < abs(change[joint]) < 1.5


def test_the_start_is_the_pose_with_the_papers_noise() -> None:
    xy = jnp.array([4.0, -8.0])
    qpos, qvel = jax.jit(jax.vmap(lambda key: ant_start(xy, key)))(jax.random.split(jax.random.key(3), 4000))
    qpos, qvel = np.asarray(qpos, float), np.asarray(qvel, float)
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 3:7], axis=1), 1.0, atol=1e-6)
    center = np.array([4.0, -8.0, *POSE[2:]])
    for i in (0, 1, 2, *range(7, 15)):
        assert kstest((qpos[:, i] - center[i] + 0.1) / 0.2, "uniform").pvalue > 1e-4
    # Normalized U(-0.1, 0.1)^4 around (1, 0, 0, 0): at most 0.1 sqrt 3 / 0.9 off the axis.
    tilt = np.linalg.norm(qpos[:, 4:7], axis=1) / qpos[:, 3]
    assert 0.15 < tilt.max() <= 0.1 * 3**0.5 / 0.9 + 1e-6
    for i in range(14):
        assert kstest(qvel[:, i] / 0.1, "norm").pvalue > 1e-4


@pytest.mark.parametrize(
    ("height", "fell"), [(0.19, True), (0.21, False), (0.55, False), (0.99, False), (1.01, True), (np.nan, True)]
)
def test_the_episode_ends_outside_of_the_band_of_heights(height: float, fell: bool) -> None:
    qpos = jnp.array(POSE).at[2].set(height)
    state = PhysicsState(qpos, jnp.arange(14.0), {}, ())
    assert bool(ant_fell(state)) is fell
    np.testing.assert_array_equal(ant_reading(state), np.concatenate([qpos, np.arange(14.0)]))

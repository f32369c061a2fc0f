"""The humanoid: its body, and inertia and velocity of its links against rigid-body mechanics from first principles."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcrl.envs.mazes import find_maze
from eqcrl.robots.humanoid import (
    LINKS,
    TARGET_INERTIA,
    TARGET_MASS,
    default_pose,
    humanoid_model,
    link_inertia,
    link_velocity,
    with_target,
)

LIMBS = [
    *("right_hip_x", "right_hip_z", "right_hip_y", "right_knee", "left_hip_x", "left_hip_z", "left_hip_y", "left_knee"),
    *("right_shoulder1", "right_shoulder2", "right_elbow", "left_shoulder1", "left_shoulder2", "left_elbow"),
]
HINGES = ["abdomen_z", "abdomen_y", "abdomen_x", *LIMBS]
MOTORS = ["abdomen_y", "abdomen_z", "abdomen_x", *LIMBS]
GYM_GEARS = [100.0] * 5 + [300.0, 200.0, 100.0, 100.0, 300.0, 200.0] + [25.0] * 6


@pytest.fixture(params=["open", "u", "humanoid-big", "hardest"])
def model(request: pytest.FixtureRequest) -> mujoco.MjModel:
    """The compiled robot on the open floor and in mazes."""
    maze = None if request.param == "open" else find_maze(request.param)
    return humanoid_model("damped", 5, maze).compiled()


def test_the_body_is_the_gym_humanoid_in_every_world(model: mujoco.MjModel) -> None:
    """Building the world and writing it out as text must not change the robot."""
    assert (model.nq, model.nv, model.nu, model.nbody) == (24, 23, 17, LINKS + 1)
    assert model.body_mass.sum() == pytest.approx(42.116, abs=5e-4)
    assert [model.joint(i).name for i in range(1, model.njnt)] == HINGES
    assert [model.actuator(i).name for i in range(model.nu)] == MOTORS
    assert [model.joint(model.actuator_trnid[i, 0]).name for i in range(model.nu)] == MOTORS
    np.testing.assert_array_equal(model.actuator_ctrlrange, np.tile([-0.4, 0.4], (17, 1)))
    assert model.opt.timestep == 0.003
    np.testing.assert_array_equal(model.qpos0, [0, 0, 1.4, 1, 0, 0, 0] + [0] * 17)
    assert model.jnt_limited[1:].all()
    assert not model.dof_damping[:6].any()
    assert not model.dof_armature[:6].any(), "the torso falls freely"


def test_left_and_right_are_mirror_images() -> None:
    """Bodies and hinges: the Gym file's own differences between its legs are slips."""
    model = humanoid_model("damped", 5).compiled()
    mirror = np.array([1.0, -1.0, 1.0])
    for name in ("thigh", "shin", "upper_arm", "lower_arm"):
        right, left = model.body(f"right_{name}"), model.body(f"left_{name}")
        np.testing.assert_allclose(left.pos, right.pos * mirror)
        np.testing.assert_allclose(left.ipos, right.ipos * mirror, atol=1e-12)
        np.testing.assert_allclose(left.inertia, right.inertia, rtol=1e-9)
    for name in ("hip_x", "hip_z", "hip_y", "knee", "shoulder1", "shoulder2", "elbow"):
        right, left = model.joint(f"right_{name}"), model.joint(f"left_{name}")
        for field in ("stiffness", "damping", "armature"):
            np.testing.assert_array_equal(getattr(left, field), getattr(right, field), err_msg=f"{name} {field}")


def test_gears_and_damping_of_both_kinds_of_hinges() -> None:
    damped, gym = (humanoid_model(hinges, 5).compiled() for hinges in ("damped", "gym"))
    np.testing.assert_array_equal(damped.actuator_gear[:, 0], [350.0] * 11 + [100.0] * 6)
    np.testing.assert_array_equal(damped.dof_damping[6:], [30.0] * 11 + [10.0] * 6)
    np.testing.assert_array_equal(gym.actuator_gear[:, 0], GYM_GEARS)
    leg = [5.0, 5.0, 5.0, 1.0]
    np.testing.assert_array_equal(gym.dof_damping[6:], [5.0, 5.0, 5.0, *leg, *leg] + [1.0] * 6)
    np.testing.assert_array_equal(gym.body_mass, damped.body_mass)


def test_floor_and_walls_meet_all_of_the_robot_and_the_robot_never_itself(model: mujoco.MjModel) -> None:
    robot = np.flatnonzero(model.geom_bodyid > 0)
    world = np.flatnonzero(model.geom_bodyid == 0)
    kind, affinity = model.geom_contype, model.geom_conaffinity
    meets = (kind[:, None] & affinity[None, :]) | (kind[None, :] & affinity[:, None]) > 0
    assert len(robot) == 17
    assert meets[np.ix_(robot, world)].all()
    assert not meets[np.ix_(robot, robot)].any()
    assert not meets[np.ix_(world, world)].any()
    # The defaults of the robot's file must not make floor or walls slippery.
    np.testing.assert_array_equal(model.geom_condim[world], 3)
    np.testing.assert_array_equal(model.geom_friction[world, 0], 1.0)


def test_every_start_is_the_upright_pose_at_rest() -> None:
    pose, rest, readouts = default_pose(humanoid_model("damped", 5, center=True))
    np.testing.assert_array_equal(pose, np.float32([0, 0, 1.4, 1, 0, 0, 0] + [0] * 17))
    assert not rest.any()
    assert set(readouts) == {"cinert", "cvel", "qfrc_actuator", "subtree_com"}
    assert not readouts["cvel"].any()
    assert not readouts["qfrc_actuator"].any()


# ---------------------------------------------------------------------------------------- links, by mechanics


def anything(seed: int) -> mujoco.MjData:
    """The robot somewhere, turned, bent and moving."""
    model = humanoid_model("damped", 5).compiled()
    data, rng = mujoco.MjData(model), np.random.default_rng(seed)
    data.qpos[:3] = rng.uniform(-20, 20, 3)
    data.qpos[3:7] = rng.normal(size=4)
    data.qpos[3:7] /= np.linalg.norm(data.qpos[3:7])
    data.qpos[7:] = rng.uniform(-1, 1, 17)
    data.qvel[:] = rng.normal(size=23) * 3
    mujoco.mj_forward(model, data)
    return data


def links_of(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mass, position, inertia in world axes, linear and angular velocity of each link's center of mass.

    The velocities are finite differences of positions and rotations, in double precision.
    """
    model = data.model
    turn = data.ximat[1:].reshape(-1, 3, 3).copy()
    place = data.xipos[1:].copy()
    inertia = np.einsum("lij,lj,lkj->lik", turn, model.body_inertia[1:], turn)
    ends, step = [], 1e-6
    for sign in (-0.5, 0.5):
        other = mujoco.MjData(model)
        other.qpos[:] = data.qpos
        mujoco.mj_integratePos(model, other.qpos, data.qvel, sign * step)
        mujoco.mj_kinematics(model, other)
        mujoco.mj_comPos(model, other)
        ends.append((other.xipos[1:].copy(), other.ximat[1:].reshape(-1, 3, 3).copy()))
    velocity = (ends[1][0] - ends[0][0]) / step
    spin = np.einsum("lij,lkj->lik", (ends[1][1] - ends[0][1]) / step, turn)  # the cross product with w, as a matrix
    angular = np.stack([spin[:, 2, 1], spin[:, 0, 2], spin[:, 1, 0]], axis=1)
    return model.body_mass[1:].copy(), place, inertia, velocity, angular


def expected(
    mass: np.ndarray, place: np.ndarray, inertia: np.ndarray, velocity: np.ndarray, angular: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both tables of the observation, from their definitions."""
    offset = place - mass @ place / mass.sum()
    square = np.einsum("li,li->l", offset, offset)
    shifted = inertia + mass[:, None, None] * (
        square[:, None, None] * np.eye(3) - np.einsum("li,lj->lij", offset, offset)
    )
    table = np.concatenate([shifted.reshape(-1, 9), mass[:, None]], axis=1)
    return table, np.concatenate([mass[:, None] * velocity / mass.sum(), angular], axis=1)


inertia_of, velocity_of, extended = jax.jit(link_inertia), jax.jit(link_velocity), jax.jit(with_target)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1))
def test_inertia_and_velocity_of_the_links_agree_with_mechanics(seed: int) -> None:
    data = anything(seed)
    inertia, velocity = expected(*links_of(data))
    cinert, cvel = jnp.float32(data.cinert), jnp.float32(data.cvel)
    np.testing.assert_allclose(inertia_of(cinert), inertia, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(velocity_of(cinert, cvel), velocity, rtol=1e-3, atol=1e-3)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), x=st.floats(-20, 20), y=st.floats(-20, 20))
def test_the_target_is_a_twelfth_link_of_the_same_mechanics(seed: int, x: float, y: float) -> None:
    data = anything(seed)
    target = np.array([x, y, 1.25])
    mass, place, inertia, velocity, angular = links_of(data)
    wanted = expected(
        np.append(mass, TARGET_MASS),
        np.vstack([place, target]),
        np.concatenate([inertia, TARGET_INERTIA * np.eye(3)[None]]),
        np.vstack([velocity, np.zeros(3)]),
        np.vstack([angular, np.zeros(3)]),
    )
    cinert, cvel = extended(
        jnp.float32(data.cinert), jnp.float32(data.cvel), jnp.float32(data.subtree_com[1]), jnp.float32(target)
    )
    assert cinert.shape == (LINKS + 2, 10)
    # In single precision, relative to the largest: the target is up to 60 m away.
    for found, want in zip((inertia_of(cinert), velocity_of(cinert, cvel)), wanted, strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-3, atol=2e-5 * max(100.0, np.abs(want).max()))

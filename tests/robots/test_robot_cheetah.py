"""The half-cheetah's body."""

import mujoco
import numpy as np
import pytest

from eqcrl.robots.cheetah import cheetah_model

DRIVEN = ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]


@pytest.fixture
def model() -> mujoco.MjModel:
    return cheetah_model(5).compiled()


def test_masses_joints_and_motors(model: mujoco.MjModel) -> None:
    assert (model.nq, model.nv, model.nu) == (9, 9, 6)
    assert model.body_mass.sum() == pytest.approx(14.0, abs=1e-3)
    assert [model.joint(i).name for i in range(model.njnt)] == ["rootx", "rootz", "rooty", *DRIVEN]
    assert [model.joint(model.actuator_trnid[i, 0]).name for i in range(model.nu)] == DRIVEN
    np.testing.assert_array_equal(model.actuator_gear[:, 0], [120, 90, 60, 120, 60, 30])
    np.testing.assert_array_equal(model.jnt_stiffness, [0, 0, 0, 240, 180, 120, 180, 120, 60])
    np.testing.assert_array_equal(model.dof_damping, [0, 0, 0, 6, 4.5, 3, 4.5, 3, 1.5])
    np.testing.assert_array_equal(model.dof_armature, [0, 0, 0] + [0.1] * 6)
    np.testing.assert_array_equal(model.jnt_limited, [0, 0, 0] + [1] * 6)
    assert model.opt.timestep == 0.01


def test_only_the_floor_is_met_and_with_the_cheetahs_own_friction(model: mujoco.MjModel) -> None:
    floor, robot = model.geom("floor").id, np.flatnonzero(model.geom_bodyid > 0)
    kind, affinity = model.geom_contype, model.geom_conaffinity
    assert len(robot) == 8
    assert (kind[robot] & affinity[floor]).all()
    assert not (kind[robot][:, None] & affinity[robot]).any()
    np.testing.assert_array_equal(model.geom_friction[:, 0], 0.4)


def test_it_stands_on_its_feet_by_its_springs(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=300)
    touching = {model.geom(geom).name for contact in data.contact for geom in contact.geom}
    assert touching == {"floor", "bfoot", "ffoot"}
    assert max(-contact.dist for contact in data.contact) < 0.02
    assert abs(data.qvel).max() < 1e-2
    assert -0.2 < data.qpos[1] < 0.0, "the torso sinks a little below the default pose"

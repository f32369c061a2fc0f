"""The arm: who touches whom, where it stands, what its servos reach; cube, table and walls hold."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arm_moves import Kinematics, commanded
from eqcrl.envs.arm_objects import LAYOUTS
from eqcrl.physics.mjx import contact_slots
from eqcrl.physics.model import Model
from eqcrl.robots.arm import (
    CUBE_HALF,
    DRIVEN,
    HIGHEST,
    LOWEST,
    START,
    arm_model,
    bin_walls,
    cube_model,
    finger_targets,
    joint_targets,
    start_readouts,
)

BINS = LAYOUTS["binpick-hard"].bins
OPEN, CLOSED = 255.0, 0.0


def begin(model: mujoco.MjModel, cube: tuple[float, float, float] = (0.0, 0.6, 0.07)) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[:7] = START
    if model.nu > 7:
        data.qpos[7:9], data.qpos[9:12], data.qpos[12:16] = 0.04, cube, (1, 0, 0, 0)
    return data


def hold(model: mujoco.MjModel, data: mujoco.MjData, action: np.ndarray, seconds: float, fingers: float = OPEN) -> None:
    data.ctrl[:7] = commanded(action)
    data.ctrl[7:] = fingers
    mujoco.mj_step(model, data, round(seconds / model.opt.timestep))
    mujoco.mj_forward(model, data)


def touching(model: mujoco.MjModel) -> set[frozenset[str]]:
    """Pairs of geoms that the masks and MuJoCo's own rules let touch."""
    pairs = set()
    for one in range(model.ngeom):
        for other in range(one):
            bodies = model.geom_bodyid[[one, other]]
            related = bodies[0] == bodies[1] or any(
                model.body_parentid[a] == b and b != 0 for a, b in (bodies, bodies[::-1])
            )
            mask = model.geom_contype[one] & model.geom_conaffinity[other]
            mask |= model.geom_contype[other] & model.geom_conaffinity[one]
            if mask and not related:
                pairs.add(frozenset({model.geom(one).name, model.geom(other).name}))
    return pairs


def test_who_touches_whom() -> None:
    fingers = {"left_finger", "right_finger"}
    push = {frozenset({"table", g}) for g in ("cube", "hand", *fingers)}
    push |= {frozenset({"cube", g}) for g in ("hand", *fingers)} | {frozenset(fingers)}
    assert touching(cube_model("matched").compiled()) == push
    binpick = cube_model("matched", BINS).compiled()
    walls = {binpick.geom(i).name for i in range(binpick.ngeom) if binpick.geom(i).name.startswith("bin")}
    assert len(walls) == 8
    assert touching(binpick) == push | {frozenset({w, g}) for w in walls for g in ("cube", "hand", *fingers)}
    assert touching(arm_model("matched").compiled()) == {frozenset({"table", "hand"})}
    assert binpick.opt.impratio == 10
    assert cube_model("matched").compiled().opt.impratio == 1


@pytest.mark.parametrize(("model", "nq", "nu"), [(arm_model("matched"), 7, 7), (cube_model("paper", BINS), 16, 9)])
def test_the_compiled_text_is_the_model_of_the_asset(model: Model, nq: int, nu: int) -> None:
    compiled = model.compiled()
    assert (compiled.nq, compiled.nu, model.substeps) == (nq, nu, 25)
    assert model.control_step() == pytest.approx(0.05)
    names = [f"link{k}" for k in range(1, 8)] + ["hand"]
    masses = [4.971, 0.647, 3.229, 3.588, 1.226, 1.667, 0.736, 0.871]
    np.testing.assert_allclose([compiled.body(n).mass[0] for n in names], masses, rtol=1e-6)
    if nq == 16:
        np.testing.assert_allclose(
            [compiled.body(n).mass[0] for n in ("left_finger", "right_finger", "cube")], [0.015, 0.015, 0.216]
        )
    assert (compiled.dof_damping[: min(nq, 9)] == 5).all()
    assert (compiled.dof_armature[: min(nq, 9)] == 0.1).all()
    assert compiled.opt.integrator == int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST)
    assert compiled.opt.timestep == 0.002
    # Pairs compile to sliding friction 1, torsion .005, rolling .0001, whatever touches.
    hit = compiled.geom_conaffinity + compiled.geom_contype > 0
    np.testing.assert_allclose(compiled.geom_friction[hit], np.tile([1, 0.005, 0.0001], (hit.sum(), 1)))
    # Inertias of real bodies: no principal one exceeds the sum of the others.
    for inertia in compiled.body_inertia[1:]:
        assert (inertia > 0).all()
        assert 2 * inertia.max() <= inertia.sum() * (1 + 1e-9)


def test_kinematics_are_those_of_the_real_arm() -> None:
    np.testing.assert_allclose(
        start_readouts(cube_model("matched"))["sensordata"][:6], [0, 0.678, 0.371, 0, 0, 0], atol=1e-3
    )
    model = arm_model("matched").compiled()
    data = mujoco.MjData(model)
    data.qpos[:] = [0, 0, 0, -np.pi / 2, 0, np.pi / 2, 0]  # forearm level, hand down: an upright L
    mujoco.mj_kinematics(model, data)
    reach, height = 0.0825 + 0.384 + 0.088, 0.333 + 0.316 + 0.0825
    np.testing.assert_allclose(data.body("link7").xpos, [reach, 0, height], atol=1e-6)
    np.testing.assert_allclose(data.body("hand").xpos, [reach, 0, height - 0.107], atol=1e-6)
    np.testing.assert_allclose(data.body("hand").xmat.reshape(3, 3)[:, 2], [0, 0, -1], atol=1e-6)


@given(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4))
def test_an_action_is_four_angles(action: list[float]) -> None:
    targets = np.asarray(joint_targets(jnp.asarray(action, jnp.float32)))
    np.testing.assert_allclose(targets, commanded(np.array(action)), atol=1e-6)
    np.testing.assert_allclose(targets[[2, 4, 6]], [0, 0, 1.4487], atol=1e-6)
    driven = targets[list(DRIVEN)]
    assert (driven >= np.array(LOWEST) - 1e-6).all()
    assert (driven <= np.array(HIGHEST) + 1e-6).all()


def test_the_ends_of_the_action_are_the_ends_of_the_ranges() -> None:
    for end, angles in ((-1.0, LOWEST), (1.0, HIGHEST)):
        np.testing.assert_allclose(joint_targets(jnp.full(4, end))[np.array(DRIVEN)], angles, atol=1e-6)
    for command, fingers in ((-1.0, OPEN), (0.0, OPEN), (1e-3, CLOSED), (1.0, CLOSED)):
        assert (np.asarray(finger_targets(jnp.asarray(command))) == fingers).all()


@settings(max_examples=8)
@given(st.integers(0, 2**31 - 1))
def test_matched_gains_reach_what_is_commanded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = arm_model("matched").compiled()
    data = begin(model)
    action = rng.uniform(-1, 1, 4)
    assume(Kinematics(model).pose(action).body("hand").xpos[2] > 0.25)  # clear of the table
    hold(model, data, action, 4.0)
    np.testing.assert_allclose(data.qpos, commanded(action), atol=0.03)  # the rest is gravity on 3500 N m/rad


def test_papers_gains_settle_short_of_the_command() -> None:
    model = cube_model("paper").compiled()
    data = begin(model)
    hold(model, data, np.zeros(4), 6.0)
    np.testing.assert_allclose(data.qpos[[3, 5, 6]], [-0.904, 1.526, 0.724], atol=0.02)  # as in the paper's code
    assert abs(data.qpos[0] - commanded(np.zeros(4))[0]) < 0.01


def test_gripper_opens_and_closes_together() -> None:
    model = cube_model("matched").compiled()
    data = begin(model)
    hold(model, data, np.zeros(4), 1.5, CLOSED)
    assert (data.qpos[7:9] < 0.002).all()
    hold(model, data, np.zeros(4), 1.5, OPEN)
    np.testing.assert_allclose(data.qpos[7:9], 0.08, atol=2e-3)
    assert abs(data.qpos[7] - data.qpos[8]) < 1e-3


def test_a_dropped_cube_comes_to_rest_on_the_table() -> None:
    for model in (cube_model("matched").compiled(), cube_model("matched", BINS).compiled()):
        data = begin(model, (-0.3, 0.6, 0.07))
        hold(model, data, np.array([0.0, -1.0, 0.0, 0.0]), 1.0)
        np.testing.assert_allclose(data.qpos[9:12], [-0.3, 0.6, CUBE_HALF], atol=1e-3)
        assert np.abs(data.qvel[9:]).max() < 1e-3


@pytest.mark.parametrize("bins", [(), BINS])
def test_the_hand_does_not_pass_through_the_table(bins: tuple) -> None:
    model = cube_model("matched", bins).compiled()
    hand = model.geom("hand").id
    lowest = 1.0
    for turn in (-1.0, 0.0, 1.0):
        for action in ([turn, 1, -0.2, 0], [turn, 1, 0.2, -1], [turn, 1, -0.6, 1]):
            data = begin(model)
            for _ in range(30):
                hold(model, data, np.array(action, float), 0.05)
                axis = data.geom_xmat[hand].reshape(3, 3)[2, 2]
                lowest = min(lowest, data.geom_xpos[hand, 2] - 0.06 * abs(axis))
    assert lowest < 0.05, "no motion pressed the hand onto the table"
    assert lowest > 0.0  # the core of the capsule, 4 cm under its skin, stays above


@pytest.mark.parametrize("layout", ["binpick-easy", "binpick-hard"])
@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, np.pi, 4.0, 1.5 * np.pi])
def test_a_sliding_cube_does_not_leave_its_bin(layout: str, angle: float) -> None:
    where = LAYOUTS[layout].bins[0]
    model = cube_model("matched", LAYOUTS[layout].bins).compiled()
    data = begin(model, (where[0], where[1], CUBE_HALF))
    data.qvel[9:11] = 2.2 * np.cos(angle), 2.2 * np.sin(angle)
    farthest = 0.0
    for _ in range(20):
        hold(model, data, np.array([0.0, -1.0, 0.0, 0.0]), 0.05)
        farthest = max(farthest, np.abs(data.qpos[9:11] - where[:2]).max())
    inner = where[2] - 0.01
    assert farthest > inner - 0.06, "it never came to a wall"
    assert farthest < inner - CUBE_HALF + 0.02  # a corner of the cube may turn to the wall, its middle not
    assert data.qpos[11] < 0.05


def test_walls_stand_as_bins() -> None:
    walls = bin_walls((0.3, 0.6, 0.195))
    np.testing.assert_allclose(
        walls,
        [[0.3, 0.41, 0.195, 0.005], [0.3, 0.79, 0.195, 0.005], [0.11, 0.6, 0.005, 0.185], [0.49, 0.6, 0.005, 0.185]],
    )


def test_mjx_holds_few_contacts() -> None:
    assert contact_slots(arm_model("matched")) == 2
    assert contact_slots(cube_model("matched")) == 28
    assert contact_slots(cube_model("matched", BINS)) == 32

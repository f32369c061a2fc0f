"""Pushing, and carrying from bin to bin: observation, starts and goals, and that the arm can do it."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from arm_moves import Kinematics, along
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.arm_objects import LAYOUTS, ArmCube
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState

NAMES = tuple(LAYOUTS)
# Squares of the facts: middle of the starts, middle of the goals, half of the edge.
SQUARES = {
    "push-easy": ((-0.1, 0.6), (0.1, 0.6), 0.1),
    "push-hard": ((-0.25, 0.65), (0.25, 0.65), 0.25),
    "binpick-easy": ((-0.15, 0.6), (0.17, 0.6), 0.09),
    "binpick-hard": ((-0.3, 0.6), (0.3, 0.6), 0.15),
}


@cache
def resets(layout: str) -> tuple[PhysicsState, np.ndarray]:
    """2,000 starts and goals."""
    env = ArmCube(layout)
    return jax.device_get(jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(5), 2000)))


@eqx.filter_jit
def play(env: ArmCube, state: PhysicsState, actions: jax.Array) -> PhysicsState:
    """States after each action."""

    def one_step(state: PhysicsState, action: jax.Array) -> tuple[PhysicsState, PhysicsState]:
        state = env.step(state, action, jax.random.key(0))
        return state, state

    return jax.lax.scan(one_step, state, actions)[1]


def with_cube(state: PhysicsState, place: np.ndarray, yaw: float = 0.0) -> PhysicsState:
    quat = np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
    return eqx.tree_at(lambda s: s.qpos, state, state.qpos.at[9:].set(np.concatenate([place, quat])))


@pytest.mark.parametrize("layout", NAMES)
def test_sizes_and_times(layout: str) -> None:
    env = build_env(Part(f"arm-{layout}"))
    spec = spec_of(env)
    assert (spec.observation_size, spec.action_size, spec.goal_size) == (17, 5, 3)
    assert (env.episode_length, env.success_radius, env.layout) == (1000, 0.1, layout)
    assert env.model().control_step() == pytest.approx(0.05)
    assert env.evaluation() is env
    assert len([g for g in range(env.model().compiled().ngeom) if "bin" in env.model().compiled().geom(g).name]) == (
        8 if "bin" in layout else 0
    )


@pytest.mark.parametrize("layout", NAMES)
def test_starts_and_goals_are_uniform_in_their_squares(layout: str) -> None:
    start, goal, half = SQUARES[layout]
    states, goals = resets(layout)
    for points, middle, height in ((states.qpos[:, 9:12], start, 0.07), (goals, goal, 0.03)):
        for axis in range(2):
            assert kstest(points[:, axis], "uniform", (middle[axis] - half, 2 * half)).pvalue > 1e-4
        np.testing.assert_allclose(points[:, 2], height, atol=1e-6)
    assert abs(np.corrcoef(states.qpos[:, 9], goals[:, 0])[0, 1]) < 0.1
    assert (states.qpos[:, :9] == states.qpos[0, :9]).all()
    assert not states.qvel.any()
    env = ArmCube(layout)
    assert np.asarray(jax.vmap(env.goal_reachable)(states, goals)).all()
    assert not bool(env.goal_reachable(jax.tree.map(lambda x: x[0], states), jnp.array([1.0, 0.6, 0.03])))


@settings(max_examples=10)
@given(layout=st.sampled_from(NAMES), row=st.integers(0, 1999))
def test_readouts_of_a_start_are_those_of_the_physics(layout: str, row: int) -> None:
    states, _ = resets(layout)
    env = ArmCube(layout)
    found = env.model().readouts_at(states.qpos[row], states.qvel[row])
    np.testing.assert_allclose(states.readouts["sensordata"][row], found["sensordata"], atol=1e-6)


def test_observation_is_laid_out_as_said() -> None:
    env = ArmCube("push-easy")
    state, _ = env.reset(jax.random.key(1))
    after = jax.tree.map(lambda x: x[-1], play(env, state, jnp.tile(jnp.array([0.5, -0.5, 0.2, 0.1, 1.0]), (4, 1))))
    compiled = env.model().compiled()
    data = mujoco.MjData(compiled)
    data.qpos[:], data.qvel[:] = after.qpos, after.qvel
    mujoco.mj_forward(compiled, data)
    seen = np.asarray(env.observation(after))
    np.testing.assert_allclose(seen[:3], data.body("cube").xpos, atol=1e-5)
    np.testing.assert_allclose(seen[3:10], [data.joint(f"joint{k}").qpos[0] for k in range(1, 8)], atol=1e-6)
    np.testing.assert_allclose(seen[10:13], data.body("link7").xpos, atol=1e-5)
    velocity = np.zeros(6)
    mujoco.mj_objectVelocity(compiled, data, mujoco.mjtObj.mjOBJ_XBODY, compiled.body("link7").id, velocity, 0)
    assert np.linalg.norm(velocity[3:]) > 0.1
    np.testing.assert_allclose(seen[13:16], velocity[3:], atol=1e-4)
    apart = np.linalg.norm(data.body("left_finger").xpos - data.body("right_finger").xpos)
    np.testing.assert_allclose(seen[16], apart, atol=1e-5)
    np.testing.assert_allclose(env.achieved_goal(after), data.body("cube").xpos, atol=1e-5)
    assert not bool(env.terminated(after))


def test_a_sweep_of_the_hand_pushes_the_cube_to_its_goal() -> None:
    env = ArmCube("push-easy")
    state, _ = env.reset(jax.random.key(0))
    cube, goal = np.array([-0.1, 0.6, 0.07]), np.array([0.1, 0.6, 0.03])
    arm = Kinematics(env.model().compiled())
    # The hand comes down beside the cube, fingers closed, and moves on until it has brought the cube along.
    side = goal + np.array([-0.05, 0.0, 0.0])
    stations = [cube + np.array([-0.12, 0, 0.15]), np.array([-0.22, 0.6, 0.035]), np.array([side[0], 0.6, 0.035])]
    actions = along(*((arm.tips_at(p), 1.0, n) for p, n in zip(stations, (15, 10, 40), strict=True)))
    after = play(env, with_cube(state, cube), jnp.asarray(actions))
    path = np.asarray(after.qpos[:, 9:12])
    assert np.abs(path[25] - [-0.1, 0.6, 0.03]).max() < 0.02, "it was touched too early"
    assert path[-1, 0] - path[25, 0] > 0.1
    assert np.linalg.norm(path[-1] - goal) < env.success_radius


def test_the_gripper_carries_the_cube_from_bin_to_bin() -> None:
    env = ArmCube("binpick-hard")
    state, _ = env.reset(jax.random.key(0))
    arm = Kinematics(env.model().compiled())
    cube, goal = np.array([-0.25, 0.55, 0.03]), np.array([0.25, 0.55, 0.03])
    lift = np.array([0.0, 0.0, 0.14])
    above, at, there, down = (arm.tips_at(p) for p in (cube + lift, cube, goal + lift, goal))
    actions = along(
        (above, -1.0, 20), (above, -1.0, 10), (at, -1.0, 15), (at, 1.0, 15), (above, 1.0, 20), (there, 1.0, 40),
        (there, 1.0, 10), (down, 1.0, 15), (down, -1.0, 10), (there, -1.0, 10),
    )  # fmt: skip
    after = play(env, with_cube(state, cube, arm.yaw(at)), jnp.asarray(actions))
    path = np.asarray(after.qpos[:, 9:12])
    assert path[:, 2].max() > 0.12, "it was not lifted over the walls"
    assert np.linalg.norm(path[-1] - goal) < env.success_radius
    assert abs(path[-1, 2] - 0.03) < 5e-3


def test_top_view_and_pictures_show_the_bins() -> None:
    view = ArmCube("binpick-hard").top_view()
    assert view.walls.shape == (8, 4)
    assert (view.walls[:, :2] < view.walls[:, 2:]).all()
    assert ArmCube("push-hard").top_view().walls.shape == (0, 4)
    (marker,) = ArmCube("push-easy").markers(np.array([0.1, 0.6, 0.03]))
    assert marker.position == pytest.approx((0.1, 0.6, 0.03))
    assert marker.shape == "box"


def test_papers_gains_are_an_option() -> None:
    env = build_env(Part("arm-push-hard", {"gains": "paper"}))
    gains = env.model().compiled().actuator_gainprm[:7, 0]
    np.testing.assert_allclose(gains, [4500, 4500, 2000, 2000, 1000, 1000, 1000])
    stiffness = -env.model().compiled().actuator_biasprm[:7, 1]
    np.testing.assert_allclose(stiffness, [4500, 4500, 3500, 3500, 2000, 2000, 2000])
    np.testing.assert_allclose(ArmCube().model().compiled().actuator_gainprm[:7, 0], stiffness)


def test_contract() -> None:
    check_env(ArmCube("binpick-hard", episode_length=20)).raise_if_failed()


@pytest.mark.parametrize(("params", "complaint"), [({"layout": "push-esy"}, "push-easy"), ({"gains": "papr"}, "paper")])
def test_choices_that_do_not_exist_are_refused(params: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build_env(Part("arm-push-easy", params))

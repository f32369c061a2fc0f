"""Grasping: the goal around the cube, the two-part rule as one distance, and that the gripper can do it."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from arm_moves import Kinematics, along
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.arm_grasp import ArmGrasp
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState

place = st.floats(-0.1875, 0.1875, width=32)


def play(env: ArmGrasp, state: PhysicsState, actions: np.ndarray) -> PhysicsState:
    """States after each action."""

    def one_step(state: PhysicsState, action: jax.Array) -> tuple[PhysicsState, PhysicsState]:
        state = env.step(state, action, jax.random.key(0))
        return state, state

    return jax.jit(lambda: jax.lax.scan(one_step, state, jnp.asarray(actions))[1])()


def test_sizes_and_times() -> None:
    env = build_env(Part("arm-grasp"))
    spec = spec_of(env)
    assert (spec.observation_size, spec.action_size, spec.goal_size) == (23, 5, 7)
    assert (env.episode_length, env.success_radius, env.noise) == (1000, 0.05, 0.3)
    assert env.model().control_step() == pytest.approx(0.05)
    assert env.evaluation() is env


@pytest.mark.parametrize("noise", [0.3, 0.05])
def test_goals_stand_around_where_the_cube_comes_to_rest(noise: float) -> None:
    env = build_env(Part("arm-grasp", {"noise": noise}))
    states, goals = jax.device_get(jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(2), 2000)))
    cube = states.qpos[:, 9:12]
    for axis, middle in enumerate((0.0, 0.6)):
        assert kstest(cube[:, axis], "uniform", (middle - noise, 2 * noise)).pvalue > 1e-4
    np.testing.assert_allclose(goals[:, :2], cube[:, :2] + [0.0375, 0], atol=1e-6)
    np.testing.assert_allclose(goals[:, 3:5], cube[:, :2] - [0.0375, 0], atol=1e-6)
    np.testing.assert_allclose(goals[:, [2, 5]], 0.03, atol=1e-6)
    np.testing.assert_allclose(goals[:, 6], 0.075, atol=1e-6)
    found = env.model().readouts_at(states.qpos[7], states.qvel[7])["sensordata"]
    np.testing.assert_allclose(states.readouts["sensordata"][[0, 7]], [found, found], atol=1e-6)
    assert np.asarray(jax.vmap(env.goal_reachable)(states, goals)).all()


@given(
    st.lists(place, min_size=3, max_size=3), st.lists(place, min_size=3, max_size=3), st.floats(0, 0.15625, width=32)
)
def test_one_distance_says_what_the_two_part_rule_says(left: list, right: list, apart: float) -> None:
    env = ArmGrasp()
    goal = np.array([0.0375, 0, 0, -0.0375, 0, 0, 0.075])
    achieved = np.array([*left, *right, apart])
    middle = np.linalg.norm(np.add(left, right) / 2)
    error = abs(apart - 0.075)
    within = float(env.goal_distance(jnp.asarray(achieved, jnp.float32), jnp.asarray(goal, jnp.float32)))
    if min(abs(middle - 0.05), abs(error - 0.02)) > 1e-5:
        assert (within < env.success_radius) == (middle < 0.05 and error < 0.02)
    assert within == pytest.approx(max(middle, 2.5 * error), abs=1e-6)


def test_the_gripper_closes_around_the_cube_and_that_is_success() -> None:
    env = ArmGrasp()
    state, goal = env.reset(jax.random.key(4))
    cube = np.asarray(state.qpos[9:12], float)
    arm = Kinematics(env.model().compiled())
    rest = np.array([cube[0], cube[1], 0.03])
    above, at = arm.tips_at(rest + np.array([0, 0, 0.12])), arm.tips_at(rest)
    after = play(env, state, along((above, -1.0, 20), (above, -1.0, 10), (at, -1.0, 15), (at, -1.0, 5), (at, 1.0, 20)))
    distance = np.asarray(jax.vmap(lambda s: env.goal_distance(env.achieved_goal(s), goal))(after))
    assert distance[0] > env.success_radius
    assert distance[49] > env.success_radius, "open fingers around the cube are no grasp"
    assert distance[-1] < env.success_radius
    held = np.asarray(jax.vmap(env.achieved_goal)(after))[-1, 6]
    assert held > 0.06, "there is nothing between the fingers"


def test_observation_is_laid_out_as_said() -> None:
    env = ArmGrasp()
    state, _ = env.reset(jax.random.key(1))
    after = jax.tree.map(lambda x: x[-1], play(env, state, np.tile(np.array([0.5, -0.5, 0.2, 0.1, -1], "f"), (4, 1))))
    compiled = env.model().compiled()
    data = mujoco.MjData(compiled)
    data.qpos[:], data.qvel[:] = after.qpos, after.qvel
    mujoco.mj_forward(compiled, data)
    seen, velocity = np.asarray(env.observation(after)), np.zeros(6)
    mujoco.mj_objectVelocity(compiled, data, mujoco.mjtObj.mjOBJ_XBODY, compiled.body("link7").id, velocity, 0)
    expected = [data.body("cube").xpos, data.qpos[:7], data.body("link7").xpos, velocity[3:]]
    tips = [data.site("left_tip").xpos, data.site("right_tip").xpos]
    expected += [*tips, [np.linalg.norm(tips[0] - tips[1])]]
    np.testing.assert_allclose(seen, np.concatenate(expected), atol=1e-4)
    np.testing.assert_allclose(env.achieved_goal(after), seen[16:], atol=0)
    # At the start the left tip is the one with the greater x, as in the goal.
    start = np.asarray(env.achieved_goal(state))
    assert start[0] > start[3]
    assert [m.position[0] > 0 for m in env.markers(np.array([0.1, 0, 0, -0.1, 0, 0, 0.2]))] == [True, False]


def test_contract() -> None:
    check_env(ArmGrasp(episode_length=20)).raise_if_failed()


def test_a_square_beyond_the_arm_is_refused() -> None:
    with pytest.raises(ConfigError, match="noise"):
        build_env(Part("arm-grasp", {"noise": 0.5}))

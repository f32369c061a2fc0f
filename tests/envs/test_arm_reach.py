"""Reaching with the wrist: observation, goals, and that every goal can be reached."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.stats import kstest

from arm_moves import Kinematics, along
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.arm_reach import ArmReach
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.physics.base import PhysicsState


def play(env: ArmReach, state: PhysicsState, actions: jax.Array) -> PhysicsState:
    """States after each action (time, envs, 4) from a batch of states."""

    def one_step(state: PhysicsState, action: jax.Array) -> tuple[PhysicsState, PhysicsState]:
        state = jax.vmap(lambda s, a: env.step(s, a, jax.random.key(0)))(state, action)
        return state, state

    return jax.jit(lambda: jax.lax.scan(one_step, state, actions)[1])()


def test_sizes_and_times() -> None:
    env = build_env(Part("arm-reach"))
    spec = spec_of(env)
    assert (spec.observation_size, spec.action_size, spec.goal_size) == (13, 4, 3)
    assert (env.episode_length, env.success_radius, env.gains) == (1000, 0.1, "matched")
    assert env.model().control_step() == pytest.approx(0.05)
    assert env.evaluation() is env
    assert env.top_view().walls.shape == (0, 4)


def test_starts_are_one_and_goals_fill_a_cube() -> None:
    env = ArmReach()
    states, goals = jax.device_get(jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 2000)))
    for axis, middle in enumerate((0.0, 0.5, 0.3)):
        assert kstest(goals[:, axis], "uniform", (middle - 0.2, 0.4)).pvalue > 1e-4
    assert (states.qpos == states.qpos[0]).all()
    assert not states.qvel.any()
    found = env.model().readouts_at(states.qpos[0], states.qvel[0])["sensordata"]
    np.testing.assert_allclose(states.readouts["sensordata"], np.tile(found, (2000, 1)), atol=1e-6)
    assert np.asarray(jax.vmap(env.goal_reachable)(states, goals)).all()
    one = jax.tree.map(lambda x: x[0], states)
    assert not bool(env.goal_reachable(one, jnp.array([0.0, 0.5, 0.55])))


def test_every_goal_is_reached_by_holding_one_action() -> None:
    """32 random goals: the best action by inverse kinematics, held for three seconds, ends within 0.1 m."""
    env = ArmReach()
    states, goals = jax.vmap(env.reset)(jax.random.split(jax.random.key(3), 32))
    arm = Kinematics(env.model().compiled())
    actions = np.array([arm.wrist_at(np.asarray(goal, float)) for goal in goals], np.float32)
    after = jax.tree.map(lambda x: x[-1], play(env, states, jnp.tile(jnp.asarray(actions), (60, 1, 1))))
    distance = np.asarray(jax.vmap(env.goal_distance)(jax.vmap(env.achieved_goal)(after), goals))
    assert (distance < env.success_radius).all(), distance.max()
    assert np.median(distance) < 0.02
    start = np.linalg.norm(np.asarray(jax.vmap(env.achieved_goal)(states)) - np.asarray(goals), axis=1)
    assert (start < env.success_radius).mean() < 0.2


def test_observation_is_laid_out_as_said() -> None:
    env = ArmReach()
    state, _ = env.reset(jax.random.key(1))
    batch = jax.tree.map(lambda x: x[None], state)
    actions = along((np.array([0.8, -0.5, 0.5, 0.5]), 0.0, 3))[:, None, :4]
    after = jax.tree.map(lambda x: x[-1, 0], play(env, batch, jnp.asarray(actions)))
    compiled = env.model().compiled()
    data = mujoco.MjData(compiled)
    data.qpos[:], data.qvel[:] = after.qpos, after.qvel
    mujoco.mj_forward(compiled, data)
    seen, velocity = np.asarray(env.observation(after)), np.zeros(6)
    mujoco.mj_objectVelocity(compiled, data, mujoco.mjtObj.mjOBJ_XBODY, compiled.body("link7").id, velocity, 0)
    assert np.linalg.norm(velocity[3:]) > 0.1
    np.testing.assert_allclose(seen[:7], data.qpos, atol=1e-6)
    np.testing.assert_allclose(seen[7:10], data.body("link7").xpos, atol=1e-5)
    np.testing.assert_allclose(seen[10:], velocity[3:], atol=1e-4)
    np.testing.assert_allclose(env.achieved_goal(after), data.body("link7").xpos, atol=1e-5)


def test_papers_gains_change_where_an_action_leads() -> None:
    ends = []
    for gains in ("matched", "paper"):
        env = build_env(Part("arm-reach", {"gains": gains}))
        state = jax.tree.map(lambda x: x[None], env.reset(jax.random.key(0))[0])
        after = play(env, state, jnp.zeros((40, 1, 4)))
        ends.append(np.asarray(after.qpos[-1, 0]))
    np.testing.assert_allclose(ends[0][[3, 5]], [-1.5708, 3.0543], atol=0.02)
    np.testing.assert_allclose(ends[1][[3, 5]], [-0.904, 1.526], atol=0.02)


def test_contract() -> None:
    check_env(ArmReach(episode_length=20)).raise_if_failed()

"""The planar arm: its closed form against the physics, starts and goals, and that a servo solves it."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.envs.reacher import Reacher
from eqcrl.physics.base import PhysicsState
from eqcrl.robots.reacher import reacher_model, tip_position, tip_velocity

angle = st.floats(-3, 3, width=32)
rate = st.floats(-20, 20, width=32)


def test_sizes_and_times() -> None:
    env = build_env(Part("reacher"))
    spec = spec_of(env)
    assert (spec.observation_size, spec.action_size, spec.goal_size) == (10, 2, 3)
    assert (env.episode_length, env.success_radius) == (1000, 0.05)
    assert env.model().control_step() == pytest.approx(0.04)
    assert env.evaluation() is env
    assert env.top_view().walls.shape == (0, 4)


@given(st.tuples(angle, angle), st.tuples(rate, rate))
def test_the_tip_is_where_the_physics_has_it(angles: tuple[float, float], rates: tuple[float, float]) -> None:
    model = reacher_model().compiled()
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = angles, rates
    mujoco.mj_forward(model, data)
    qpos, qvel = jnp.asarray(angles, jnp.float32), jnp.asarray(rates, jnp.float32)
    np.testing.assert_allclose(tip_position(qpos), data.site("tip").xpos, atol=1e-5)
    velocity = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, model.site("tip").id, velocity, 0)
    np.testing.assert_allclose(tip_velocity(qpos, qvel), velocity[3:], atol=1e-4)
    state = PhysicsState(qpos, qvel, {}, jnp.zeros(0))
    expected = np.concatenate([np.cos(angles), np.sin(angles), data.site("tip").xpos, velocity[3:]])
    np.testing.assert_allclose(Reacher().observation(state), expected, atol=1e-4)


def test_starts_and_goals() -> None:
    env = Reacher()
    states, goals = jax.device_get(jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 2000)))
    for values, low, width in (
        (states.qpos[:, 0], -0.1, 0.2),
        (states.qpos[:, 1], -0.1, 0.2),
        (states.qvel[:, 0], -0.005, 0.01),
        (states.qvel[:, 1], -0.005, 0.01),
        (np.linalg.norm(goals[:, :2], axis=1), 0.0, 0.2),
        (np.arctan2(goals[:, 1], goals[:, 0]), -np.pi, 2 * np.pi),
    ):
        assert kstest(values, "uniform", (low, width)).pvalue > 1e-4
    assert (goals[:, 2] == np.float32(0.01)).all()
    assert np.asarray(jax.vmap(env.goal_reachable)(states, goals)).all()
    one = jax.tree.map(lambda x: x[0], states)
    assert not bool(env.goal_reachable(one, jnp.array([0.2, 0.1, 0.01])))


def test_one_step_is_newton() -> None:
    """A torque of 25 N m turns the shoulder's 1 kg m^2 (and little more) by about 25 rad/s^2 for 0.04 s."""
    env = Reacher()
    state, _ = env.reset(jax.random.key(0))
    after = env.step(state, jnp.array([1.0, 0.0]), jax.random.key(0))
    assert float(after.qvel[0] - state.qvel[0]) == pytest.approx(25 * 0.04, rel=0.03)
    back = env.step(state, jnp.array([-1.0, 0.0]), jax.random.key(0))
    assert float(back.qvel[0] - state.qvel[0]) == pytest.approx(-25 * 0.04, rel=0.03)
    clipped = env.step(state, jnp.array([3.0, 0.0]), jax.random.key(0))
    np.testing.assert_array_equal(clipped.qvel, after.qvel)


def test_a_servo_reaches_every_goal() -> None:
    env = Reacher()
    states, goals = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 64))
    # Law of cosines: the angles at which the tip is at the goal, elbow to one side; folded near the shoulder.
    reach = np.clip(np.linalg.norm(np.asarray(goals)[:, :2], axis=1), 0.019, 0.2)
    elbow = np.arccos(np.clip((reach**2 - 0.1**2 - 0.11**2) / (2 * 0.1 * 0.11), -1, 1))
    first = np.arctan2(goals[:, 1], goals[:, 0]) - np.arctan2(0.11 * np.sin(elbow), 0.1 + 0.11 * np.cos(elbow))
    target = jnp.asarray(np.stack([first, np.minimum(elbow, 2.95)], axis=1), jnp.float32)

    def one_step(state: PhysicsState, _: None) -> tuple[PhysicsState, None]:
        apart = jnp.arctan2(jnp.sin(target - state.qpos), jnp.cos(target - state.qpos)) * jnp.array([1.0, 0.0])
        apart = apart + (target - state.qpos) * jnp.array([0.0, 1.0])
        action = (20 * apart - 8 * state.qvel) / 25
        return jax.vmap(lambda s, a: env.step(s, a, jax.random.key(0)))(state, action), None

    after, _ = jax.jit(lambda: jax.lax.scan(one_step, states, None, 100))()
    distance = np.asarray(jax.vmap(env.goal_distance)(jax.vmap(env.achieved_goal)(after), goals))
    assert (distance < env.success_radius).all(), distance.max()


def test_contract() -> None:
    check_env(Reacher(episode_length=20)).raise_if_failed()

"""The half-cheetah's task on the C engine."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from jaxtyping import Array
from scipy.stats import kstest

from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.envs.cheetah import HalfCheetah
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState

ENV = HalfCheetah(physics="mujoco")


@eqx.filter_jit
def starts(env: HalfCheetah, keys: jax.Array) -> tuple[PhysicsState, Array]:
    return jax.vmap(env.reset)(keys)


@eqx.filter_jit
def after(env: HalfCheetah, state: PhysicsState, actions: Array) -> PhysicsState:
    """The last state after actions (time, envs, 6)."""
    step = jax.vmap(partial(env.step, key=jax.random.key(0)))
    return jax.lax.scan(lambda s, a: (step(s, a), None), state, actions)[0]


def test_the_table_of_facts() -> None:
    env = build_env(Part("half-cheetah"))
    assert isinstance(env, HalfCheetah)
    spec = spec_of(env)
    assert (spec.observation_size, spec.action_size, spec.goal_size) == (18, 6, 1)
    assert (env.episode_length, env.success_radius) == (1000, 0.5)
    assert env.model().control_step() == pytest.approx(0.05)
    assert env.evaluation() == env
    assert env.top_view() is None


def test_starts_are_noisy_and_the_goal_is_5_m_ahead() -> None:
    state, goal = starts(ENV, jax.random.split(jax.random.key(0), 500))
    np.testing.assert_array_equal(goal, np.full((500, 1), 5.0))
    position, velocity = np.asarray(state.qpos, np.float64), np.asarray(state.qvel, np.float64)
    for column in range(9):
        assert kstest(position[:, column], "uniform", (-0.1, 0.2)).pvalue > 1e-4
        assert kstest(velocity[:, column], "norm", (0.0, 0.1)).pvalue > 1e-4
    both = np.corrcoef(np.concatenate([position, velocity], axis=1).T) - np.eye(18)
    assert abs(both).max() < 0.25, "each number has a noise of its own"


def test_goals_may_fill_a_range() -> None:
    _, goal = starts(
        HalfCheetah(physics="mujoco", goal_low=-3.0, goal_high=8.0), jax.random.split(jax.random.key(1), 500)
    )
    assert kstest(np.asarray(goal, np.float64)[:, 0], "uniform", (-3.0, 11.0)).pvalue > 1e-4
    with pytest.raises(ConfigError, match="goal_low = 6 is above"):
        build_env(Part("half-cheetah", {"goal_low": 6.0}))


def test_observation_goal_and_distance() -> None:
    state, goal = ENV.reset(jax.random.key(2))
    seen = np.asarray(ENV.observation(state))
    np.testing.assert_array_equal(seen[:9], state.qpos)
    np.testing.assert_array_equal(seen[9:], state.qvel)
    np.testing.assert_array_equal(ENV.achieved_goal(state), seen[:1])
    for x in (3.0, 6.5):
        assert float(ENV.goal_distance(jnp.array([x]), goal)) == pytest.approx(abs(5.0 - x))


def test_every_motor_turns_its_own_hinge() -> None:
    model = ENV.model().compiled()
    state, _ = starts(ENV, jnp.stack([jax.random.key(3)] * 7))
    actions = jnp.concatenate([jnp.eye(6), jnp.zeros((1, 6))])[None]
    angle = np.asarray(after(ENV, state, actions).qpos)
    for motor in range(6):
        hinge = model.jnt_qposadr[model.actuator_trnid[motor, 0]]
        change = angle[motor] - angle[6]
        assert change[hinge] > 0.01, model.actuator(motor).name
        assert change[hinge] == max(change[3:]), "no other hinge turns as far"


def test_it_never_ends_and_never_sinks_into_the_floor() -> None:
    """Upside down too: it may lie on its back, but on the floor."""
    model = ENV.model().compiled()
    state, _ = starts(ENV, jax.random.split(jax.random.key(4), 32))
    state = eqx.tree_at(lambda s: s.qpos, state, state.qpos.at[16:, 2].add(jnp.pi).at[16:, 1].add(0.5))
    actions = jax.random.uniform(jax.random.key(5), (60, 32, 6), minval=-1.0)
    state = after(ENV, state, actions)
    assert not np.asarray(jax.vmap(ENV.terminated)(state)).any()
    data = mujoco.MjData(model)
    for row in np.asarray(state.qpos):
        data.qpos[:] = row
        mujoco.mj_forward(model, data)
        assert all(contact.dist > -0.1 for contact in data.contact)
        assert data.geom_xpos[:, 2].min() > -0.05


def test_the_contract_of_an_environment_holds() -> None:
    check_env(ENV).raise_if_failed()

"""The pusher: observation, starts and goals, what the claw touches, and that it moves the puck."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.stats import kstest

from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.envs.pusher import Pusher
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState
from eqcrl.robots.pusher import REACH, SHOULDER, pusher_model


@eqx.filter_jit
def play(env: Pusher, state: PhysicsState, actions: jax.Array) -> PhysicsState:
    """States after each action."""

    def one_step(state: PhysicsState, action: jax.Array) -> tuple[PhysicsState, PhysicsState]:
        state = env.step(state, action, jax.random.key(0))
        return state, state

    return jax.lax.scan(one_step, state, actions)[1]


@eqx.filter_jit
def serve(env: Pusher, state: PhysicsState, stations: jax.Array, steps: int) -> PhysicsState:
    """A servo on the angles from station to station (stations, 7), `steps` control steps each."""
    stiffness = jnp.array([12.0, 12.0, 6.0, 6.0, 3.0, 3.0, 3.0])

    def one_step(state: PhysicsState, target: jax.Array) -> tuple[PhysicsState, PhysicsState]:
        action = stiffness * (target - state.qpos[:7]) - 0.4 * stiffness * state.qvel[:7]
        state = env.step(state, action / 6, jax.random.key(0))
        return state, state

    return jax.lax.scan(one_step, state, jnp.repeat(stations, steps, axis=0))[1]


@pytest.mark.parametrize("goals", ["easy", "hard"])
def test_sizes_and_times(goals: str) -> None:
    env = build_env(Part(f"pusher-{goals}"))
    spec = spec_of(env)
    assert (spec.observation_size, spec.action_size, spec.goal_size) == (20, 7, 3)
    assert (env.episode_length, env.success_radius, env.goals) == (1000, 0.1, goals)
    assert env.model().control_step() == pytest.approx(0.05)
    assert env.evaluation() is env


@cache
def resets(env: Pusher) -> tuple[PhysicsState, np.ndarray]:
    return jax.device_get(jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(6), 4000)))


@pytest.mark.parametrize(
    ("params", "low", "high"),
    [
        ({"goals": "easy"}, (0.25, -0.6), (0.65, -0.3)),
        ({"goals": "hard"}, (-0.1, -0.7), (0.9, 0.3)),
        ({"goals": "hard", "beyond_reach": True}, (-0.1, -0.7), (0.9, 0.3)),
    ],
)
def test_starts_and_goals(params: dict[str, object], low: tuple[float, float], high: tuple[float, float]) -> None:
    env = build_env(Part("pusher-easy", params))
    states, goals = resets(env)
    puck = states.qpos[:, 7:]
    apart = np.linalg.norm(puck - goals[:, :2], axis=1)
    assert apart.min() > 0.17 - 1e-5
    free = apart > 0.17 + 1e-5
    assert 0.5 < free.mean() < 1
    assert (np.abs(puck[free] - [0.45, -0.2]) <= [0.2 + 1e-6, 0.15 + 1e-6]).all()
    assert not states.qpos[:, :7].any()
    assert kstest(states.qvel[:, 3], "uniform", (-0.005, 0.01)).pvalue > 1e-4
    assert not states.qvel[:, 7:].any()
    np.testing.assert_allclose(goals[:, 2], -0.275, atol=1e-6)
    away = np.linalg.norm(goals[:, :2] - SHOULDER, axis=1)
    inside = away < REACH - 1e-4
    if params.get("beyond_reach"):
        assert 0.05 < (~inside).mean() < 0.25  # the share that the law without the option draws back
        inside[:] = True
    else:
        assert np.asarray(jax.vmap(env.goal_reachable)(states, goals)).all()
        np.testing.assert_allclose(away[~inside], REACH, atol=1e-4)
    if inside.all():
        for axis in range(2):
            law = (low[axis], high[axis] - low[axis])
            assert kstest(goals[:, axis], "uniform", law).pvalue > 1e-4
    assert (goals[:, :2] >= np.array(low) - 1e-6).all()
    assert (goals[:, :2] <= np.array(high) + 1e-6).all()


@settings(max_examples=5)
@given(st.integers(0, 3999))
def test_readouts_of_a_start_are_those_of_the_physics(row: int) -> None:
    env = Pusher()
    states, _ = resets(env)
    found = env.model().readouts_at(states.qpos[row], states.qvel[row])
    np.testing.assert_allclose(states.readouts["sensordata"][row], found["sensordata"], atol=1e-6)


def test_observation_is_laid_out_as_said() -> None:
    env = Pusher()
    state, _ = env.reset(jax.random.key(1))
    actions = np.tile(np.array([0.5, 1.0, 0.2, -0.5, 0.1, -0.3, 0.2], "f"), (8, 1))
    after = jax.tree.map(lambda x: x[-1], play(env, state, jnp.asarray(actions)))
    compiled = env.model().compiled()
    data = mujoco.MjData(compiled)
    data.qpos[:], data.qvel[:] = after.qpos, after.qvel
    mujoco.mj_forward(compiled, data)
    names = ["pan", "lift", "upper_arm_roll", "elbow", "forearm_roll", "wrist", "wrist_roll"]
    angles = [data.joint(n).qpos[0] for n in names]
    rates = [data.joint(n).qvel[0] for n in names]
    assert np.abs(rates).min() > 1e-3
    expected = np.concatenate([angles, data.body("wrist").xpos, data.body("puck").xipos, rates])
    np.testing.assert_allclose(env.observation(after), expected, atol=1e-5)
    np.testing.assert_allclose(env.achieved_goal(after), data.body("puck").xipos, atol=1e-6)


def test_motors_are_in_the_order_of_the_angles() -> None:
    """Each motor alone turns its own joint the way of its sign, with 6 N m at full action."""
    env = Pusher()
    state, _ = env.reset(jax.random.key(0))
    compiled = env.model().compiled()
    data = mujoco.MjData(compiled)
    for motor in range(7):
        data.ctrl[:] = env.control(state, jnp.eye(7)[motor])
        mujoco.mj_forward(compiled, data)
        np.testing.assert_allclose(data.qfrc_actuator, np.eye(9)[motor] * 6.0, atol=1e-6)


def test_only_the_claw_touches_table_and_puck() -> None:
    compiled = pusher_model().compiled()
    hits = (compiled.geom_contype[:, None] & compiled.geom_conaffinity[None, :]) > 0
    pairs = {frozenset({compiled.geom(i).name, compiled.geom(j).name}) for i, j in np.argwhere(hits)}
    claw = ("palm", "right_prong", "left_prong")
    assert pairs == {frozenset({one, other}) for one in claw for other in ("table", "puck")}


def test_the_claw_shoves_the_puck_and_stays_above_the_table() -> None:
    env = Pusher()
    state, _ = env.reset(jax.random.key(0))
    puck = np.array([0.55, -0.3])
    state = eqx.tree_at(lambda s: s.qpos, state, state.qpos.at[7:].set(puck))
    compiled = env.model().compiled()
    data = mujoco.MjData(compiled)

    def angles(place: np.ndarray) -> np.ndarray:
        def error(q: np.ndarray) -> np.ndarray:
            data.qpos[:7] = q
            mujoco.mj_kinematics(compiled, data)
            return np.concatenate([10 * (data.geom("palm").xpos - place), 0.05 * q])

        low, high = compiled.jnt_range[:7].T
        return least_squares(error, np.clip(np.array([0, 0.5, 0, -0.8, 0, -0.3, 0]), low, high), bounds=(low, high)).x

    beside, through = np.array([0.5, -0.62, -0.24]), np.array([0.5, -0.15, -0.24])
    after = serve(env, state, jnp.asarray(np.stack([angles(beside), angles(through)]), jnp.float32), 60)
    path = np.asarray(after.qpos[:, 7:])
    np.testing.assert_allclose(path[50], puck, atol=1e-3)
    assert path[-1, 1] > puck[1] + 0.1
    assert np.abs(np.asarray(after.qvel[-1, 7:])).max() < 0.05  # it stops with the claw
    lowest = 1.0
    for qpos in np.asarray(serve(env, state, jnp.tile(jnp.array([[0.0, 1.2, 0, -0.3, 0, 0, 0]]), (1, 1)), 60).qpos):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(compiled, data)
        lowest = min(lowest, *(data.geom(g).xpos[2] for g in ("palm", "left_prong", "right_prong")))
    assert -0.325 < lowest < -0.28  # the middle of a rod of 2 cm, pressed onto the table


def test_contract() -> None:
    check_env(Pusher(goals="hard", episode_length=20)).raise_if_failed()


def test_an_unknown_goal_law_is_refused() -> None:
    with pytest.raises(ConfigError, match="hard"):
        build_env(Part("pusher-easy", {"goals": "hrad"}))

"""The ant with a ball and with a block: their numbers, where they start, and that they can be moved."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import mujoco.rollout
import numpy as np
import pytest
from scipy.stats import kstest

from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.ant import AbstractAnt
from eqcrl.envs.ant_objects import AntBall, AntPush, push_room
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.errors import ConfigError
from eqcrl.robots.ant import POSE


@functools.partial(jax.jit, static_argnums=0)
def starts(env: AbstractAnt, keys: jax.Array) -> Any:
    """States, goals, observations and achieved goals, one for each key."""
    state, goal = jax.vmap(env.reset)(keys)
    return state.qpos, state.qvel, goal, jax.vmap(env.observation)(state), jax.vmap(env.achieved_goal)(state)


def reset(env: AbstractAnt, count: int = 3000) -> tuple[np.ndarray, ...]:
    """The same as float64."""
    return tuple(np.asarray(x, float) for x in starts(env, jax.random.split(jax.random.key(2), count)))


def roll(env: AbstractAnt, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Positions after each substep, rows one body each."""
    model = env.model().compiled()
    state = np.zeros((len(qpos), mujoco.mj_stateSize(model, int(mujoco.mjtState.mjSTATE_FULLPHYSICS))))
    state[:, 1 : 1 + model.nq], state[:, 1 + model.nq : 1 + model.nq + model.nv] = qpos, qvel
    ctrl = np.repeat(actions, env.model().substeps, axis=1)
    return mujoco.rollout.rollout(model, mujoco.MjData(model), state, ctrl)[0][:, :, 1 : 1 + model.nq]


@pytest.mark.parametrize("name", ["ant-ball", "ant-push"])
def test_the_numbers_of_both_tasks(name: str) -> None:
    env = build_env(Part(name))
    sizes = spec_of(env)
    assert (sizes.observation_size, sizes.action_size, sizes.goal_size) == (31, 8, 2)
    assert (env.episode_length, env.success_radius) == (1000, 0.5)
    assert env.model().control_step() == pytest.approx(0.05)


def test_the_ball_and_the_target() -> None:
    env = AntBall()
    qpos, qvel, goal, observation, achieved = reset(env)
    ball = qpos[:, 15:]
    np.testing.assert_array_equal(observation, np.hstack([qpos[:, :15], qvel[:, :14], ball]))
    np.testing.assert_array_equal(achieved, observation[:, 29:31])
    np.testing.assert_array_equal(qvel[:, 14:], 0.0)
    np.testing.assert_allclose(np.linalg.norm(goal, axis=1), 5.0, rtol=1e-5)
    angle = np.arctan2(goal[:, 1], goal[:, 0])
    assert kstest(angle / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-4
    from_fifth = ball - goal / 5
    np.testing.assert_allclose(np.linalg.norm(from_fifth, axis=1), 1.0, rtol=1e-4)
    turn = np.angle(np.exp(1j * (np.arctan2(from_fifth[:, 1], from_fifth[:, 0]) - angle)))
    assert kstest(turn / (4 * np.pi / 3) + 0.5, "uniform").pvalue > 1e-4
    distance = np.linalg.norm(ball, axis=1)
    assert 1.0 - 1e-4 < distance.min() < distance.max() < 2.0 + 1e-4
    body = env.model().compiled()
    assert body.body("ball").mass[0] == pytest.approx(0.576)
    assert body.opt.iterations == 1


def test_the_papers_accidents_with_the_ball_are_options() -> None:
    env = AntBall(goal_slice="paper", ball_start="paper")
    qpos, qvel, goal, observation, achieved = reset(env)
    np.testing.assert_array_equal(achieved, observation[:, 28:30])
    np.testing.assert_array_equal(achieved, np.stack([qvel[:, 13], qpos[:, 15]], axis=1))
    np.testing.assert_allclose(qpos[:, 16], 2 * goal[:, 1] / 5, atol=1e-5)
    offset = qpos[:, 15] - goal[:, 0] / 5
    assert kstest(np.arccos(np.clip(offset, -1, 1)) / np.pi, "uniform").pvalue > 1e-4
    assert 0.06 < np.mean(np.linalg.norm(qpos[:, 15:], axis=1) < 0.75) < 0.13, "in the torso"
    assert env.top_view() is None
    measured = env.evaluation()
    assert isinstance(measured, AntBall)
    assert (measured.goal_slice, measured.ball_start) == ("ball", "paper")
    with pytest.raises(ConfigError, match="goal_slice"):
        build_env(Part("ant-ball", {"goal_slice": "28:30"}))


def test_the_ant_pushes_the_ball() -> None:
    env = AntBall()
    qpos = np.array([[*POSE, 1.5, 0.0]])
    qvel = np.zeros((1, 16))
    qvel[0, 0], qvel[0, 2] = 8.0, 1.0  # thrown at it
    ball = roll(env, qpos, qvel, np.zeros((1, 20, 8)))[0, :, 15:]
    assert ball[-1, 0] > 2.0
    assert abs(ball[-1, 1]) < 0.3
    left_alone = roll(env, qpos, np.zeros((1, 16)), np.zeros((1, 20, 8)))[0, :, 15:]
    np.testing.assert_allclose(left_alone[-1], [1.5, 0.0], atol=1e-6)


def test_the_block_the_room_and_the_goals() -> None:
    env = AntPush()
    qpos, qvel, goal, observation, achieved = reset(env)
    np.testing.assert_allclose(observation, np.hstack([qpos[:, :15], qvel[:, :14], qpos[:, 15:17] + 8]), atol=1e-6)
    np.testing.assert_array_equal(achieved, qpos[:, :2])
    np.testing.assert_array_equal(qvel[:, 14:], 0.0)
    np.testing.assert_array_equal(qpos[:, 17], 0.0)
    for i in (15, 16):
        assert kstest((qpos[:, i] + 0.1) / 0.2, "uniform").pvalue > 1e-4
    assert kstest((qpos[:, 2] - 0.65) / 0.2, "uniform").pvalue > 1e-4
    near_x = goal[:, 0] > goal[:, 1]
    assert 0.45 < near_x.mean() < 0.55
    offset = goal - np.where(near_x[:, None], [16.0, 8.0], [8.0, 16.0])
    for i in (0, 1):
        assert kstest(offset[:, i] / 2, "uniform").pvalue > 1e-4
    body = env.model().compiled()
    assert (body.opt.iterations, body.opt.ls_iterations) == (4, 8)
    assert body.body_subtreemass[body.body("torso").id] == pytest.approx(7.29, abs=0.01)
    assert body.body("block").mass[0] == 1.0
    assert AntPush(block_mass=0.0002).model().compiled().body("block").mass[0] == pytest.approx(0.0002)
    np.testing.assert_allclose(body.geom("block").size, [3.6, 3.6, 1.8])
    np.testing.assert_allclose(body.geom_solimp[:, :3], np.tile([0.995, 0.995, 0.01], (body.ngeom, 1)))


def test_the_room_is_the_papers_around_a_block_at_8_8() -> None:
    """Walls by rays from above: the paper's seven boxes, as rectangles of x and y."""
    boxes = [(-12, 4, 12, 28), (4, 12, 20, 28), (12, 28, 12, 28), (-12, -4, -4, 12),
             (20, 28, 4, 12), (12, 28, -12, 4), (-12, 12, -12, -4)]  # fmt: skip
    model = AntPush().model().compiled()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    hit = np.zeros(1, np.int32)
    for x in range(-11, 28, 2):
        for y in range(-11, 28, 2):
            mujoco.mj_ray(model, data, np.array([x, y, 20.0]), np.array([0.0, 0.0, -1.0]), None, True, -1, hit)
            wall = any(a < x < b and c < y < d for a, b, c, d in boxes)
            inside = model.geom(int(hit[0])).name
            expected = "wall" if wall else "block" if max(abs(x - 8), abs(y - 8)) < 3.6 else ("floor", "torso")
            assert inside.startswith(expected), (x, y, inside)
            view = AntPush().top_view().walls
            drawn = any(a < x < c and b < y < d for a, b, c, d in view)
            assert drawn == wall
    assert push_room().shape() == (5, 5)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_ant_pushes_the_block_up_to_the_wall_behind_it(axis: int) -> None:
    """Thrown at the block again and again, from the side that is free: it goes to the cell beyond, into no wall."""
    env = AntPush()
    qpos = np.array([[*POSE, 0.0, 0.0, 0.0]])
    for _ in range(12):
        qpos[0, :15] = POSE
        qpos[0, axis], qpos[0, 1 - axis] = qpos[0, 15 + axis] + 3.0, 8.0  # 1.4 m before the block
        qvel = np.zeros((1, 17))
        qvel[0, axis], qvel[0, 2] = 8.0, 1.0
        path = roll(env, qpos, qvel, np.zeros((1, 20, 8)))
        assert np.isfinite(path).all()
        # It is lifted a little by what rubs against it, and falls down again.
        assert np.abs(path[0, :, 17]).max() < 1.0
        # The wall beyond begins at 20 m, that is 8.4 m from where the block stood.
        assert path[0, :, 15 + axis].max() < 8.4 + 0.1
        qpos = path[:, -1].copy()
    assert qpos[0, 15 + axis] > 4.0
    assert abs(qpos[0, 16 - axis]) < 0.5


@pytest.mark.parametrize("env", [AntBall(episode_length=20), AntPush(episode_length=20)], ids=["ball", "push"])
def test_the_contract_holds(env: AbstractAnt) -> None:
    check_env(env).raise_if_failed()


def test_goals_are_in_the_room() -> None:
    env = AntPush()
    state, goal = env.reset(jax.random.key(0))
    assert bool(env.goal_reachable(state, goal))
    assert not bool(env.goal_reachable(state, jnp.array([16.0, 16.0])))
    (marker,) = env.markers(np.asarray(goal))
    assert marker.position[2] + marker.size[2] > 3.9, "seen over the walls"

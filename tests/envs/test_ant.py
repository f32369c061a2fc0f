"""The ant's tasks: their numbers, where episodes start and end, and walls that hold."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import mujoco.rollout
import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.ant import AbstractAnt, Ant, AntMaze
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.envs.mazes import LAYOUTS
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState
from eqcrl.robots.ant import POSE
from eqcrl.robots.world import MOST_BOXES

# Walls, cells for goals in training, goals in evaluation: those of the paper's layouts (it has no evaluation layout
# of the hardest maze).
MAZES = {
    "ant-u-maze": ("u", 18, 6, 3),
    "ant-u2-maze": ("u2", 21, 8, 4),
    "ant-u3-maze": ("u3", 24, 10, 5),
    "ant-u4-maze": ("u4", 24, 10, 4),
    "ant-u5-maze": ("u5", 39, 16, 8),
    "ant-u6-maze": ("u6", 34, 14, 7),
    "ant-u7-maze": ("u7", 29, 12, 6),
    "ant-big-maze": ("big", 38, 25, 9),
    "ant-hardest-maze": ("hardest", 62, 45, 18),
}


@functools.partial(jax.jit, static_argnums=0)
def starts(env: AbstractAnt, keys: jax.Array) -> tuple[PhysicsState, jax.Array]:
    """Starts and goals, one for each key."""
    return jax.vmap(env.reset)(keys)


def reset(env: AbstractAnt, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions and goals of many starts."""
    state, goal = starts(env, jax.random.split(jax.random.key(seed), count))
    return np.asarray(state.qpos, float), np.asarray(goal, float)


@functools.partial(jax.jit, static_argnums=(0, 3))
def wander(env: AbstractAnt, state: PhysicsState, key: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Positions and terminations after each step of uniformly random actions."""

    def one_step(state: PhysicsState, key: jax.Array) -> tuple[PhysicsState, tuple[jax.Array, jax.Array]]:
        actions = jax.random.uniform(key, (state.qpos.shape[0], env.action_size), minval=-1.0, maxval=1.0)
        state = jax.vmap(lambda s, a: env.step(s, a, key))(state, actions)
        return state, (state.qpos, jax.vmap(env.terminated)(state))

    return jax.lax.scan(one_step, state, jax.random.split(key, steps))[1]


@pytest.mark.parametrize("name", ["ant", "ant-maze", *MAZES])
def test_the_numbers_of_every_task(name: str) -> None:
    env = build_env(Part(name))
    sizes = spec_of(env)
    assert (sizes.observation_size, sizes.action_size, sizes.goal_size) == (29, 8, 2)
    assert env.episode_length == 1000
    assert env.success_radius == 0.5
    assert env.model().control_step() == pytest.approx(0.05)
    assert env.physics == "mujoco", "the C engine is the default on a CPU"


@pytest.mark.parametrize("name", MAZES)
def test_every_named_maze_is_the_papers(name: str) -> None:
    layout, walls, training, evaluation = MAZES[name]
    env = build_env(Part(name))
    assert isinstance(env, AntMaze)
    assert env.layout == layout
    assert env.cell_size == 4.0
    assert env.maze().walls().sum() == walls
    assert len(env.goal_cells()) == training
    assert len(env.evaluation().goal_cells()) == evaluation
    assert env.start == env.evaluation().start == "fixed"
    boxes = sum(env.model().compiled().geom_bodyid == 0) - 1
    assert boxes <= walls / 2, "the C engine gets merged walls"


def test_observation_goal_and_action() -> None:
    env = Ant()
    state, _ = env.reset(jax.random.key(0))
    observation = env.observation(state)
    np.testing.assert_array_equal(observation, np.concatenate([state.qpos, state.qvel]))
    np.testing.assert_array_equal(env.achieved_goal(state), observation[:2])
    np.testing.assert_array_equal(env.control(state, jnp.arange(8.0)), np.arange(8.0))
    # Out of range is the same as full.
    full, beyond = (env.step(state, jnp.full(8, a), jax.random.key(0)) for a in (1.0, 7.0))
    np.testing.assert_array_equal(full.qpos, beyond.qpos)
    assert float(env.goal_distance(jnp.array([3.0, 0.0]), jnp.array([0.0, 4.0]))) == 5.0


@pytest.mark.parametrize("distance", [10.0, 4.0])
def test_the_goal_on_the_open_floor_is_on_a_circle(distance: float) -> None:
    qpos, goal = reset(Ant(distance=distance), 4000)
    np.testing.assert_allclose(np.linalg.norm(goal, axis=1), distance, rtol=1e-5)
    assert kstest(np.arctan2(goal[:, 1], goal[:, 0]) / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-4
    assert np.abs(qpos[:, :2]).max() <= 0.1


@pytest.mark.parametrize("name", ["ant-u4-maze", "ant-big-maze"])
def test_training_starts_at_r_and_goals_are_the_centers_of_all_other_cells(name: str) -> None:
    env = build_env(Part(name))
    qpos, goal = reset(env, 5000)
    start = env.maze().cells("R")[0] * 4.0
    assert 0.09 < np.abs(qpos[:, :2] - start).max() <= 0.1 + 1e-5
    cells, counts = np.unique(goal, axis=0, return_counts=True)
    expected = [c for c in env.maze().reachable_cells() * 4.0 if not np.array_equal(c, start)]
    np.testing.assert_array_equal(cells, expected)
    assert chisquare(counts).pvalue > 1e-4


def test_evaluation_is_from_r_to_the_marked_cells() -> None:
    env = AntMaze(layout="big", start="anywhere", episode_length=70, cell_size=3.0, success_radius=0.4)
    evaluation = env.evaluation()
    assert (evaluation.episode_length, evaluation.cell_size, evaluation.success_radius) == (70, 3.0, 0.4)
    qpos, goal = reset(evaluation, 2000)
    assert np.abs(qpos[:, :2] - 3.0 * env.maze().cells("R")).max() <= 0.1 + 1e-5
    cells, counts = np.unique(goal, axis=0, return_counts=True)
    np.testing.assert_array_equal(cells, 3.0 * env.maze().cells("G"))
    assert chisquare(counts).pvalue > 1e-4


def test_a_start_anywhere_is_in_any_cell_but_the_goals() -> None:
    env = AntMaze(layout="u4", start="anywhere")
    qpos, goal = reset(env, 12_000)
    offset = qpos[:, :2] - 4.0 * np.round(qpos[:, :2] / 4.0)
    assert np.abs(offset).max() <= 0.1 + 1e-5
    pairs, counts = np.unique(np.hstack([np.round(qpos[:, :2] / 4.0), goal / 4.0]), axis=0, return_counts=True)
    assert len(pairs) == 11 * 10
    assert np.any(pairs[:, :2] != pairs[:, 2:], axis=1).all()
    assert chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("least", "most", "steps"), [(6, 0, {6}), (0, 3, {1, 2, 3}), (5, 6, {5, 6}), (0, 0, {1, 2, 3, 4, 5, 6})]
)
def test_goals_can_be_limited_by_the_path_from_r(least: int, most: int, steps: set[int]) -> None:
    """Among them the paper's evaluations of the u maze: a single goal at the end, and limited distances."""
    env = AntMaze(layout="u", min_steps=least, max_steps=most)
    cells = env.goal_cells()
    assert set(env.maze().steps_from_start()[cells[:, 0], cells[:, 1]].tolist()) == steps


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"layout": "hardset"}, "Did you mean 'hardest'"),
        ({"start": "evaluation"}, "start"),
        ({"goals": "all"}, "goals"),
        ({"min_steps": -1}, "min_steps"),
        ({"min_steps": 7}, "No free cell of the layout u .*\n.*furthest cell is 6 steps away"),
        ({"goals": "marked", "max_steps": 2}, "No marked cell of the layout u"),
    ],
)
def test_what_is_wrong_with_a_maze_is_said(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build_env(Part("ant-maze", settings))


def test_a_layout_that_is_too_large_is_refused_at_once() -> None:
    side = 2 * round(MOST_BOXES[True] ** 0.5) + 7
    walls = np.zeros((side, side), bool)
    walls[[0, -1]] = walls[:, [0, -1]] = walls[2:-2:2, 2:-2:2] = True
    symbols = np.where(walls, "#", ".")
    symbols[1, 1], symbols[-2, -2] = "R", "G"
    with pytest.raises(ConfigError, match=r"has \d+ wall boxes; this physics engine takes at most 4000"):
        AntMaze(layout="/".join("".join(row) for row in symbols))


def test_goals_are_reachable_where_cells_connect() -> None:
    env = AntMaze(layout="######/#R.###/#.G#.#/######")
    state, _ = env.reset(jax.random.key(0))
    for goal, reachable in (((8.0, 8.0), True), ((8.0, 12.0), False), ((8.0, 16.0), False), ((-4.0, 4.0), False)):
        assert bool(env.goal_reachable(state, jnp.array(goal))) is reachable


def test_the_view_from_above_holds_the_maze() -> None:
    view = AntMaze(layout="u4").top_view()
    assert (view.low, view.high) == ((-2.0, -2.0), (26.0, 18.0))
    assert len(view.walls) == 24
    camera, (marker,) = AntMaze().camera(), AntMaze().markers(np.array([4.0, 8.0]))
    assert camera.body == "torso"
    assert marker.position[:2] == (4.0, 8.0)


def test_the_contract_holds() -> None:
    check_env(AntMaze(layout="big", start="anywhere", episode_length=20)).raise_if_failed()


def test_random_actions_end_about_as_many_episodes_as_in_the_paper() -> None:
    """There 14 % within 300 steps; measured here over 512 episodes: 16 %. With the paper's density all of them."""
    env = Ant()
    state, _ = starts(env, jax.random.split(jax.random.key(0), 256))
    qpos, ended = (np.asarray(x) for x in wander(env, state, jax.random.key(1), 300))
    share = ended.any(axis=0).mean()
    assert 0.07 < share < 0.26, share
    drift = np.median(np.linalg.norm(qpos[99, :, :2] - np.asarray(state.qpos)[:, :2], axis=1))
    assert 0.6 < drift < 1.2, "an ant that rattles on the spot or flies away"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_gets_through_a_wall(layout: str) -> None:
    """Ants launched at 5 m/s from random cells in random directions, acting at random for two seconds."""
    env = AntMaze(layout=layout)
    model, walls = env.model().compiled(), env.maze().walls()
    bodies, steps, rng = 64, 40, np.random.default_rng(5)
    cells, angle = env.maze().reachable_cells(), rng.uniform(0, 2 * np.pi, bodies)
    state = np.zeros((bodies, mujoco.mj_stateSize(model, int(mujoco.mjtState.mjSTATE_FULLPHYSICS))))
    state[:, 1:16] = POSE
    state[:, 1:3] = env.cell_size * cells[rng.integers(len(cells), size=bodies)]
    state[:, 16:18] = 5.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    actions = np.repeat(rng.uniform(-1, 1, (bodies, steps, 8)), env.model().substeps, axis=1)
    qpos = mujoco.rollout.rollout(model, mujoco.MjData(model), state, actions)[0][:, ::2, 1:16]

    center = np.round(qpos[..., :2] / env.cell_size).astype(int)
    assert not walls[center[..., 0], center[..., 1]].any(), "a torso's center is in a wall"
    data, depths = mujoco.MjData(model), []
    for poses in qpos:
        depths.append(0.0)
        for pose in poses:
            data.qpos[:] = pose
            mujoco.mj_kinematics(model, data)
            mujoco.mj_collision(model, data)
            with_wall = (model.geom_contype[data.contact.geom] == 2).any(axis=-1)
            depths[-1] = max(depths[-1], *-data.contact.dist[with_wall], 0.0)
    assert max(depths) < 0.2
    enough = 0.15 if layout == "open" else 0.3
    assert np.mean(np.array(depths) > 0) > enough, "too few launches met a wall for this to mean anything"


def test_a_wall_stops_an_ant_that_would_go_on_without_it() -> None:
    """Thrown along x from (4.5, 4): in the u maze a wall begins at x = 6, on the open floor nothing does."""
    reached = []
    for env in (AntMaze(layout="u"), Ant()):
        qpos = jnp.array(POSE).at[:2].set(jnp.array([4.5, 4.0]))
        state = env.engine().start(qpos, jnp.zeros(14).at[0].set(8.0).at[2].set(1.0), {})
        step = jax.jit(lambda s, env=env: env.step(s, jnp.zeros(8), jax.random.key(0)))
        places = []
        for _ in range(10):
            state = step(state)
            places.append(float(state.qpos[0]))
        reached.append(max(places))
    assert reached[0] < 6.0 - 0.25 + 0.1
    assert reached[1] > 6.5


def test_a_batch_steps_and_resets() -> None:
    """Episodes that end by a fall or by time begin anew at R."""
    batched = BatchedEnv(AntMaze(layout="u", episode_length=30), 32)

    @jax.jit
    def play(key: jax.Array) -> Any:
        def one_step(state: Any, key: jax.Array) -> Any:
            act, step = jax.random.split(key)
            action = jax.random.uniform(act, (32, 8), minval=-1.0, maxval=1.0)
            state, result = batched.step(state, action, step)
            return state, (state.physics.qpos, result.terminated, result.truncated)

        return jax.lax.scan(one_step, batched.reset(key), jax.random.split(key, 65))[1]

    qpos, terminated, truncated = (np.asarray(x) for x in play(jax.random.key(0)))
    done = terminated | truncated
    assert truncated[29].sum() + terminated[:30].sum() >= 32
    assert np.abs(qpos[done][:, :2] - 4.0).max() <= 0.1 + 1e-5
    assert np.abs(qpos[..., 2]).max() < 1.5

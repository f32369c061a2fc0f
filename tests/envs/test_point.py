"""The point mass: Newton, walls, starts and goals."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from eqcrl import registry
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.point import ACCELERATION, CONTROL_STEP, DRAG, RADIUS, SUBSTEPS, PointMaze, PointState
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.errors import ConfigError

LAYOUTS = ("u", "big", "hardest")
STEPS, BODIES = 100, 32
TOP_SPEED = ACCELERATION / DRAG
CORRIDOR = "#" * 42 + "\n#R" + "." * 38 + "G#\n" + "#" * 42


@jax.jit
def reset(env: PointMaze, keys: jax.Array) -> tuple[PointState, jax.Array]:
    """Starts and goals, one for each key."""
    return jax.vmap(env.reset)(keys)


@jax.jit
def trajectory(env: PointMaze, state: PointState, actions: jax.Array) -> PointState:
    """States after each of the actions, leaves (time, 2)."""

    def one_step(state: PointState, action: jax.Array) -> tuple[PointState, PointState]:
        state = env.step(state, action, jax.random.key(0))
        return state, state

    return jax.lax.scan(one_step, state, actions)[1]


@jax.jit
def _play(env: PointMaze, key: jax.Array, actions: jax.Array) -> tuple[PointState, PointState]:
    start, _ = reset(env, jax.random.split(key, actions.shape[0]))
    return start, jax.vmap(lambda s, a: trajectory(env, s, a))(start, actions)


def overlap(env: PointMaze, position: np.ndarray) -> float:
    """How deep (m) the disc stands in a wall, over all positions (..., 2); 0 or less: not at all."""
    position = np.asarray(position, np.float64).reshape(-1, 1, 2)
    boxes = env.maze().wall_boxes(env.cell_size)
    nearest = np.clip(position, boxes[None, :, :2], boxes[None, :, 2:])
    return float(RADIUS - np.linalg.norm(position - nearest, axis=-1).min())


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**31 - 1),
    hold=st.sampled_from([1, 4, 15, 50]),
    scale=st.sampled_from([0.3, 1.0, 30.0]),
    extreme=st.booleans(),
)
def test_the_body_never_enters_a_wall(layout: str, seed: int, hold: int, scale: float, extreme: bool) -> None:
    """Any actions: noise or long pushes, gentle, full or out of range, along the axes and diagonal."""
    env = PointMaze(layout)
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (BODIES, -(-STEPS // hold), 2))
    if extreme:
        actions = np.round(actions)
    actions = jnp.asarray(scale * np.repeat(actions, hold, axis=1)[:, :STEPS], jnp.float32)
    start, after = _play(env, jax.random.key(seed), actions)
    assert overlap(env, start.position) <= 1e-5
    assert overlap(env, after.position) <= 1e-5
    assert np.isfinite(after.velocity).all()
    # Around a corner one axis may pass some of its speed to the other, but there is none to be won.
    assert np.linalg.norm(after.velocity, axis=-1).max() <= np.sqrt(2) * TOP_SPEED * (1 + 1e-5)


@pytest.mark.parametrize("cell_size", [0.5, 0.8])
@pytest.mark.parametrize("start", ["anywhere", "fixed", "evaluation"])
def test_every_start_stands_clear_of_the_walls_at_any_cell_size(cell_size: float, start: str) -> None:
    env = PointMaze("u", start, cell_size=cell_size)
    states, goals = reset(env, jax.random.split(jax.random.key(0), 500))
    assert overlap(env, states.position) <= 1e-5
    assert overlap(env, goals) <= 1e-5, "the body cannot stand on this goal"


@pytest.fixture
def corridor(tmp_path: Path) -> PointMaze:
    """40 cells in a row: 80 m along the second axis, 2 m across."""
    path = tmp_path / "corridor.txt"
    path.write_text(CORRIDOR, encoding="utf-8")
    return PointMaze(str(path))


def at(position: tuple[float, float], velocity: tuple[float, float] = (0.0, 0.0)) -> PointState:
    return PointState(jnp.array(position), jnp.array(velocity))


def test_speed_follows_the_closed_form(corridor: PointMaze) -> None:
    after = trajectory(corridor, at((2.0, 2.0)), jnp.tile(jnp.array([0.0, 1.0]), (80, 1)))
    substeps = SUBSTEPS * np.arange(1, 81)
    dt = CONTROL_STEP / SUBSTEPS
    np.testing.assert_allclose(after.velocity[:, 1], TOP_SPEED * (1 - (1 - DRAG * dt) ** substeps), rtol=1e-4)
    # The differential equation itself, to the order of the integrator.
    time = dt * substeps
    np.testing.assert_allclose(after.velocity[:, 1], TOP_SPEED * (1 - np.exp(-DRAG * time)), rtol=0.02)
    np.testing.assert_allclose(
        after.position[:, 1] - 2.0, TOP_SPEED * (time - (1 - np.exp(-DRAG * time)) / DRAG), atol=0.06
    )
    np.testing.assert_array_equal(after.position[:, 0], 2.0)


def test_top_speed_and_time_constant_are_those_documented(corridor: PointMaze) -> None:
    after = trajectory(corridor, at((2.0, 2.0)), jnp.tile(jnp.array([0.0, 1.0]), (150, 1)))
    speed = np.asarray(after.velocity[:, 1])
    assert speed[-1] == pytest.approx(2.67, abs=0.01)
    assert np.interp((1 - np.exp(-1)) * speed[-1], speed, CONTROL_STEP * np.arange(1, 151)) == pytest.approx(
        0.67, abs=0.02
    )


def test_the_body_coasts_when_the_push_ends(corridor: PointMaze) -> None:
    after = trajectory(corridor, at((2.0, 10.0), (0.0, 2.0)), jnp.zeros((30, 2)))
    decay = (1 - DRAG * CONTROL_STEP / SUBSTEPS) ** (SUBSTEPS * np.arange(1, 31))
    np.testing.assert_allclose(after.velocity[:, 1], 2.0 * decay, rtol=1e-4)
    assert np.all(np.diff(after.position[:, 1]) > 0)
    # All of the initial momentum turns into way: v / drag.
    assert float(after.position[-1, 1]) - 10.0 == pytest.approx(2.0 / DRAG, rel=0.05)


def test_actions_out_of_range_push_no_harder(corridor: PointMaze) -> None:
    wild = trajectory(corridor, at((2.0, 2.0)), jnp.tile(jnp.array([0.0, 100.0]), (5, 1)))
    full = trajectory(corridor, at((2.0, 2.0)), jnp.tile(jnp.array([0.0, 1.0]), (5, 1)))
    np.testing.assert_array_equal(wild.position, full.position)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_wall_stops_what_pushes_into_it_and_lets_the_rest_slide(corridor: PointMaze, side: float) -> None:
    along = trajectory(corridor, at((2.0, 2.0)), jnp.tile(jnp.array([0.0, 0.7]), (40, 1)))
    slid = trajectory(corridor, at((2.0, 2.0)), jnp.tile(jnp.array([side, 0.7]), (40, 1)))
    np.testing.assert_array_equal(slid.position[:, 1], along.position[:, 1])
    np.testing.assert_array_equal(slid.velocity[:, 1], along.velocity[:, 1])
    np.testing.assert_allclose(slid.position[20:, 0], 2.0 + side * (1.0 - RADIUS), atol=1e-5)
    np.testing.assert_array_equal(slid.velocity[20:, 0], 0.0)


@pytest.mark.parametrize(("axis", "side"), [(0, -1.0), (0, 1.0), (1, -1.0)])
def test_a_body_leaves_the_wall_that_it_was_pushed_against(corridor: PointMaze, axis: int, side: float) -> None:
    into = jnp.zeros(2).at[axis].set(side)
    pressed = jax.tree.map(lambda x: x[-1], trajectory(corridor, at((2.0, 2.0)), jnp.tile(into, (30, 1))))
    free = trajectory(corridor, pressed, jnp.tile(-into, (3, 1)))
    assert float(-side * free.velocity[-1, axis]) > 0.8
    assert float(-side * (free.position[-1, axis] - pressed.position[axis])) > 0.1


def test_a_turn_is_possible_and_the_wall_around_the_corner_holds() -> None:
    """Into the corner of the u at full speed: down the middle column and no further."""
    env = PointMaze("u")
    actions = jnp.repeat(jnp.array([[0.0, 1.0], [1.0, 0.0]]), 60, axis=0)
    after = trajectory(env, at((2.0, 2.0)), actions)
    np.testing.assert_allclose(after.position[59], [2.0, 7.0 - RADIUS], atol=1e-5)
    np.testing.assert_allclose(after.position[-1], [7.0 - RADIUS, 7.0 - RADIUS], atol=1e-5)


def test_the_disc_rolls_around_a_corner_instead_of_catching_on_it() -> None:
    """Pushed at the end of the inner wall, 5 cm too high to pass: the corner turns it aside, and it goes on."""
    env = PointMaze("u")
    start = at((5.05 + RADIUS / 2, 5.0 + RADIUS))
    pushed = trajectory(env, start, jnp.tile(jnp.array([0.0, -1.0]), (40, 1)))
    assert float(pushed.position[-1, 0]) >= 5.0 + RADIUS
    assert float(pushed.position[-1, 1]) < 2.0
    assert overlap(env, pushed.position) <= 1e-5


def test_steps_and_resets_are_deterministic() -> None:
    env = PointMaze("big")
    starts, goals = reset(env, jax.vmap(jax.random.key)(jnp.array([3, 3, 4])))
    for drawn in (starts.position, goals):
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert not np.any(np.asarray(drawn[0]) == np.asarray(drawn[2]))
    start = jax.tree.map(lambda x: x[0], starts)
    step = jax.jit(env.step)
    here, there = (step(start, jnp.array([0.3, -0.8]), jax.random.key(k)) for k in (0, 1))
    np.testing.assert_array_equal(here.position, there.position)
    np.testing.assert_array_equal(here.velocity, there.velocity)


def uniform_over(cells: np.ndarray, points: np.ndarray, half_width: float, cell_size: float) -> bool:
    """Every cell equally often, and uniform over the square of +- half_width around its center."""
    points = np.asarray(points, np.float64)
    nearest = np.round(points / cell_size).astype(int)
    found, counts = np.unique(nearest, axis=0, return_counts=True)
    np.testing.assert_array_equal(found, cells)
    offset = points - nearest * cell_size
    assert np.abs(offset).max() <= half_width + 1e-5
    edges = np.linspace(-half_width - 1e-5, half_width + 1e-5, 5)
    grid, _, _ = np.histogram2d(offset[:, 0], offset[:, 1], bins=[edges, edges])
    return (len(cells) == 1 or chisquare(counts).pvalue > 1e-3) and chisquare(grid.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("start", ["anywhere", "fixed", "evaluation"])
def test_starts_and_goals_follow_their_law(layout: str, start: str) -> None:
    env = PointMaze(layout, start)
    states, goals = reset(env, jax.random.split(jax.random.key(8), 20_000))
    maze, width = env.maze(), env.cell_size / 2 - RADIUS
    np.testing.assert_array_equal(states.velocity, 0.0)
    if start == "anywhere":
        assert uniform_over(maze.reachable_cells(), states.position, width, env.cell_size)
    else:
        assert uniform_over(maze.cells("R"), states.position, 0.1, env.cell_size)
    wanted = maze.cells("G") if start == "evaluation" else maze.reachable_cells()
    assert uniform_over(wanted, goals, width, env.cell_size)
    assert bool(jnp.all(jax.vmap(env.goal_reachable)(states, goals)))


def test_evaluation_goes_from_the_start_cell_to_the_goal_cells() -> None:
    others = {"episode_length": 77, "cell_size": 1.5, "success_radius": 0.25}
    env = PointMaze("big", "anywhere", **others)
    assert env.evaluation() == PointMaze("big", "evaluation", **others)
    assert env.evaluation().evaluation() == env.evaluation()


@pytest.mark.parametrize(
    ("name", "layout", "start", "episode_length"),
    [
        ("point-open", "open", "anywhere", 120),
        ("point-maze", "u", "anywhere", 120),
        ("point-maze-fixed-start", "u", "fixed", 120),
        ("point-u-maze", "u", "anywhere", 120),
        ("point-u-maze-fixed-start", "u", "fixed", 120),
        ("point-big-maze", "big", "anywhere", 200),
        ("point-big-maze-fixed-start", "big", "fixed", 200),
        ("point-hardest-maze", "hardest", "anywhere", 300),
        ("point-hardest-maze-fixed-start", "hardest", "fixed", 300),
    ],
)
def test_registered_names_build_what_they_say(name: str, layout: str, start: str, episode_length: int) -> None:
    env = build_env(Part(name))
    assert env == PointMaze(layout, start, episode_length)
    assert env.evaluation() == PointMaze(layout, "evaluation", episode_length)


def test_every_maze_has_its_fixed_start_variant() -> None:
    names = {entry.name for entry in registry.entries("env") if entry.distribution == "eqcrl"}
    mazes = {name for name in names if name.endswith("-maze") and name.startswith("point-")}
    assert mazes == {"point-maze", "point-u-maze", "point-big-maze", "point-hardest-maze"}
    assert {f"{name}-fixed-start" for name in mazes} <= names


def test_a_layout_of_the_users_own_works_end_to_end(tmp_path: Path) -> None:
    """A grid with a walled-off pocket: no start and no goal in it, and it counts as out of reach."""
    path = tmp_path / "pocket.txt"
    path.write_text("#######\n#R.G#.#\n#######\n", encoding="utf-8")
    env = build_env(Part("point-maze", {"layout": str(path), "episode_length": 6}))
    assert isinstance(env, PointMaze)
    batch = BatchedEnv(env, 64)
    state, step = batch.reset(jax.random.key(0)), jax.jit(batch.step)
    for t in range(20):
        action = jax.random.uniform(jax.random.key(t), (64, 2), minval=-1, maxval=1)
        state, _ = step(state, action, jax.random.key(100 + t))
        assert overlap(env, state.physics.position) <= 2e-4
        assert float(state.physics.position[:, 1].max()) < 7.0
        assert float(state.desired_goal[:, 1].max()) < 7.0
    np.testing.assert_array_equal(state.episode, 20 // 6)
    assert not env.goal_reachable(at((2.0, 2.0)), jnp.array([2.0, 10.0]))
    assert not env.goal_reachable(at((2.0, 10.0)), jnp.array([2.0, 2.0]))
    assert not env.goal_reachable(at((2.0, 2.0)), jnp.array([0.0, 0.0]))
    assert env.goal_reachable(at((2.0, 2.0)), jnp.array([2.0, 6.9]))


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"layout": "hardset"}, "Did you mean 'hardest'"),
        ({"start": "nowhere"}, "env.start"),
        ({"episode_length": 0}, "env.episode_length"),
        ({"cell_size": 0.3}, "env.cell_size"),
        ({"success_radius": 0.0}, "env.success_radius"),
    ],
)
def test_parameters_that_no_maze_has_are_refused(params: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build_env(Part("point-maze", params))


def test_observation_goal_and_distance() -> None:
    env = PointMaze()
    state = at((2.0, 3.0), (0.5, -1.0))
    np.testing.assert_array_equal(env.observation(state), [2.0, 3.0, 0.5, -1.0])
    np.testing.assert_array_equal(env.achieved_goal(state), [2.0, 3.0])
    assert float(env.goal_distance(jnp.array([1.0, 2.0]), jnp.array([4.0, 6.0]))) == pytest.approx(5.0)
    assert not env.terminated(state)


def test_the_top_view_shows_the_walls() -> None:
    view = PointMaze("big").top_view()
    assert len(view.walls) == 38
    assert view.low == (-1.0, -1.0)
    assert view.high == (15.0, 15.0)
    assert view.walls.min() == -1.0
    assert view.walls.max() == 15.0

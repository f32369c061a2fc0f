"""The humanoid's tasks on the C engine: sizes, starts, goals, motors, walls, and how long it stands."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy.stats import chisquare, kstest

from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs import contract_goals
from eqcrl.envs.base import spec_of
from eqcrl.envs.check import check_env
from eqcrl.envs.humanoid import AbstractHumanoid, Humanoid, HumanoidMaze
from eqcrl.envs.probe import Probe, Violation
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState

OPEN = Humanoid(physics="mujoco")
U = HumanoidMaze(physics="mujoco")
ROBOTS = 128  # of which the median survival is taken
NAMES = ("humanoid", "humanoid-maze", "humanoid-u-maze", "humanoid-big-maze", "humanoid-hardest-maze")
SLICES = {"position": (0, 24), "velocity": (24, 47), "inertia": (47, 157), "motion": (157, 223), "torque": (223, 246)}


def maze(layout: str) -> HumanoidMaze:
    return HumanoidMaze(physics="mujoco", layout=layout)


@eqx.filter_jit
def starts(env: AbstractHumanoid, keys: jax.Array) -> tuple[PhysicsState, Array]:
    return jax.vmap(env.reset)(keys)


@eqx.filter_jit
def after(env: AbstractHumanoid, state: PhysicsState, actions: Float[Array, "time envs 17"]) -> PhysicsState:
    """The states after each of the actions, leaves (time, envs, ...)."""
    step = jax.vmap(partial(env.step, key=jax.random.key(0)))
    return jax.lax.scan(lambda s, a: (step(s, a),) * 2, state, actions)[1]


@eqx.filter_jit
def observed(env: AbstractHumanoid, state: PhysicsState) -> Array:
    return jax.vmap(env.observation)(state)


def noise(seed: int, time: int, envs: int) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), (time, envs, 17), minval=-1.0)


# ------------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_facts(name: str) -> None:
    env = build_env(Part(name))
    assert isinstance(env, AbstractHumanoid)
    spec = spec_of(env)
    assert (spec.observation_size, spec.action_size, spec.goal_size) == (246, 17, 3)
    assert (env.episode_length, env.success_radius) == (1000, 0.5)
    assert env.model().control_step() == pytest.approx(0.030 if name == "humanoid" else 0.015)
    assert spec_of(env.evaluation()) == spec


def test_only_the_mazes_bound_their_pairs_and_all_bound_their_contacts() -> None:
    assert (OPEN.model().max_contact_points, OPEN.model().max_geom_pairs) == (16, None)
    assert (U.model().max_contact_points, U.model().max_geom_pairs) == (16, 8)


def test_the_named_mazes_have_their_layouts() -> None:
    layouts = [build_env(Part(f"humanoid-{name}-maze")).layout for name in ("u", "big", "hardest")]
    assert layouts == ["u", "humanoid-big", "hardest"]
    walls = maze("humanoid-big").top_view().walls
    assert len(walls) == 38
    np.testing.assert_array_equal(walls[0], [-1, -1, 1, 1])


def test_the_parts_of_the_observation_stand_where_the_table_says() -> None:
    state, _ = starts(OPEN, jax.random.split(jax.random.key(0), 1))
    state = jax.tree.map(lambda x: x[-1, 0], after(OPEN, state, noise(1, 5, 1)))
    seen = np.asarray(OPEN.observation(state))
    part = {name: seen[low:high] for name, (low, high) in SLICES.items()}
    np.testing.assert_array_equal(part["position"], state.qpos)
    np.testing.assert_array_equal(part["velocity"], state.qvel)
    np.testing.assert_array_equal(part["torque"], state.readouts["qfrc_actuator"])
    model = OPEN.model().compiled()
    inertia, motion = part["inertia"].reshape(11, 10), part["motion"].reshape(11, 6)
    np.testing.assert_allclose(inertia[:, 9], model.body_mass[1:], rtol=1e-5)
    np.testing.assert_allclose(inertia[:, 1], inertia[:, 3], rtol=1e-6)
    # The shares add up to the velocity of the center of mass, and the torso turns as its gyroscope says.
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = state.qpos, state.qvel
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    np.testing.assert_allclose(motion[:, :3].sum(axis=0), data.subtree_linvel[1], atol=1e-4)
    np.testing.assert_allclose(motion[0, 3:], data.xmat[1].reshape(3, 3) @ state.qvel[3:6], atol=1e-4)
    np.testing.assert_array_equal(OPEN.achieved_goal(state), seen[:3])


@pytest.mark.parametrize(("height", "ends"), [(0.99, True), (1.01, False), (1.99, False), (2.01, True)])
def test_an_episode_ends_where_the_torso_leaves_one_to_two_meters(height: float, ends: bool) -> None:
    state, _ = OPEN.reset(jax.random.key(0))
    state = eqx.tree_at(lambda s: s.qpos, state, state.qpos.at[2].set(height))
    assert bool(OPEN.terminated(state)) is ends


def test_distance_counts_height() -> None:
    assert float(OPEN.goal_distance(jnp.array([1.0, 2.0, 1.4]), jnp.array([1.3, 2.4, 1.4]))) == pytest.approx(0.5)
    assert float(OPEN.goal_distance(jnp.array([1.0, 2.0, 1.0]), jnp.array([1.0, 2.0, 1.25]))) == pytest.approx(0.25)


# ------------------------------------------------------------------------------------------------ starts and goals


def test_goals_on_the_open_floor_are_uniform_in_radius_and_angle() -> None:
    state, goal = starts(OPEN, jax.random.split(jax.random.key(3), 2000))
    goal = np.asarray(goal, np.float64)
    np.testing.assert_array_equal(goal[:, 2], 1.25)
    radius, angle = np.hypot(goal[:, 0], goal[:, 1]), np.arctan2(goal[:, 1], goal[:, 0])
    assert kstest(radius, "uniform", (1.0, 4.0)).pvalue > 1e-3
    assert kstest(angle, "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-3
    assert abs(np.corrcoef(radius, angle)[0, 1]) < 0.1
    np.testing.assert_array_equal(state.qpos, np.tile(np.float32([0, 0, 1.4, 1] + [0] * 20), (2000, 1)))
    assert not np.asarray(state.qvel).any()


def cells_of(env: HumanoidMaze, points: Array) -> list[tuple[int, int]]:
    """The cell of each point, which must be its center."""
    cells = np.asarray(points, np.float64)[:, :2] / env.cell_size
    np.testing.assert_array_equal(cells, np.round(cells))
    return [(int(i), int(j)) for i, j in cells]


def uniform_over(found: list[tuple[int, int]], cells: np.ndarray) -> bool:
    counts = [found.count((int(i), int(j))) for i, j in cells]
    return sum(counts) == len(found) and chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("layout", ["u", "humanoid-big", "hardest"])
def test_from_r_to_the_other_free_cells_and_in_evaluation_to_the_marked_ones(layout: str) -> None:
    env = maze(layout)
    keys = jax.random.split(jax.random.key(4), 1500)
    home = tuple(int(x) for x in env.maze().cells("R")[0])
    for task, symbols in ((env, "G."), (env.evaluation(), "G")):
        state, goal = starts(task, keys)
        assert set(cells_of(env, state.qpos)) == {home}
        assert uniform_over(cells_of(env, goal), env.maze().cells(symbols))
        np.testing.assert_array_equal(goal[:, 2], 1.25)
        np.testing.assert_array_equal(state.qpos[:, 2:], np.tile(np.float32([1.4, 1] + [0] * 20), (1500, 1)))


def test_a_start_anywhere_is_never_at_its_goal() -> None:
    env = HumanoidMaze(physics="mujoco", start="anywhere")
    state, goal = starts(env, jax.random.split(jax.random.key(5), 1500))
    begin, end = cells_of(env, state.qpos), cells_of(env, goal)
    assert uniform_over(end, env.maze().cells("RG."))
    assert uniform_over(begin, env.maze().cells("RG."))
    assert all(one != other for one, other in zip(begin, end, strict=True))
    assert env.evaluation().start == "fixed"


@pytest.mark.parametrize("env", [OPEN, HumanoidMaze(physics="mujoco", start="anywhere", goal_in_state=True)])
def test_the_readouts_of_a_reset_are_those_of_its_pose(env: AbstractHumanoid) -> None:
    state, _ = starts(env, jax.random.split(jax.random.key(6), 8))
    model = env.model().compiled()
    data = mujoco.MjData(model)
    for row in range(8):
        data.qpos[:], data.qvel[:] = state.qpos[row], state.qvel[row]
        mujoco.mj_forward(model, data)
        for name, found in state.readouts.items():
            np.testing.assert_allclose(found[row], getattr(data, name), rtol=1e-5, atol=1e-5, err_msg=name)


def test_goals_in_walls_outside_and_on_the_ground_cannot_be_reached() -> None:
    state, _ = U.reset(jax.random.key(0))
    reach = {point: bool(U.goal_reachable(state, jnp.array(point))) for point in (
        (2.0, 4.0, 1.25), (0.0, 0.0, 1.25), (4.0, 4.0, 1.25), (-90.0, 400.0, 1.25), (2.0, 4.0, 0.5))}  # fmt: skip
    assert list(reach.values()) == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("name", "params", "complaint"),
    [
        ("humanoid", {"hinges": "stiff"}, "hinges"),
        ("humanoid", {"goal_radius_low": 6.0}, "goal_radius_low = 6 is above"),
        ("humanoid-maze", {"goals": "all"}, "goals"),
        ("humanoid-maze", {"start": "random"}, "start"),
        ("humanoid-maze", {"layout": "humanoid-bgi"}, "humanoid-big"),
    ],
)
def test_unknown_settings_are_refused(name: str, params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build_env(Part(name, params))


# -------------------------------------------------------------------------------------------------- the goal leak


def test_the_goal_is_hidden_unless_the_papers_leak_is_asked_for() -> None:
    leaky = HumanoidMaze(physics="mujoco", goal_in_state=True)
    contract_goals.goal_hidden.run(Probe(U, 0))
    with pytest.raises(Violation, match="leaks"):
        contract_goals.goal_hidden.run(Probe(leaky, 0))


def test_the_leak_has_the_layout_of_the_paper() -> None:
    leaky = Humanoid(physics="mujoco", goal_in_state=True)
    assert spec_of(leaky).observation_size == 268
    assert spec_of(leaky.evaluation()).observation_size == 268
    keys = jax.random.split(jax.random.key(7), 4)
    state, goal = starts(leaky, keys)
    plain, _ = starts(OPEN, keys)
    actions = noise(8, 3, 4)
    state, plain = (jax.tree.map(lambda x: x[-1], after(e, s, actions)) for e, s in ((leaky, state), (OPEN, plain)))
    seen, hidden = np.asarray(observed(leaky, state)), np.asarray(observed(OPEN, plain))
    np.testing.assert_array_equal(seen[:, :24], hidden[:, :24])
    np.testing.assert_array_equal(seen[:, 24:26], goal[:, :2])
    np.testing.assert_array_equal(seen[:, 26:49], hidden[:, 24:47])
    assert not seen[:, 49:51].any()
    inertia, motion = seen[:, 51:171].reshape(4, 12, 10), seen[:, 171:243].reshape(4, 12, 6)
    np.testing.assert_array_equal(inertia[:, 11, 9], 1.0)
    assert not motion[:, 11].any()
    # The 12th link is counted, so the shares of the others are smaller by its kilogram.
    shares = hidden[:, 157:223].reshape(4, 11, 6)[..., :3]
    np.testing.assert_allclose(motion[:, :11, :3], shares * 42.116 / 43.116, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(seen[:, 243:266], hidden[:, 223:246])
    assert not seen[:, 266:].any()


# --------------------------------------------------------------------------------------------------------- physics


def test_every_motor_turns_its_own_hinge_with_its_gear() -> None:
    model = OPEN.model().compiled()
    state, _ = starts(U, jax.random.split(jax.random.key(9), 18))
    actions = jnp.concatenate([jnp.eye(17), jnp.zeros((1, 17))])[None]
    state = jax.tree.map(lambda x: x[-1], after(U, state, actions))
    speed = np.asarray(state.qvel[:17] - state.qvel[17:])
    for motor in range(17):
        hinge = model.jnt_dofadr[model.actuator_trnid[motor, 0]]
        assert speed[motor, hinge] > 0.1, model.actuator(motor).name
        torque = np.zeros(23)
        torque[hinge] = 0.4 * (350.0 if motor < 11 else 100.0)
        np.testing.assert_allclose(state.readouts["qfrc_actuator"][motor], torque, rtol=1e-6)


@pytest.mark.parametrize(
    ("env", "low", "high"),
    [
        (OPEN, 0.9, 1.3),
        (U, 0.9, 1.3),
        (Humanoid(physics="mujoco", hinges="gym"), 0.2, 0.45),
    ],
    ids=["open", "u", "gym"],
)
def test_random_actions_stay_up_about_as_long_as_in_the_paper(env: AbstractHumanoid, low: float, high: float) -> None:
    """1.2 s there (median). Not so long either that the body would be a statue."""
    dt = env.model().control_step()
    time = round(1.8 / dt)
    state, _ = starts(env, jax.random.split(jax.random.key(10), ROBOTS))
    fallen = np.asarray(jax.vmap(jax.vmap(env.terminated))(after(env, state, noise(11, time, ROBOTS))))
    survival = np.where(fallen.any(axis=0), dt * (1 + fallen.argmax(axis=0)), np.inf)
    assert low < np.median(survival) < high


def depth_in_walls(env: HumanoidMaze, qpos: Float[np.ndarray, "robots 24"]) -> Float[np.ndarray, "robots"]:
    """How deep (m) the deepest part of each robot is in a wall, 0 for none; from cells alone, not from contacts.

    A point in a wall is as deep as the way out: sideways to the nearest free cell, or over the top.
    """
    model, size = env.model().compiled(), env.cell_size
    data = mujoco.MjData(model)
    free, walls = env.maze().cells("RG.") * size, env.maze().cells("#") * size
    geoms = np.flatnonzero(model.geom_bodyid > 0)
    capsule = model.geom_type[geoms] == int(mujoco.mjtGeom.mjGEOM_CAPSULE)
    half = np.where(capsule, model.geom_size[geoms, 1], 0.0)
    along = half[:, None] * np.linspace(-1, 1, 7)
    found = []
    for row in qpos:
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        axis = data.geom_xmat[geoms].reshape(-1, 3, 3)[:, :, 2]
        points = (data.geom_xpos[geoms][:, None] + along[..., None] * axis[:, None]).reshape(-1, 3)
        radius = np.repeat(model.geom_size[geoms, 0], along.shape[1])

        def aside(cells: np.ndarray, points: np.ndarray = points) -> np.ndarray:
            apart = np.maximum(np.abs(points[:, None, :2] - cells[None]) - size / 2, 0.0)
            return np.linalg.norm(apart, axis=-1).min(axis=1)

        over = size / 2 - points[:, 2]  # below the top of the walls
        to_free, to_wall = aside(free), aside(walls)
        inside = (to_free > 0) & (over > 0)
        outside = np.hypot(to_wall, np.maximum(-over, 0.0))
        found.append(max(0.0, (radius + np.where(inside, np.minimum(to_free, over), -outside)).max()))
    return np.array(found)


def launched(env: HumanoidMaze, count: int, seed: int) -> PhysicsState:
    """Upright in random free cells, at 3 m/s in any direction."""
    rng = np.random.default_rng(seed)
    cells = env.maze().cells("RG.")[rng.integers(0, len(env.maze().cells("RG.")), count)]
    state, _ = starts(env, jax.random.split(jax.random.key(seed), count))
    angle = rng.uniform(0, 2 * np.pi, count)
    place = jnp.asarray(cells * env.cell_size, jnp.float32)
    speed = jnp.asarray(3.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1), jnp.float32)
    return eqx.tree_at(
        lambda s: (s.qpos, s.qvel), state, (state.qpos.at[:, :2].set(place), state.qvel.at[:, :2].set(speed))
    )


def deepest(env: HumanoidMaze, world: AbstractHumanoid, layout_seed: int, count: int = 64) -> np.ndarray:
    """The depth that each robot reaches in 40 random steps, looked at every fourth."""
    states = after(world, launched(env, count, layout_seed), noise(layout_seed, 40, count))
    return np.max([depth_in_walls(env, np.asarray(row, np.float64)) for row in states.qpos[3::4]], axis=0)


@pytest.mark.parametrize("layout", ["u", "humanoid-big", "hardest"])
def test_nothing_passes_through_a_wall(layout: str) -> None:
    env = maze(layout)
    depth = deepest(env, env, 12)
    assert (depth > 0).sum() >= 16, "too few of them hit a wall"
    assert (depth > 0.2).sum() == 0, f"{depth.max():.3f} m"


def test_without_walls_the_same_robots_do_leak() -> None:
    """So the test above can fail."""
    world = Humanoid(physics="mujoco", substeps=5)
    assert (deepest(U, world, 12) > 0.2).sum() >= 16


# ------------------------------------------------------------------------------------------------------- contract


def test_the_contract_of_an_environment_holds() -> None:
    check_env(U).raise_if_failed()

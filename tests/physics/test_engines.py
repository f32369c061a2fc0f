"""What every engine owes a task: the same physics, bits that can be resumed, and walls that hold."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from jaxtyping import Array, Float

from eqcrl.envs.mazes import find_maze
from eqcrl.envs.mujoco import find_engine
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.world import WALL_HEIGHT
from physics.worlds import (
    DERIVED,
    ENGINES,
    ant,
    at_rest,
    by_hand,
    controls,
    converged,
    humanoid,
    pendulum,
    rows,
    same_bits,
    starts,
    stepper,
)

KEY = jax.random.key(0)
SMALL = pendulum()
WORLDS = {"small": (SMALL, (0.0, 0.0)), "ant": (converged(ant("u", readouts=DERIVED)), (4.0, 4.0))}
OTHERS = [name for name in ENGINES if name != "mujoco"]

# Largest |difference| of a position (m, rad) from C MuJoCo in float64, after so many control steps of random controls
# from random starts, the solver converged: contacts multiply rounding from step to step.
AFTER = {1: 1e-5, 5: 5e-4, 10: 2e-3}


@lru_cache
def run(name: str, model: Model, xy: tuple[float, float], count: int, steps: int) -> list[PhysicsState]:
    engine, step = find_engine(name, model), stepper(name, model)
    states = [starts(engine, KEY, count, xy)]
    for ctrl in controls(model, KEY, steps, count):
        states.append(step(states[-1], ctrl))
    return jax.tree.map(np.asarray, states)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", OTHERS)
def test_a_state_steps_the_same_as_under_mujoco(name: str, world: str):
    model, xy = WORLDS[world]
    expected, found = run("mujoco", model, xy, 32, 10), run(name, model, xy, 32, 10)
    assert np.array_equal(expected[0].qpos, found[0].qpos), "the same starts"
    assert np.abs(expected[10].qpos - expected[0].qpos).max() > 0.1, "and they move"
    for steps, bound in AFTER.items():
        assert np.abs(expected[steps].qpos - found[steps].qpos).max() < bound, steps


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", ENGINES)
def test_readouts_are_those_of_the_state_that_is_reached(name: str, world: str):
    model, xy = WORLDS[world]
    ctrl = np.asarray(controls(model, KEY, 10, 32))
    compiled = model.compiled()
    for state in (run(name, model, xy, 32, 10)[k] for k in (1, 10)):
        for i in range(0, 32, 8):
            data = mujoco.MjData(compiled)
            data.qpos[:], data.qvel[:] = state.qpos[i], state.qvel[i]
            mujoco.mj_forward(compiled, data)
            for read in set(model.readouts) - {"qfrc_actuator"}:
                np.testing.assert_allclose(state.readouts[read][i], getattr(data, read), atol=2e-4, err_msg=read)
    # A force belongs to the last substep, and says what drove the robot to where it is.
    first = run(name, model, xy, 32, 10)[0]
    for i in range(0, 32, 8):
        data = by_hand(model, first.qpos[i], first.qvel[i], ctrl[:1, i])
        found = run(name, model, xy, 32, 10)[1].readouts["qfrc_actuator"][i]
        np.testing.assert_allclose(found, data.qfrc_actuator, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["mujoco", "mjx"])
def test_it_goes_on_from_a_saved_state_with_the_same_bits(name: str):
    """Engines that are deterministic: the arrays of a state are all there is to it."""
    states, step = run(name, SMALL, (0.0, 0.0), 32, 10), stepper(name, SMALL)
    state = jax.tree.map(lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape), states[5])
    for ctrl in controls(SMALL, KEY, 10, 32)[5:]:
        state = step(state, ctrl)
    assert same_bits(state, states[10])


@pytest.mark.parametrize("name", ["mujoco", "mjx"])
def test_a_row_that_starts_anew_keeps_nothing_of_its_past(name: str):
    """An auto-reset is a select between two states: the fresh rows then step as if they had always been fresh."""
    states, step = run(name, SMALL, (0.0, 0.0), 32, 10), stepper(name, SMALL)
    old = np.arange(32) % 2 == 0
    mixed = jax.tree.map(lambda a, b: np.where(old.reshape(-1, *(1,) * (a.ndim - 1)), a, b), states[9], states[0])
    ctrl = controls(SMALL, KEY, 10, 32)
    assert same_bits(rows(step(mixed, ctrl[9]), old), rows(states[10], old))
    assert same_bits(rows(step(mixed, ctrl[0]), ~old), rows(states[1], ~old))


@pytest.mark.parametrize("name", ENGINES)
def test_a_fresh_start_is_all_zeros_and_the_state_keeps_its_shape(name: str):
    engine = find_engine(name, SMALL)
    pose, rest = at_rest(SMALL)
    state = engine.start(jnp.asarray(pose), jnp.asarray(rest), SMALL.readouts_at(pose, rest), task=(jnp.arange(2), ()))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.hidden))
    assert np.array_equal(state.qpos, pose)
    assert np.array_equal(state.qvel, rest)
    after = jax.eval_shape(engine.step, state, jax.ShapeDtypeStruct((2,), jnp.float32))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "mjx"])
def test_maps_of_maps(name: str):
    """For the engines that batch themselves; under MJX a map is JAX's own."""
    engine = find_engine(name, SMALL)
    state, ctrl = run(name, SMALL, (0.0, 0.0), 32, 10)[0], controls(SMALL, KEY, 10, 32)[0]
    fold, flat = lambda x: x.reshape(4, 8, *x.shape[1:]), lambda x: x.reshape(32, *x.shape[2:])
    nested = jax.jit(jax.vmap(jax.vmap(engine.step)), compiler_options=engine.compiler_options())
    found = jax.tree.map(flat, nested(*jax.tree.map(fold, (state, ctrl))))
    expected = run(name, SMALL, (0.0, 0.0), 32, 10)[1]
    np.testing.assert_allclose(found.qpos, expected.qpos, atol=1e-6)
    np.testing.assert_allclose(found.readouts["sensordata"], expected.readouts["sensordata"], atol=1e-4)


LAUNCHED = 64
"""Robots per layout."""


@lru_cache
def launch(name: str, robot: str, layout: str, speed: float) -> Float[Array, "steps robots nq"]:
    """Positions of robots that were thrown from random cells in random directions and then act at random."""
    merged = find_engine(name, pendulum()).merges_walls
    model, cell = (ant(layout, merged=merged), 4.0) if robot == "ant" else (humanoid(layout, merged=merged), 2.0)
    engine = find_engine(name, model)
    pose, rest = at_rest(model)
    free = np.argwhere(~find_maze(layout).walls())
    rng = np.random.default_rng(7)
    qpos, qvel = np.tile(pose, (LAUNCHED, 1)), np.tile(rest, (LAUNCHED, 1))
    qpos[:, :2] = cell * free[rng.integers(len(free), size=LAUNCHED)]
    angle = rng.uniform(0, 2 * np.pi, LAUNCHED)
    qvel[:, 0], qvel[:, 1] = speed * np.cos(angle), speed * np.sin(angle)
    readouts = model.readouts_at(pose, rest)
    state = jax.vmap(lambda q, v: engine.start(q, v, readouts))(qpos, qvel)

    def roll(state: PhysicsState, ctrl: Array) -> Array:
        def one(state: PhysicsState, ctrl: Array) -> tuple[PhysicsState, Array]:
            state = jax.vmap(engine.step)(state, ctrl)
            return state, state.qpos

        return jax.lax.scan(one, state, ctrl)[1]

    ctrl = controls(model, KEY, 40, LAUNCHED)
    program = jax.jit(roll, compiler_options=engine.compiler_options())
    return np.asarray(program(state, ctrl))


def deepest(model: Model, qpos: np.ndarray) -> float:
    """The deepest overlap (m) of a robot and a wall in any of these poses, by MuJoCo's collision in float64."""
    compiled = model.compiled()
    data = mujoco.MjData(compiled)
    names = [mujoco.mj_id2name(compiled, int(mujoco.mjtObj.mjOBJ_GEOM), g) or "" for g in range(compiled.ngeom)]
    wall = np.array([name.startswith("wall") for name in names])
    found = 0.0
    for pose in qpos:
        data.qpos[:] = pose
        mujoco.mj_kinematics(compiled, data)
        mujoco.mj_collision(compiled, data)
        against = wall[data.contact.geom].any(axis=1)
        found = max(found, -float(np.min(data.contact.dist[against], initial=0.0)))
    return found


ROOMS = [("ant", "u4"), ("ant", "big"), ("ant", "hardest"), ("humanoid", "u"), ("humanoid", "big")]
# Compiling a maze for MJX takes a quarter of a minute and more, and long scans of the humanoid have stopped for good on
# two cores (see "MJX on a small CPU" in docs/environments.md), so most of them are left to `nox -s worlds`.
SOON = [("ant", "hardest")]


@pytest.mark.parametrize(
    ("name", "robot", "layout"),
    [
        pytest.param(name, *room, marks=() if name == "mujoco" or room in SOON else pytest.mark.worlds)
        for name in ENGINES
        for room in ROOMS
    ],
)
def test_nothing_passes_through_a_wall(name: str, robot: str, layout: str):
    qpos = launch(name, robot, layout, 5.0 if robot == "ant" else 3.0)
    assert np.isfinite(qpos).all()
    cell = 4.0 if robot == "ant" else 2.0
    # Long boxes tell how deep a robot is in a row of cells, where each unit box would only see its own edge.
    model = ant(layout, merged=True) if robot == "ant" else humanoid(layout, merged=True)
    touched = deepest(model, qpos.reshape(-1, qpos.shape[-1]))
    assert 0.001 < touched < 0.2, f"{touched:.3f} m"
    center = np.round(qpos[..., :2] / cell).astype(int)
    # A humanoid that falls leans over the wall that stops its legs.
    below = qpos[..., 2] < WALL_HEIGHT * cell
    inside = find_maze(layout).walls()[center[..., 0], center[..., 1]]
    assert not (inside & below).any(), "no torso in a wall"
    assert np.abs(np.diff(center, axis=0)).max() <= 1, "and none beyond one"

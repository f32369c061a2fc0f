"""The C engine: MuJoCo's own bits, however it is called."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqcrl.envs.mujoco import find_engine
from eqcrl.physics import mujoco as c
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import READABLE, Model
from physics.worlds import ant, at_rest, by_hand, controls, pendulum, rows, same_bits, starts, stepper

KEY = jax.random.key(0)
PLAIN, READING = ant("u"), ant("u", readouts=("xpos", "cvel", "cinert", "qfrc_actuator"))
MODELS = pytest.mark.parametrize("model", [PLAIN, READING], ids=["plain", "reading"])


@given(seed=st.integers(0, 2**31), steps=st.integers(1, 6))
def test_a_row_is_what_mujoco_computes(seed: int, steps: int):
    model = pendulum()
    key, engine = jax.random.key(seed), find_engine("mujoco", pendulum())
    start = starts(engine, key, 3)
    ctrl = controls(model, key, steps, 3)
    state, step = start, stepper("mujoco", model)
    for row in ctrl:
        state = step(state, row)
    for i in range(3):
        data = by_hand(model, np.asarray(start.qpos[i]), np.asarray(start.qvel[i]), np.asarray(ctrl[:, i]))
        assert np.array_equal(state.qpos[i], data.qpos.astype(np.float32))
        assert np.array_equal(state.qvel[i], data.qvel.astype(np.float32))


CONTROLLER = """
<mujoco>
  <extension>
    <plugin plugin="mujoco.pid">
      <instance name="pid"><config key="kp" value="40"/><config key="ki" value="40"/><config key="kd" value="4"/>
        <config key="slewmax" value="3"/><config key="imax" value="40"/></instance>
    </plugin>
  </extension>
  <option timestep="0.01"/>
  <worldbody>
    <body><joint name="hinge" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.05"/></body>
  </worldbody>
  <actuator><plugin joint="hinge" plugin="mujoco.pid" instance="pid" actdim="2"/></actuator>
</mujoco>
"""


def test_activations_and_plugins_are_carried():
    """The controller remembers its integral and its last control; rows take turns on one pool."""
    model = Model(CONTROLLER, 4)
    engine, step = find_engine("mujoco", model), stepper("mujoco", model)
    ctrl = np.random.default_rng(0).uniform(-1, 1, (6, 2, 1)).astype(np.float32)
    start = jax.vmap(lambda angle: engine.start(angle[None], jnp.zeros(1), {}))(jnp.array([0.3, -1.0]))
    state = start
    for row in ctrl:
        other = step(rows(state, slice(None, None, -1)), -row)
        state = step(state, row)
        assert not same_bits(other, state)
    for i in range(2):
        data = by_hand(model, np.asarray(start.qpos[i]), np.zeros(1, np.float32), ctrl[:, i])
        assert np.any(data.act)
        assert np.array_equal(state.qpos[i], data.qpos.astype(np.float32))
        assert np.array_equal(state.qvel[i], data.qvel.astype(np.float32))


def test_readouts_are_those_of_the_state_that_is_reached():
    model, step = pendulum(readouts=READABLE), stepper("mujoco", pendulum(readouts=READABLE))
    start = starts(find_engine("mujoco", model), KEY, 4)
    ctrl = controls(model, KEY, 3, 4)
    state = start
    for row in ctrl:
        state = step(state, row)
    for i in range(4):
        data = by_hand(model, np.asarray(start.qpos[i]), np.asarray(start.qvel[i]), np.asarray(ctrl[:, i]))
        # A force belongs to the last substep: it is what drove the robot here.
        applied = data.qfrc_actuator.astype(np.float32)
        mujoco.mj_forward(model.compiled(), data)
        for name in READABLE:
            expected = applied if name == "qfrc_actuator" else getattr(data, name).astype(np.float32)
            assert np.array_equal(state.readouts[name][i], expected), name


def through_vmap(step: Callable[..., Any], state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
    return jax.vmap(step)(state, ctrl)


def through_two_vmaps(step: Callable[..., Any], state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
    fold, flat = lambda x: x.reshape(2, 3, *x.shape[1:]), lambda x: x.reshape(6, *x.shape[2:])
    return jax.tree.map(flat, jax.vmap(jax.vmap(step))(*jax.tree.map(fold, (state, ctrl))))


def through_map(step: Callable[..., Any], state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
    return jax.lax.map(lambda pair: step(*pair), (state, ctrl))


def through_scan(step: Callable[..., Any], state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
    return jax.lax.scan(lambda s, _: (jax.vmap(step)(s, ctrl), None), state, None, length=1)[0]


def through_cond(step: Callable[..., Any], state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
    return jax.lax.cond(jnp.isfinite(ctrl).all(), lambda: jax.vmap(step)(state, ctrl), lambda: state)


def by_transposed_vmap(step: Callable[..., Any], state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
    return jax.vmap(step, in_axes=(0, 1))(state, ctrl.T)


WAYS = [through_vmap, through_two_vmaps, through_map, through_scan, through_cond, by_transposed_vmap]


@MODELS
@pytest.mark.parametrize("way", WAYS)
def test_bits_do_not_depend_on_the_way_it_is_called(model: Model, way: Callable[..., Any]):
    engine = find_engine("mujoco", model)
    state, ctrl = starts(engine, KEY, 6, (4.0, 4.0)), controls(model, KEY, 6)
    one_by_one = [engine.step(jax.tree.map(lambda x, i=i: x[i], state), ctrl[i]) for i in range(6)]
    expected = jax.tree.map(lambda *x: jnp.stack(x), *one_by_one)
    assert same_bits(jax.jit(lambda s, a: way(engine.step, s, a))(state, ctrl), expected)
    assert same_bits(way(engine.step, state, ctrl), expected), "without jit"


def test_a_control_that_is_shared_by_all_rows():
    engine = find_engine("mujoco", PLAIN)
    state, ctrl = starts(engine, KEY, 4, (4.0, 4.0)), controls(PLAIN, KEY)
    shared = jax.vmap(engine.step, in_axes=(0, None))(state, ctrl)
    assert same_bits(shared, jax.vmap(engine.step)(state, jnp.tile(ctrl, (4, 1))))


@MODELS
def test_bits_do_not_depend_on_the_batch_or_on_the_threads(model: Model, monkeypatch: pytest.MonkeyPatch):
    engine, step = find_engine("mujoco", model), stepper("mujoco", model)
    state, ctrl = starts(engine, KEY, 64, (4.0, 4.0)), controls(model, KEY, 10, 64)

    def run(count: int) -> PhysicsState:
        found = rows(state, slice(count))
        for row in ctrl:
            found = step(found, row[:count])
        return found

    whole = run(64)
    for count in (1, 3, 17):
        assert same_bits(run(count), rows(whole, slice(count)))
    monkeypatch.setattr(c, "cores", lambda: tuple(range(5)))
    c._pool.cache_clear()
    assert same_bits(run(64), whole)


@MODELS
def test_nothing_is_kept_between_calls(model: Model):
    """Programs take turns on one pool, rows change places and branch: each goes on from its own state."""
    engine, step = find_engine("mujoco", model), stepper("mujoco", model)
    ctrl = controls(model, KEY, 6, 8)
    first, second = starts(engine, KEY, 8, (4.0, 4.0)), starts(engine, jax.random.key(1), 8, (4.0, 12.0))
    alone = first
    for row in ctrl:
        alone = step(alone, row)
    order = np.random.default_rng(0).permutation(8)
    mixed, other = first, second
    for row in ctrl:
        other = step(other, row)
        mixed = step(mixed, row)
        shuffled = step(rows(mixed, order), row[order])
        assert same_bits(shuffled, rows(step(mixed, row), order))
    assert same_bits(mixed, alone)


@MODELS
def test_more_batch_sizes_than_pools_are_kept(model: Model):
    engine, step = find_engine("mujoco", model), stepper("mujoco", model)
    state, ctrl = starts(engine, KEY, 16, (4.0, 4.0)), controls(model, KEY, 16)
    expected = step(state, ctrl)
    for count in range(1, c.KEPT_POOLS + 4):
        step(rows(state, slice(count)), ctrl[:count])
    assert c._pool.cache_info().currsize == c.KEPT_POOLS
    assert same_bits(step(state, ctrl), expected)


def test_compiled_ahead_of_time_with_a_donated_state():
    engine = find_engine("mujoco", READING)
    state, ctrl = starts(engine, KEY, 4, (4.0, 4.0)), controls(READING, KEY, 4)
    expected = stepper("mujoco", READING)(state, ctrl)
    lowered = jax.jit(jax.vmap(engine.step), donate_argnums=0).lower(state, ctrl)
    program = lowered.compile(compiler_options=engine.compiler_options())
    assert same_bits(program(jax.tree.map(jnp.copy, state), ctrl), expected)


def test_two_engines_in_one_program():
    """Training and evaluation, or a task and another: callbacks of two models in one scan."""
    ant_engine, small = find_engine("mujoco", PLAIN), find_engine("mujoco", pendulum())
    states = starts(ant_engine, KEY, 4, (4.0, 4.0)), starts(small, KEY, 3)
    a, b = controls(PLAIN, KEY, 5, 4), controls(pendulum(), KEY, 5, 3)

    def both(carry: Any, row: Any) -> tuple[Any, None]:
        return (jax.vmap(ant_engine.step)(carry[0], row[0]), jax.vmap(small.step)(carry[1], row[1])), None

    together = jax.jit(lambda s: jax.lax.scan(both, s, (a, b))[0])(states)
    for engine, state, ctrl, found in zip((ant_engine, small), states, (a, b), together, strict=True):
        step = jax.jit(jax.vmap(engine.step))
        for row in ctrl:
            state = step(state, row)
        assert same_bits(found, state)


@MODELS
@pytest.mark.parametrize("harm", ["control", "position", "speed", "huge"])
def test_a_diverged_row_is_nan_and_harms_no_other(
    model: Model, harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    engine, step = find_engine("mujoco", model), stepper("mujoco", model)
    state, ctrl = starts(engine, KEY, 5, (4.0, 4.0)), controls(model, KEY, 5)
    sound = step(step(state, ctrl), ctrl)
    match harm:
        case "control":
            harmed = step(state, ctrl.at[2].set(jnp.nan))
        case "position":
            harmed = step(PhysicsState(state.qpos.at[2, 3].set(jnp.nan), *_rest(state)), ctrl)
        case "speed":
            harmed = step(PhysicsState(state.qpos, state.qvel.at[2].set(1e9), *_rest(state)[1:]), ctrl)
        case _:
            harmed = step(PhysicsState(state.qpos.at[2, 0].set(1e11), *_rest(state)), ctrl)
    for found in (harmed, step(harmed, ctrl)):
        assert all(np.isnan(x[2]).all() for x in jax.tree.leaves((found.qpos, found.qvel, found.readouts)))
    others = np.array([0, 1, 3, 4])
    assert same_bits(rows(step(harmed, ctrl), others), rows(sound, others))
    assert list(tmp_path.iterdir()) == [], "MuJoCo writes no log into the folder at hand"
    assert capfd.readouterr() == ("", "")


def _rest(state: PhysicsState) -> tuple[Any, ...]:
    return state.qvel, state.readouts, state.hidden, state.task


def test_the_log_is_as_it_was_afterwards():
    before = mujoco.MjLogConfig.get()
    engine = find_engine("mujoco", PLAIN)
    stepper("mujoco", PLAIN)(starts(engine, KEY, 2), controls(PLAIN, KEY, 2))
    after = mujoco.MjLogConfig.get()
    assert (after.logto_console, after.logto_file) == (before.logto_console, before.logto_file) == (True, True)


def test_an_error_of_mujoco_is_a_diverged_row(monkeypatch: pytest.MonkeyPatch):
    """MuJoCo may refuse some simulations of a call with an error: those are NaN, the others go on."""
    engine, step = find_engine("mujoco", PLAIN), stepper("mujoco", PLAIN)
    state, ctrl = starts(engine, KEY, 4, (4.0, 4.0)), controls(PLAIN, KEY, 4)
    sound = step(state, ctrl)
    pool = c._pool(PLAIN, 4)
    whole = pool.batch.step

    def refusing(*args: Any) -> None:
        whole(*args)
        raise c.SimulationError(np.array([1]), "out of memory")

    monkeypatch.setattr(pool.batch, "step", refusing)
    found = step(state, ctrl)
    assert np.isnan(found.qpos[1]).all()
    assert same_bits(rows(found, np.array([0, 2, 3])), rows(sound, np.array([0, 2, 3])))


def test_a_fresh_start_is_all_zeros_and_costs_no_simulation():
    engine = find_engine("mujoco", READING)
    pose, rest = at_rest(READING)
    c._pool.cache_clear()
    state = engine.start(jnp.asarray(pose), jnp.asarray(rest), READING.readouts_at(pose, rest), task=jnp.arange(3))
    assert not np.asarray(state.hidden).any()
    assert c._pool.cache_info().currsize == 0
    assert np.array_equal(state.task, [0, 1, 2])


PROGRAM = """
import hashlib, sys
import jax, numpy as np
from physics.worlds import ant, controls, starts, stepper
from eqcrl.envs.mujoco import find_engine
model = ant("u", readouts=("cvel",))
state, step = starts(find_engine("mujoco", model), jax.random.key(0), 16, (4.0, 4.0)), stepper("mujoco", model)
for ctrl in controls(model, jax.random.key(1), 10, 16):
    state = step(state, ctrl)
print(hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(state))).hexdigest())
"""


def test_two_processes_find_the_same_bits():
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parent.parent))
    run = [sys.executable, "-c", PROGRAM]
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *run] if sys.platform == "linux" else run
    found = {
        subprocess.run(args, env=env, capture_output=True, text=True, check=True).stdout for args in (run, one_core)
    }
    assert len(found) == 1


def test_nobody_reads_the_clock() -> None:
    model = PLAIN.compiled()
    data = mujoco.MjData(model)
    step = int(mujoco.mjtTimer.mjTIMER_STEP)
    mujoco.mj_step(model, data)
    assert (data.timer[step].number, data.timer[step].duration) == (1, 0.0)
    readings = iter(range(10_000))
    mujoco.set_mjcb_time(lambda: float(next(readings)))
    try:
        c.stop_the_clock()
        mujoco.mj_step(model, data)
        assert data.timer[step].duration > 0, "a clock of one's own is kept"
    finally:
        mujoco.set_mjcb_time(None)
        c.stop_the_clock()
    mujoco.mj_resetData(model, data)
    mujoco.mj_step(model, data)
    assert data.timer[step].duration == 0.0

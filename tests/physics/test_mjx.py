"""The JAX engine: bounded contact work, and a small state that is the whole state."""

import re
import subprocess
import sys
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.envs.mujoco import find_engine
from eqcrl.errors import ConfigError
from eqcrl.physics import mjx as x
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from physics.worlds import PENDULUM, ant, at_rest, controls, humanoid, pendulum, rows, same_bits, starts, stepper

KEY = jax.random.key(0)
SMALL = pendulum(readouts=("xpos", "qfrc_actuator", "sensordata"))


@pytest.mark.parametrize("robot", [ant, humanoid])
def test_a_maze_of_any_size_holds_the_same_few_contacts(robot: Any):
    open_floor = x.contact_slots(robot(None))
    slots = {layout: x.contact_slots(robot(layout)) for layout in ("u", "u4", "big", "hardest")}
    assert len(set(slots.values())) == 1, slots
    assert 0 < open_floor <= slots["u"] <= 2 * max(open_floor, 8)
    assert slots["u"] == robot("u").max_contact_points


def test_without_caps_a_maze_holds_all_its_contacts():
    free = Model(ant("u").xml, 5)
    assert x.contact_slots(free) > 10 * x.contact_slots(ant("u"))


@pytest.mark.parametrize("robot", [ant, humanoid])
def test_on_a_cpu_a_step_calls_nothing_that_waits_for_xla_s_threads(robot: Any):
    """Calls of LAPACK do, and two at once stop a machine with two cores for good."""
    engine = find_engine("mjx", robot("u"))
    state = starts(engine, KEY, 4)
    text = jax.jit(jax.vmap(engine.step)).lower(state, jnp.zeros((4, engine.model.compiled().nu))).as_text()
    assert not re.search("lapack|blas", text)


def test_custom_numerics_of_others_do_not_shift_the_caps():
    """MJX looks a numeric up by its index where it means its address: one of several values would make the cap 0."""
    foreign = '<custom><numeric name="init_qpos" data="0 0 0 0 0 0"/></custom><worldbody>'
    model = Model(ant("u").xml.replace("<worldbody>", foreign, 1), 5, (), 8, 4)
    assert "init_qpos" in model.xml
    assert x.contact_slots(model) == 8


def test_the_small_state_is_the_whole_state():
    """A step from a template gives the bits of a step from MJX's own Data of the step before, whatever is in that."""
    model = SMALL
    physics, template = x._on_device(model)
    step = jax.jit(x.mjx.step)
    pose, rest = at_rest(model)
    whole = template.replace(qpos=jnp.asarray(pose), qvel=jnp.asarray(rest))
    for ctrl in controls(model, KEY, 20):
        whole = whole.replace(ctrl=ctrl)
        small = template.replace(
            qpos=whole.qpos, qvel=whole.qvel, qacc_warmstart=whole.qacc_warmstart, act=whole.act, ctrl=ctrl
        )
        whole, small = step(physics, whole), step(physics, small)
        for name in ("qpos", "qvel", "qacc_warmstart", "act", "qfrc_actuator", "sensordata"):
            assert np.array_equal(getattr(whole, name), getattr(small, name)), name
    assert np.abs(whole.qpos - pose).max() > 0.05
    assert np.abs(whole.qacc_warmstart).max() > 0.1


@pytest.mark.thorough
def test_actuators_with_a_state_go_on_where_they_were():
    """A filtered motor: its activation is part of `hidden`, and its law is da/dt = (u - a) / tau."""
    text = PENDULUM.replace(
        '<motor name="motor" joint="elbow" gear="3" ctrlrange="-1 1" ctrllimited="true"/>',
        '<general name="motor" joint="elbow" gear="3" dyntype="filter" dynprm="0.2"/>',
    )
    model = Model(text, 4)
    engine, step = find_engine("mjx", model), stepper("mjx", model)
    pose, rest = at_rest(model)
    state = jax.tree.map(lambda v: v[None], engine.start(jnp.asarray(pose), jnp.asarray(rest), {}))
    assert state.hidden.shape == (1, model.compiled().nv + 1)
    activation = 0.0
    for _ in range(3):
        state = step(state, jnp.array([[0.0, 0.7]]))
        for _ in range(4):
            activation += 0.01 * (0.7 - activation) / 0.2
        assert state.hidden[0, -1] == pytest.approx(activation, rel=1e-5)


@pytest.mark.parametrize("harm", ["control", "position", "huge"])
def test_a_diverged_row_is_nan_and_harms_no_other(harm: str):
    step = stepper("mjx", SMALL)
    state, ctrl = starts(find_engine("mjx", SMALL), KEY, 5), controls(SMALL, KEY, 5)
    sound = step(step(state, ctrl), ctrl)
    match harm:
        case "control":
            harmed = step(state, ctrl.at[2, 0].set(jnp.nan))
        case "position":
            harmed = step(PhysicsState(state.qpos.at[2, 1].set(jnp.nan), *_rest(state)), ctrl)
        case _:
            harmed = step(PhysicsState(state.qpos.at[2, 0].set(1e11), *_rest(state)), ctrl)
    for found in (harmed, step(harmed, ctrl)):
        assert all(np.isnan(leaf[2]).all() for leaf in jax.tree.leaves(found))
    others = np.array([0, 1, 3, 4])
    assert same_bits(rows(step(harmed, ctrl), others), rows(sound, others))


def _rest(state: PhysicsState) -> tuple[Any, ...]:
    return state.qvel, state.readouts, state.hidden, state.task


@pytest.mark.thorough
def test_compiled_ahead_of_time_inside_a_scan_with_a_donated_state():
    engine = find_engine("mjx", SMALL)
    state, ctrl = starts(engine, KEY, 4), controls(SMALL, KEY, 3, 4)

    def roll(state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        return jax.lax.scan(lambda s, a: (jax.vmap(engine.step)(s, a), None), state, ctrl)[0]

    program = jax.jit(roll, donate_argnums=0).lower(state, ctrl).compile(compiler_options=engine.compiler_options())
    first = program(jax.tree.map(jnp.copy, state), ctrl)
    assert same_bits(program(jax.tree.map(jnp.copy, state), ctrl), first)
    for row in ctrl:
        state = stepper("mjx", SMALL)(state, row)
    np.testing.assert_allclose(first.qpos, state.qpos, atol=1e-4)


def test_the_option_of_the_compiler_is_given_only_where_it_exists(monkeypatch: pytest.MonkeyPatch):
    engine = find_engine("mjx", SMALL)
    assert jax.jit(lambda v: v + 1, compiler_options=engine.compiler_options())(1.0) == 2.0
    chains = {"xla_cpu_use_fusion_emitters": False}
    sums = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    for version, expected in (("0.9.1", chains), ("0.10.2", chains | sums), ("0.11.2", {}), ("0.12.0.1", {})):
        monkeypatch.setattr(metadata, "version", lambda name, version=version: version)
        assert engine.compiler_options() == expected
    monkeypatch.setattr(metadata, "version", lambda name: "0.10.2")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert engine.compiler_options() == {}


def test_a_model_that_mjx_cannot_simulate_is_refused_with_the_reason():
    model = Model(PENDULUM.replace("<option", '<option integrator="implicit"'), 4)
    pose, rest = at_rest(model)
    engine = find_engine("mjx", model)
    with pytest.raises(ConfigError, match=r"MJX cannot simulate this model.*(?s:.)*physics = mujoco"):
        engine.step(engine.start(jnp.asarray(pose), jnp.asarray(rest), {}), jnp.zeros(2))


def test_importing_it_says_nothing():
    code = "import eqcrl.physics.mjx"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "warp" not in found.stdout + found.stderr

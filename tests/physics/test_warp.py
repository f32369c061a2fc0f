"""The Warp engine: what it answers without its package, and with it that no contact is lost in silence."""

import importlib.util
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.envs.mujoco import find_engine
from eqcrl.errors import ConfigError
from eqcrl.physics import warp
from eqcrl.physics.mjx import contact_slots
from physics.worlds import WARP, ant, controls, humanoid, pendulum, rows, starts, stepper

KEY = jax.random.key(0)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    whole = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "warp" else whole(name, *more))
    find_engine.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'eqcrl\[warp\]'"):
        find_engine("warp", pendulum())
    find_engine.cache_clear()


def test_the_extra_that_the_message_names_exists():
    assert "warp" in (metadata.metadata("eqcrl").get_all("Provides-Extra") or [])


@pytest.mark.parametrize("model", [ant("hardest", merged=True), humanoid("big", merged=True)], ids=["ant", "humanoid"])
def test_there_are_places_for_more_contacts_than_ever_touch(model: Any):
    """MJX's caps, which hold every robot off the walls, fit in with room to spare; the maze does not matter."""
    contacts, constraint_rows = warp.capacity(model.compiled())
    assert contacts >= 2 * model.max_contact_points
    assert constraint_rows > contacts
    small = ant("u", merged=True) if model.max_contact_points == 8 else humanoid("u", merged=True)
    assert warp.capacity(small.compiled()) == (contacts, constraint_rows)
    assert contact_slots(model) <= contacts


def test_the_engine_is_there_exactly_where_its_package_is():
    find_engine.cache_clear()
    if not WARP:
        with pytest.raises(ConfigError):
            find_engine("warp", pendulum())
        return
    model = pendulum()
    step, engine = stepper("warp", model), find_engine("warp", model)
    state, ctrl = starts(engine, KEY, 4), controls(model, KEY, 4)
    sound, harmed = step(state, ctrl), step(state, ctrl.at[1].set(jnp.nan))
    assert all(np.isnan(leaf[1]).all() for leaf in jax.tree.leaves(harmed))
    others = np.array([0, 2, 3])
    np.testing.assert_allclose(rows(harmed, others).qpos, rows(sound, others).qpos, atol=1e-6)


def test_too_few_places_are_seen(monkeypatch: pytest.MonkeyPatch):
    """Contacts that find no place would let a robot sink into the floor: the row is NaN instead."""
    if not WARP:
        assert warp.CONTACTS_PER_GEOM >= 7
        return
    model = ant(None)
    monkeypatch.setattr(warp, "capacity", lambda compiled: (1, 8))
    engine = find_engine("warp", model)
    warp._prepared.cache_clear()
    warp._stepper.cache_clear()
    state = starts(engine, KEY, 8)
    step = jax.jit(jax.vmap(engine.step))
    for ctrl in controls(model, KEY, 10, 8):
        state = step(state, ctrl)
    assert np.isnan(state.qpos).any()
    warp._prepared.cache_clear()
    warp._stepper.cache_clear()

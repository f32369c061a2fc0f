"""What every plugin of eqcrl should test: the contract of its environment, and the two forms of its energy."""

from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from eqcrl_template.arm import LINKS, Arm, tip_of
from eqcrl_template.energies import SmoothL2

from eqcrl import registry
from eqcrl.envs.check import check_env


@pytest.mark.parametrize("start", ["anywhere", "rest"])
def test_the_environment_keeps_the_contract(start):
    check_env(Arm(start=start)).raise_if_failed()


def test_the_names_lead_to_the_parts():
    # By distribution: another plugin may offer the same names.
    assert registry.load("env", "eqcrl-template/template-arm") is Arm
    assert registry.load("energy", "eqcrl-template/template-smooth-l2") is SmoothL2
    assert metadata.version("eqcrl-template")


def test_the_tip_is_where_trigonometry_says():
    np.testing.assert_allclose(tip_of(jnp.zeros(2)), [LINKS[0] + LINKS[1], 0.0], atol=1e-6)
    np.testing.assert_allclose(tip_of(jnp.array([jnp.pi / 2, -jnp.pi / 2])), [LINKS[1], LINKS[0]], atol=1e-6)
    np.testing.assert_allclose(tip_of(jnp.array([0.0, jnp.pi])), [LINKS[0] - LINKS[1], 0.0], atol=1e-6)


def test_full_action_turns_the_arm_at_its_top_speed():
    env = Arm()
    state, _ = env.reset(jax.random.key(0))
    for _ in range(20):
        state = env.step(state, jnp.array([1.0, -1.0]), jax.random.key(0))
    np.testing.assert_allclose(state.speed, [2.0, -2.0], rtol=1e-3)


@pytest.mark.parametrize("softness", [0.1, 3.0])
def test_the_energy_is_its_formula_row_by_row_and_for_every_pair(softness):
    energy = SmoothL2(softness=softness)
    phi, psi = jax.random.normal(jax.random.key(0), (2, 6, 8))
    square = np.sum((np.asarray(phi, np.float64)[:, None] - np.asarray(psi, np.float64)[None]) ** 2, axis=-1)
    expected = softness - np.sqrt(square + softness**2)
    np.testing.assert_allclose(energy.pairwise(phi, psi), expected, rtol=1e-5)
    np.testing.assert_allclose(energy(phi, psi), np.diagonal(expected), rtol=1e-5)


@pytest.mark.parametrize("distance", [0.0, 1e-6, 1.0, 1e4])
def test_the_gradients_of_the_energy_are_finite_and_at_most_one(distance):
    phi = jax.random.normal(jax.random.key(0), (3, 4))
    # Half a distance along each of four axes: `distance` in all.
    psi = phi + distance / 2
    for gradient in jax.grad(lambda x, y: SmoothL2()(x, y).sum(), argnums=(0, 1))(phi, psi):
        assert np.all(np.isfinite(gradient))
        assert np.all(np.linalg.norm(gradient, axis=-1) <= 1.0 + 1e-3)
    pairs = jax.grad(lambda x, y: SmoothL2().pairwise(x, y).sum(), argnums=(0, 1))(phi, psi)
    assert all(np.all(np.isfinite(g)) for g in pairs)

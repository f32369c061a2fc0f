"""The tanh-Gaussian policy: its log-probability against float64 NumPy, its law, and saturated actions."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from eqcrl.nn.actor import TanhGaussianActor, log_prob_from_noise, sample
from eqcrl.nn.resnet import ResNet
from eqcrl.types import EnvSpec

SPEC = EnvSpec(5, 2, 3)


def small_actor() -> TanhGaussianActor:
    return TanhGaussianActor(ResNet(4, 8), SPEC, key=jax.random.key(0))


def reference_log_prob(noise: np.ndarray, before_tanh: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    """Normal density minus log(1 - tanh^2 u) = -2 log cosh u, in the form that |u| alone decides."""
    size = np.abs(before_tanh)
    log_cosh = size + np.log1p(np.exp(-2 * size)) - np.log(2)
    return (stats.norm.logpdf(noise) - log_std + 2 * log_cosh).sum(-1)


eighths = st.integers(-40, 40).map(lambda n: n / 8)
before_tanhs = st.one_of(eighths, st.integers(-10_000, 10_000).map(float))


@given(
    hnp.arrays(float, (3, 4), elements=eighths),
    hnp.arrays(float, (3, 4), elements=before_tanhs),
    hnp.arrays(float, (3, 4), elements=st.integers(-40, 16).map(lambda n: n / 8)),
)
def test_log_prob_matches_numpy_up_to_ten_thousand(
    noise: np.ndarray, before_tanh: np.ndarray, log_std: np.ndarray
) -> None:
    arrays = [jnp.asarray(a, jnp.float32) for a in (noise, before_tanh, log_std)]
    value, pullback = jax.vjp(log_prob_from_noise, *arrays)
    expected = reference_log_prob(noise, before_tanh, log_std)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=2e-5)
    to_noise, to_before_tanh, to_log_std = pullback(jnp.ones(3))
    np.testing.assert_allclose(to_noise, -noise, rtol=1e-6)
    np.testing.assert_allclose(to_before_tanh, 2 * np.tanh(before_tanh), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(to_log_std, -np.ones((3, 4)))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.5), (1.0, 0.3), (-0.5, 1.0)])
def test_log_prob_is_a_density_over_actions(mean: float, std: float) -> None:
    """Its exponential integrates to 1 over a in (-1, 1)."""
    action = np.tanh(np.linspace(-9, 9, 40_001))
    before_tanh = np.arctanh(action)
    noise = (before_tanh - mean) / std
    log_std = np.full_like(action, np.log(std))
    log_prob = log_prob_from_noise(*(jnp.asarray(a[:, None], jnp.float32) for a in (noise, before_tanh, log_std)))
    assert np.trapezoid(np.exp(np.asarray(log_prob, float)), action) == pytest.approx(1.0, abs=1e-3)


def test_sample_draws_from_the_law_and_says_its_log_probability() -> None:
    mean, log_std = jnp.array([0.3, -1.0]), jnp.array([-1.0, 0.0])
    rows = (20_000, 2)
    action, log_prob = sample(jnp.broadcast_to(mean, rows), jnp.broadcast_to(log_std, rows), key=jax.random.key(0))
    assert action.shape == rows
    assert log_prob.shape == rows[:1]
    before_tanh = np.arctanh(np.asarray(action, float))
    noise = (before_tanh - np.asarray(mean)) / np.exp(np.asarray(log_std))
    for component in range(2):
        assert stats.kstest(noise[:, component], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.03
    near = np.all(np.abs(action) < 0.99, axis=1)  # arctanh of fp32 has lost its digits beyond
    expected = reference_log_prob(noise, before_tanh, np.asarray(log_std, float))
    np.testing.assert_allclose(np.asarray(log_prob)[near], expected[near], atol=1e-3)


def test_sample_is_reparameterized() -> None:
    """d action / d mean = 1 - a^2, and d action / d log_std = (1 - a^2) std eps, for the noise that was drawn."""
    mean, log_std = jnp.array([[0.2, -0.4]]), jnp.array([[-0.5, 0.3]])
    key = jax.random.key(1)
    action = np.asarray(sample(mean, log_std, key=key)[0], float)
    to_mean, to_log_std = jax.grad(lambda m, s: jnp.sum(sample(m, s, key=key)[0]), argnums=(0, 1))(mean, log_std)
    np.testing.assert_allclose(to_mean, 1 - action**2, rtol=1e-4)
    np.testing.assert_allclose(to_log_std, (1 - action**2) * (np.arctanh(action) - np.asarray(mean)), rtol=1e-3)


@pytest.mark.parametrize("mean", [1e4, -1e4, 50.0, 0.0])
def test_saturated_actions_have_finite_log_probability_and_gradient(mean: float) -> None:
    means, log_stds = jnp.full((1, 3), mean), jnp.array([[-5.0, 0.0, 2.0]])

    def total(m: jax.Array, s: jax.Array) -> jax.Array:
        action, log_prob = sample(m, s, key=jax.random.key(0))
        return jnp.sum(action) + jnp.sum(log_prob)

    value, gradients = jax.value_and_grad(total, argnums=(0, 1))(means, log_stds)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in gradients)


@given(st.floats(-1e4, 1e4))
def test_log_std_lies_between_its_bounds_by_the_tanh(x: float) -> None:
    """With zero weights in its head, the bias is the x of log_std = -5 + 3.5 (tanh(x) + 1)."""
    actor = eqx.tree_at(
        lambda a: (a.log_std_head.weight, a.log_std_head.bias), ACTOR, (jnp.zeros((8, 2)), jnp.full(2, x))
    )
    _, log_std = MEAN_AND_LOG_STD(actor, jnp.ones((1, 5)), jnp.ones((1, 3)))
    np.testing.assert_allclose(log_std, np.full((1, 2), -5 + 3.5 * (np.tanh(x) + 1)), atol=2e-6)
    assert np.all(log_std >= -5)
    assert np.all(log_std <= 2)


ACTOR = small_actor()
MEAN_AND_LOG_STD = jax.jit(lambda actor, observation, goal: actor(observation, goal))


def test_mean_and_log_std_match_numpy(
    float64: Callable[[Any], Any], numpy_resnet: Callable[[Any, np.ndarray], np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    observation, goal = (rng.normal(size=(4, n)).astype(np.float32) for n in (5, 3))
    net = float64(ACTOR)
    features = numpy_resnet(net.trunk, np.concatenate([observation, goal], axis=1).astype(float))
    mean, log_std = MEAN_AND_LOG_STD(ACTOR, jnp.asarray(observation), jnp.asarray(goal))
    np.testing.assert_allclose(mean, features @ net.mean_head.weight + net.mean_head.bias, rtol=1e-5, atol=1e-5)
    x = features @ net.log_std_head.weight + net.log_std_head.bias
    np.testing.assert_allclose(log_std, -5 + 3.5 * (np.tanh(x) + 1), rtol=1e-5, atol=1e-5)

"""Dense and LayerNorm: initial law, values and gradients against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eqcrl.nn.layers import Dense, LayerNorm, init_weight, layer_norm


@pytest.mark.parametrize(("fan_in", "fan_out"), [(1, 4096), (3, 2048), (285, 64), (256, 256)])
def test_weights_are_uniform_within_one_over_the_root_of_fan_in(fan_in: int, fan_out: int) -> None:
    weight = np.asarray(Dense(fan_in, fan_out, key=jax.random.key(0)).weight)
    bound = fan_in**-0.5
    assert weight.shape == (fan_in, fan_out)
    assert np.abs(weight).max() <= bound
    assert np.abs(weight).max() > 0.99 * bound
    assert stats.kstest(weight.ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    # Variance scaling 1/3 over fan-in, said the other way.
    assert weight.var() == pytest.approx(1 / 3 / fan_in, rel=0.1)


def test_biases_start_at_zero_and_keys_decide_the_weights() -> None:
    one, again, other = (Dense(5, 7, key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.bias, np.zeros(7))
    np.testing.assert_array_equal(one.weight, again.weight)
    assert not np.any(one.weight == other.weight)
    np.testing.assert_array_equal(one.weight, init_weight(jax.random.key(0), 5, 7))


def test_dense_is_affine_over_the_last_axis() -> None:
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(size=(5, 7)), rng.normal(size=7), rng.normal(size=(2, 3, 5))
    dense = jax.tree.unflatten(
        jax.tree.structure(Dense(5, 7, key=jax.random.key(0))), [jnp.asarray(weight), jnp.asarray(bias)]
    )
    expected = np.einsum("abi,io->abo", x, weight) + bias
    np.testing.assert_allclose(dense(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dense(jnp.asarray(x[0, 0])), expected[0, 0], rtol=1e-5, atol=1e-5)


def reference_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + shift


def reference_norm_gradients(x: np.ndarray, scale: np.ndarray, grad: np.ndarray) -> tuple[np.ndarray, ...]:
    """To x, scale and shift. With y the normalized x and h = scale * grad: (h - mean h - y mean(h y)) / std."""
    spread = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    y = (x - x.mean(-1, keepdims=True)) / spread
    h = scale * grad
    to_x = (h - h.mean(-1, keepdims=True) - y * (h * y).mean(-1, keepdims=True)) / spread
    return to_x, (grad * y).sum(0), grad.sum(0)


@given(st.sampled_from([(1, 4), (3, 64)]), st.integers(0, 10**6), st.floats(-2.0, 3.0), st.floats(-10.0, 10.0))
def test_layer_norm_matches_numpy(shape: tuple[int, int], seed: int, log_spread: float, center: float) -> None:
    rng = np.random.default_rng(seed)
    x = (center + 10**log_spread * rng.normal(size=shape)).astype(np.float32).astype(float)
    scale, shift = rng.normal(size=(2, shape[1]))
    grad = rng.normal(size=shape)
    arrays = [jnp.asarray(a, jnp.float32) for a in (x, scale, shift)]
    value, pullback = jax.vjp(layer_norm, *arrays)
    # The mean of numbers near `center` is known to a rounding of it, which the division by their spread enlarges.
    error = 3e-6 * (1 + abs(center) / x.std(-1).min())
    np.testing.assert_allclose(value, reference_norm(x, scale, shift), atol=10 * error, rtol=0)
    to_x, to_scale, to_shift = reference_norm_gradients(x, scale, grad)
    actual = pullback(jnp.asarray(grad, jnp.float32))
    np.testing.assert_allclose(actual[0], to_x, atol=30 * error / x.std(-1).min(), rtol=0)
    np.testing.assert_allclose(actual[1], to_scale, atol=30 * error, rtol=0)
    np.testing.assert_allclose(actual[2], to_shift, atol=1e-5, rtol=0)


def test_layer_norm_adds_one_millionth_to_the_variance() -> None:
    """Visible where the variance is of that size: x = +-1e-3 has 1e-6, so the result is 1/sqrt(2), not 1."""
    x = jnp.array([[1e-3, -1e-3]])
    np.testing.assert_allclose(LayerNorm(2)(x), [[0.5**0.5, -(0.5**0.5)]], rtol=1e-5)


def test_layer_norm_starts_as_the_plain_normalization() -> None:
    norm = LayerNorm(3)
    np.testing.assert_array_equal(norm.scale, np.ones(3))
    np.testing.assert_array_equal(norm.shift, np.zeros(3))
    out = norm(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(out, [-(1.5**0.5), 0.0, 1.5**0.5], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("row", [0.0, 5.0, 1e6])
def test_layer_norm_of_a_constant_row_is_its_shift_with_finite_gradient(row: float) -> None:
    x = jnp.full((2, 8), row)
    scale, shift = jnp.full(8, 2.0), jnp.arange(8.0)
    value, pullback = jax.vjp(layer_norm, x, scale, shift)
    np.testing.assert_allclose(value, np.broadcast_to(np.arange(8.0), (2, 8)), atol=1e-5)
    assert all(np.all(np.isfinite(part)) for part in pullback(jnp.ones((2, 8))))

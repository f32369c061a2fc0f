"""Activations by name: values against SciPy and NumPy in float64, slopes against autodiff."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eqcrl.nn.activations import ACTIVATIONS, ActivationName

X = np.concatenate([np.linspace(-60.0, 60.0, 241), np.linspace(-1e-3, 1e-3, 11)])
VALUES = {
    "swish": X / (1.0 + np.exp(-X)),
    "relu": np.maximum(X, 0.0),
    "gelu": X * stats.norm.cdf(X),
}


@pytest.mark.parametrize("name", get_args(ActivationName))
def test_values_and_slopes(name: ActivationName) -> None:
    with jax.enable_x64(True):
        activation, x = ACTIVATIONS[name], jnp.asarray(X)
        np.testing.assert_allclose(activation.value(x), VALUES[name], rtol=1e-12, atol=1e-15)
        value, known = activation.again(x)
        np.testing.assert_allclose(value, VALUES[name], rtol=1e-12, atol=1e-15)
        autodiff = jax.vmap(jax.grad(activation.value))(x)
        np.testing.assert_allclose(activation.slope(value, known), autodiff, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", get_args(ActivationName))
def test_large_numbers_are_finite_in_float32(name: ActivationName) -> None:
    activation, x = ACTIVATIONS[name], jnp.array([-1e30, -1e4, 0.0, 1e4, 1e30], jnp.float32)
    value, known = activation.again(x)
    slope = activation.slope(value, known)
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope[-2:], [1.0, 1.0])
    np.testing.assert_allclose(slope[:2], [0.0, 0.0], atol=1e-30)

"""Norms by name against float64 NumPy, as a table and as layers."""

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.nn.layers import LayerNorm, RMSNorm
from eqcrl.nn.norms import NORMS, NormName, make_norm

Z = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32) + 1.5


def reference(name: NormName, z: np.ndarray) -> np.ndarray:
    if name == "layer":
        return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6)
    return z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-6) if name == "rms" else z


@pytest.mark.parametrize("name", get_args(NormName))
def test_normals_and_their_gradient_match_numpy(name: NormName, slope: Callable[..., float]) -> None:
    norm, z = NORMS[name], jnp.asarray(Z)
    known = norm.statistics(z)
    normal = norm.normal(z, known)
    np.testing.assert_allclose(normal, reference(name, Z.astype(float)), rtol=1e-5, atol=1e-6)
    assert all(value.shape == (5, 1) for value in known)
    rng = np.random.default_rng(1)
    weight, direction = rng.normal(size=(2, 5, 7))
    expected = slope(lambda z: float((weight * reference(name, z)).sum()), Z.astype(float), direction)
    actual = float(np.sum(np.asarray(norm.back(jnp.asarray(weight, jnp.float32), normal, known)) * direction))
    assert actual == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", get_args(NormName))
def test_a_norm_as_a_layer_has_the_gain_and_the_shift_of_the_table(name: NormName) -> None:
    layer = make_norm(name, 7)
    assert len(jax.tree.leaves(layer)) == NORMS[name].gain + NORMS[name].shift
    if layer is not None:
        moved = jax.tree.map(lambda leaf: leaf + 0.5, layer)
        shift = 0.5 if NORMS[name].shift else 0.0
        np.testing.assert_allclose(layer(jnp.asarray(Z)), reference(name, Z), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(moved(jnp.asarray(Z)), 1.5 * reference(name, Z) + shift, rtol=1e-5, atol=1e-6)


def test_rms_does_not_see_the_scale_and_sees_the_mean() -> None:
    rms: Any = RMSNorm(7)
    layer: Any = LayerNorm(7)
    np.testing.assert_allclose(rms(jnp.asarray(100.0 * Z)), rms(jnp.asarray(Z)), rtol=1e-5)
    np.testing.assert_allclose(layer(jnp.asarray(Z + 10.0)), layer(jnp.asarray(Z)), rtol=1e-3, atol=1e-4)
    assert float(jnp.abs(rms(jnp.asarray(Z + 10.0)) - rms(jnp.asarray(Z))).max()) > 0.5

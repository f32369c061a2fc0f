"""The plain perceptron against float64 NumPy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.nn.mlp import MLP


def reference(trunk: Any, x: np.ndarray) -> np.ndarray:
    x = x @ trunk.stem.weight + trunk.stem.bias
    x = x / (1 + np.exp(-x))
    for weight, bias in zip(trunk.layers.blocks.dense.weight, trunk.layers.blocks.dense.bias, strict=True):
        z = x @ weight + bias
        x = z / (1 + np.exp(-z))
    return x


@pytest.mark.parametrize("depth", [1, 4])
def test_matches_numpy(depth: int, float64: Callable[[Any], Any], slope: Callable[..., float]) -> None:
    rng = np.random.default_rng(0)
    trunk = MLP(depth, 8).build(5, key=jax.random.key(0))
    trunk = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), trunk)
    x, weight = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(3, 8)).astype(np.float32)
    point = float64(trunk)
    np.testing.assert_allclose(trunk(jnp.asarray(x)), reference(point, x.astype(float)), rtol=1e-5, atol=1e-5)
    gradient = jax.grad(lambda t: jnp.sum(jnp.asarray(weight) * t(jnp.asarray(x))))(trunk)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), point)
    expected = slope(lambda t: float((weight * reference(t, x.astype(float))).sum()), point, direction)
    actual = sum(
        float(np.sum(g * d)) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    assert actual == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 64])
def test_depth_counts_every_dense_layer_before_the_head(depth: int) -> None:
    trunk = jax.eval_shape(lambda: MLP(depth, 16).build(5, key=jax.random.key(0)))
    size = sum(leaf.size for leaf in jax.tree.leaves(trunk))
    assert size == (5 + 1) * 16 + (depth - 1) * (16 + 1) * 16

"""Blocks against float64 NumPy, values and slopes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.nn.blocks import DenseNormSwish, DenseSwish, Residual


def swish(z: np.ndarray) -> np.ndarray:
    return z / (1 + np.exp(-z))


def reference(block: Any, x: np.ndarray) -> np.ndarray:
    """Any of the three blocks, from its float64 leaves."""
    if isinstance(block, Residual):
        return x + reference(block.branch, x)
    if isinstance(block, DenseSwish):
        return swish(x @ block.dense.weight + block.dense.bias)
    for k in range(4):
        z = x @ block.weight[k] + block.bias[k]
        z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6)
        x = swish(z * block.scale[k] + block.shift[k])
    return x


def perturbed(tree: Any, seed: int) -> Any:
    """Every leaf moved, so that zero biases and unit scales are tested too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), tree)


BLOCKS: dict[str, Callable[[jax.Array], Any]] = {
    "dense-norm-swish": lambda key: DenseNormSwish(6, key=key),
    "dense-swish": lambda key: DenseSwish(6, key=key),
    "residual": lambda key: Residual(DenseNormSwish(6, key=key)),
}
each_block = pytest.mark.parametrize("name", sorted(BLOCKS))


@each_block
def test_matches_numpy(name: str, float64: Callable[[Any], Any]) -> None:
    block = perturbed(BLOCKS[name](jax.random.key(0)), 0)
    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(block(jnp.asarray(x)), reference(float64(block), x.astype(float)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(block(jnp.asarray(x[0, 0])), reference(float64(block), x[0, 0]), rtol=1e-5, atol=1e-5)


@each_block
def test_gradient_matches_numpy(name: str, float64: Callable[[Any], Any], slope: Callable[..., float]) -> None:
    block = perturbed(BLOCKS[name](jax.random.key(0)), 0)
    rng = np.random.default_rng(2)
    x, weight = rng.normal(size=(2, 5, 6)).astype(np.float32)
    gradients = jax.grad(lambda b, y: jnp.sum(jnp.asarray(weight) * b(y)), argnums=(0, 1))(block, jnp.asarray(x))
    point = (float64(block), x.astype(float))
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), point)
        expected = slope(lambda p: float((weight * reference(*p)).sum()), point, direction)
        actual = sum(
            float(np.sum(g * d)) for g, d in zip(jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True)
        )
        assert actual == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_branch_starts_as_the_paper_says() -> None:
    block = DenseNormSwish(64, key=jax.random.key(3))
    assert block.dense_layers() == 4
    assert {k: getattr(block, k).shape for k in ("weight", "bias", "scale", "shift")} == {
        "weight": (4, 64, 64),
        "bias": (4, 64),
        "scale": (4, 64),
        "shift": (4, 64),
    }
    assert np.abs(block.weight).max() <= 1 / 8
    assert not np.any(block.bias)
    assert not np.any(block.shift)
    assert np.all(block.scale == 1.0)
    # Four layers of their own, not one repeated.
    assert all(not np.any(block.weight[i] == block.weight[j]) for i in range(4) for j in range(i))


def test_residual_of_a_silent_branch_is_the_identity() -> None:
    block = Residual(DenseSwish(4, key=jax.random.key(0)))
    silent = jax.tree.map(jnp.zeros_like, block)
    x = jnp.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(silent(x), x)
